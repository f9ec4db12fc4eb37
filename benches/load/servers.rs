//! A contender that runs: a process of its own, and what is read of it.
//!
//! Whatever happens, its process ends with it.

use crate::{
    FIRST_ID, PATIENCE,
    client::{Done, Pace, load},
    contenders::Contender,
    intake::Intake,
    orders::Orders,
};
use actix_web::rt;
use anyhow::{Context, Result, ensure};
use std::{
    cell::Cell,
    collections::HashSet,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Stdio},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A server is at rest when it uses no more than a tick of processor time in so long.
const REST: Duration = Duration::from_millis(1_200);

/// The unit of times in `/proc/PID/stat`: Linux shows 100 ticks a second to programs, whatever its own are.
const TICKS_PER_SECOND: f64 = 100.0;

/// How many times as many deliveries are signed ahead as the fastest round so far would take.
const MARGIN: f64 = 1.5;

pub(crate) struct Server {
    pub(crate) contender: Contender,
    pub(crate) rounds: Vec<Round>,
    pub(crate) paced: Vec<Round>,
    child: Child,
    address: SocketAddr,
    dir: TempDir,
    intake: Intake,
    ids: Rc<Cell<u64>>,
    accepted: usize,
    fastest: f64,
}

pub(crate) struct Round {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_ms: f64,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts it on a folder of its own in `parent`.
    pub(crate) fn start(contender: &Contender, parent: &str) -> Result<Self> {
        let dir = tempfile::tempdir_in(parent)?;
        let intake = Intake::start()?;
        let (mut command, told) = contender.command(&dir.path().join("cache"), intake.address)?;
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut server = Self {
            contender: contender.clone(),
            rounds: Vec::new(),
            paced: Vec::new(),
            child: command.spawn()?,
            address: told.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            dir,
            intake,
            ids: Rc::new(Cell::new(FIRST_ID)),
            accepted: 0,
            fastest: 0.0,
        };
        server.await_start(told)?;
        Ok(server)
    }

    /// Waits until it takes connections, at the address that it was given or tells in its log.
    fn await_start(&mut self, told: Option<SocketAddr>) -> Result<()> {
        let since = Instant::now();
        loop {
            let log = fs::read_to_string(self.dir.path().join("log"))?;
            let in_log = || {
                let (_, rest) = log.split_once("listening on http://")?;
                rest.split_once("/webhook")?.0.parse().ok()
            };
            if let Some(address) = told.or_else(in_log).filter(|address| TcpStream::connect(address).is_ok()) {
                self.address = address;
                return Ok(());
            }
            let is_gone = self.child.try_wait()?.is_some();
            ensure!(!is_gone && since.elapsed() < PATIENCE, "it does not start: {log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Of its own, and of what it has started and waited for.
    fn cpu_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // What follows the name in parentheses begins with field 3; utime, stime, cutime and cstime are 14 to 17.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(4);
        Ok(fields.map(str::parse::<f64>).sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
    }

    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Waits until it is at rest, and tells its processor time.
    fn rest(&self) -> Result<f64> {
        let since = Instant::now();
        let mut before = self.cpu_s()?;
        loop {
            thread::sleep(REST);
            let now = self.cpu_s()?;
            if now - before < 1.5 / TICKS_PER_SECOND || since.elapsed() > PATIENCE {
                return Ok(now);
            }
            before = now;
        }
    }

    /// Loads it once, and waits until it is at rest again.
    pub(crate) fn round(&mut self, connections: usize, pace: Pace, length: Duration) -> Result<Round> {
        let rate = match pace {
            Pace::Closed => self.fastest * MARGIN,
            Pace::PerSecond(rate) => rate,
        };
        let orders = Orders::of_workflows(connections, &self.ids, ahead(rate, length))?;
        let cpu_before = self.cpu_s()?;
        let load = load(self.address, connections, pace, length, &orders);
        let Done { latencies_us, elapsed } =
            rt::Runtime::new()?.block_on(load).with_context(|| self.contender.to_string())?;
        let cpu_s = self.rest()? - cpu_before;
        let accepted = latencies_us.len();
        ensure!(accepted > 0, "{}: nothing was accepted", self.contender);
        self.accepted += accepted;
        let permille = |permille: usize| f64::from(latencies_us[(accepted - 1) * permille / 1000]) / 1000.0;
        let rate = accepted as f64 / elapsed.as_secs_f64();
        self.fastest = self.fastest.max(rate);
        Ok(Round { rate, p50_ms: permille(500), p99_ms: permille(990), cpu_ms: cpu_s * 1000.0 / accepted as f64 })
    }

    /// Kills it, and compares what is on disk with what was answered.
    pub(crate) fn check(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let mut recorded = HashSet::new();
        for entry in fs::read_dir(self.dir.path().join("cache"))? {
            let path = entry?.path();
            if is_record(&path) {
                recorded.extend(fs::read_to_string(&path)?.lines().filter_map(recorded_id));
            }
        }
        let (name, accepted, recorded) = (&self.contender, self.accepted, recorded.len());
        ensure!(recorded == accepted, "{name}: {accepted} answers 202, but {recorded} runs on disk");
        let pushes = self.intake.pushes();
        ensure!(pushes > 0 || !name.pushes(), "{name}: nothing was pushed");
        println!("{name:<20} {accepted:>7} answers 202, and just as many runs on disk after kill -9; {pushes} pushes");
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number, far below 2^32")]
fn ahead(rate: f64, length: Duration) -> usize {
    (rate * length.as_secs_f64()).ceil() as usize
}

fn is_record(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ["journal", "sent-workflows", "ids"].iter().any(|prefix| name.starts_with(prefix))
}

/// The run that a line of a journal accepts, or a line of a cache or of webhook's command names.
fn recorded_id(line: &str) -> Option<u64> {
    let key = match line.strip_prefix("{\"accept\":{\"key\":\"") {
        Some(rest) => rest.split('"').next()?,
        None => line.trim().trim_end_matches(',').trim_matches('"'),
    };
    key.parse().ok().filter(|id| *id >= FIRST_ID)
}
