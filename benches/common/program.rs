//! The real program, live, in a process of its own, with a log that is read.
//!
//! It ends when this is dropped.

use anyhow::{Context, Result, ensure};
use runhound::signature::Secret;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_runhound");
const SECRET: &str = "the benchmark's own secret";

/// How long a start may take, and an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) started_in: Duration,
    pub(crate) log: mpsc::Receiver<String>,
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Program {
    /// Starts it on these files, or on a database.
    pub(crate) fn start(dir: &Path, ledger: Option<&str>, intake: SocketAddr) -> Result<Self> {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--cache-dir"]).arg(dir);
        command.args(ledger.map(|ledger| format!("--ledger={ledger}")));
        command.env_clear().env("GITHUB_WEBHOOK_SECRET", SECRET);
        command.env("DD_API_KEY", "none").env("DD_URL", format!("http://{intake}"));
        let begun = Instant::now();
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let (lines, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().context("no log")?);
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut program = Self { child, address, started_in: Duration::ZERO, log };
        loop {
            let line = program.log.recv_timeout(PATIENCE).context("the program does not start")?;
            let rest = line.split_once("listening on http://").map(|(_, rest)| rest);
            if let Some((address, _)) = rest.and_then(|rest| rest.split_once("/webhook")) {
                program.started_in = begun.elapsed();
                program.address = address.parse()?;
                return Ok(program);
            }
        }
    }

    pub(crate) fn proc(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?)
    }

    /// A line of its status, in bytes.
    pub(crate) fn status(&self, name: &str) -> Result<u64> {
        Ok(number(&self.proc("status")?, name)? * 1024)
    }
}

/// The number that follows `name` at the start of a line.
pub(crate) fn number(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

/// Delivers a payload, and returns once it is accepted.
pub(crate) fn deliver(address: SocketAddr, payload: &Value, patience: Duration) -> Result<()> {
    let body = payload.to_string();
    let signature = Secret::new(SECRET.as_bytes()).context("a secret")?.sign(body.as_bytes());
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: localhost\r\nX-GitHub-Event: workflow_run\r\n\
         X-Hub-Signature-256: {signature}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    ensure!(answer.ends_with(b"202"), "not accepted: {}", String::from_utf8_lossy(&answer));
    Ok(())
}
