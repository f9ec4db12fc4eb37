//! The real program as a child process, and a client that sends to it byte by byte.

mod client;

use crate::{
    github::Event,
    intake::{Intake, TEST_KEY},
};
use serde_json::Value;
use std::{
    io::{self, BufRead, BufReader, Lines},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

pub(crate) use client::{Answer, Client};
use client::{answered, exchange};

pub(crate) const SECRET: &str = "It's a Secret to Everybody";

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What `sh` does before it becomes the program in its arguments: hands its standard input over as systemd does, as the
/// third file, with the process that it is for.
pub(crate) const HAND_OVER: &str = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#;

/// The program with an environment of our own and nothing else.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runhound"));
    command.args(arguments).env_clear().current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// A running `runhound serve`.
#[derive(Debug)]
pub(crate) struct Service {
    child: Process,
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
    /// The line it started with.
    pub(crate) start_line: String,
    log: Mutex<Log>,
}

/// The log of a service: the lines that were waited for, and those that are still to be read.
#[derive(Debug)]
struct Log {
    read: Vec<String>,
    lines: mpsc::Receiver<String>,
}

/// How to start a service.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) cache_dir: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    socket: Option<Arc<TcpListener>>,
}

impl Start {
    /// A live service that pushes to `intake`.
    pub(crate) fn live(cache_dir: &Path, intake: &Intake) -> Self {
        Self::dry_run(cache_dir).without("--dry-run").variable("DD_API_KEY", TEST_KEY).variable("DD_URL", &intake.url())
    }

    /// A dry run.
    pub(crate) fn dry_run(cache_dir: &Path) -> Self {
        let dir = cache_dir.to_str().unwrap();
        Self::command_line(cache_dir, &["serve"])
            .argument("--dry-run")
            .argument("--listen=127.0.0.1:0")
            .argument("--admin-listen=off")
            .argument(&format!("--cache-dir={dir}"))
            .variable("GITHUB_WEBHOOK_SECRET", SECRET)
    }

    /// Just this command line, which keeps its files in `cache_dir` by what else it is given.
    pub(crate) fn command_line(cache_dir: &Path, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { cache_dir: cache_dir.to_owned(), arguments, variables: Vec::new(), socket: None }
    }

    /// With a socket that is handed over, as systemd does.
    pub(crate) fn on_socket(mut self, socket: &Arc<TcpListener>) -> Self {
        self.socket = Some(Arc::clone(socket));
        self
    }

    /// With an admin listener on a free port.
    pub(crate) fn with_admin(self) -> Self {
        self.with_admin_at("127.0.0.1:0")
    }

    /// With an admin listener.
    pub(crate) fn with_admin_at(self, address: &str) -> Self {
        self.without("--admin-listen=off").argument(&format!("--admin-listen={address}"))
    }

    fn without(mut self, argument: &str) -> Self {
        self.arguments.retain(|known| known != argument);
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn command(&self) -> Command {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut command = program(&arguments);
        if let Some(socket) = &self.socket {
            let service = command;
            command = Command::new("sh");
            command.args(["-c", HAND_OVER, "sh"]).arg(service.get_program()).args(service.get_args()).env_clear();
            command.current_dir(env!("CARGO_MANIFEST_DIR"));
            command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the service, and waits until it listens.
    pub(crate) fn start(&self) -> Service {
        self.spawn().ready()
    }

    /// Starts the service, and waits for nothing.
    pub(crate) fn spawn(&self) -> Starting {
        Starting::of(&mut self.command())
    }
}

/// A `runhound serve` that may not listen yet.
#[derive(Debug)]
pub(crate) struct Starting {
    child: Process,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Starting {
    /// What this command starts.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = Process(command.stderr(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Waits until it listens.
    pub(crate) fn ready(mut self) -> Service {
        let mut seen = Vec::new();
        let start_line = loop {
            match self.lines.next() {
                Some(line) => seen.push(line.unwrap()),
                None => panic!("runhound did not start: {seen:#?}"),
            }
            if let Some(line) = seen.last().filter(|line| line.contains("listening on")) {
                break line.clone();
            }
        };
        let (_, rest) = start_line.split_once("listening on ").and_then(|(_, url)| url.split_once("://")).unwrap();
        let address = rest.split('/').next().unwrap().parse().unwrap();
        let admin = seen.iter().find_map(|line| line.split_once("status page on http://"));
        let admin = admin.map(|(_, rest)| rest.trim_end_matches('/').parse().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in seen.into_iter().chain(self.lines.map_while(Result::ok)) {
                drop(sender.send(line));
            }
        });
        Service { child: self.child, address, admin, start_line, log: Mutex::new(Log { read: Vec::new(), lines }) }
    }

    /// Ends it as a power cut would, wherever it is; its log.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
        self.lines.map_while(Result::ok).collect()
    }
}

impl Service {
    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// What it says it found at its start: IDs known, and runs pending.
    pub(crate) fn standing(&self) -> (usize, usize) {
        let (_, standing) = self.start_line.rsplit_once(": ").unwrap();
        let mut numbers = standing.split(' ').filter_map(|word| word.parse().ok());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// Where the admin listener is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.expect("a service with an admin listener")
    }

    /// Asks the admin listener: the answer, and its body as it stands.
    pub(crate) fn ask(&self, path: &str) -> (Answer, String) {
        let text = self.ask_by("GET", path);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (Answer::read(&text).unwrap(), body)
    }

    /// Asks the admin listener by any method: the answer with head and body, as it stands.
    pub(crate) fn ask_by(&self, method: &str, path: &str) -> String {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin());
        exchange(self.admin(), request.as_bytes()).unwrap()
    }

    /// `/status.json`.
    pub(crate) fn status(&self) -> Value {
        self.ask("/status.json").0.body
    }

    /// Waits until `/status.json` is as it should be, and gives it.
    #[track_caller]
    pub(crate) fn wait_for_status(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{status:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for the end of the process: its status and its whole log.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.0.wait().unwrap();
        let Log { mut read, lines } = self.log.into_inner().unwrap();
        read.extend(lines);
        (status, read)
    }

    /// Stops it as an orchestrator would; its log.
    pub(crate) fn stop(self) -> Vec<String> {
        self.signal("TERM");
        let (status, log) = self.wait();
        assert!(status.success(), "{status}: {log:#?}");
        log
    }

    /// Ends it as a power cut would, short of the disk.
    pub(crate) fn kill(mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Waits for a line in the log that contains `text`, after the one that was last waited for.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let mut log = self.log.lock().unwrap();
        let begun = Instant::now();
        loop {
            let line = log.lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed()));
            let line = line.unwrap_or_else(|error| panic!("no {text:?} in the log: {error}: {:#?}", log.read));
            log.read.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until so many runs have been pushed, by the log.
    #[track_caller]
    pub(crate) fn wait_for_pushes(&self, mut runs: usize) {
        while runs > 0 {
            let line = self.wait_for_log("pushed ");
            runs = runs.saturating_sub(pushed(&line).unwrap_or(0));
        }
    }

    /// Who delivers to it.
    pub(crate) fn client(&self) -> Client {
        Client(self.address)
    }

    /// Delivers a run or a job as GitHub does.
    pub(crate) fn deliver(&self, event: &impl Event) -> Answer {
        self.client().deliver(event)
    }

    /// Delivers a run or a job to a service that may have ended.
    pub(crate) fn try_deliver(&self, event: &impl Event) -> io::Result<Answer> {
        self.client().try_deliver(event)
    }

    /// Posts a signed JSON body, with more headers.
    pub(crate) fn post(&self, body: &str, headers: &[(&str, &str)]) -> Answer {
        answered(self.client().try_post(body, headers))
    }

    /// Asks for something on its admin listener.
    pub(crate) fn request_page(&self, method: &str, path: &str) -> Answer {
        answered(Answer::read(&self.ask_by(method, path)))
    }

    /// The address of its status page.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/", self.admin())
    }

    /// Sends any request, whole.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        answered(self.client().try_request(method, path, headers, body))
    }

    /// Sends bytes and reads the answer.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        answered(exchange(self.address, bytes).and_then(|text| Answer::read(&text)))
    }
}

/// A child process that does not outlive its test.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// How many runs a line of the log says were pushed.
pub(crate) fn pushed(line: &str) -> Option<usize> {
    line.split_once("] pushed ")?.1.split(' ').next()?.parse().ok()
}

pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap();
    assert!(status.success());
}

/// The IDs in a cache file, in order.
pub(crate) fn sent(path: &Path) -> Vec<String> {
    let cache: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    cache["sent"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
