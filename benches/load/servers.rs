//! A contender that runs: processes of its own, and what is read of them.
//!
//! Whatever happens, they end with it.

use crate::{
    FIRST_ID, PATIENCE,
    client::{Done, Pace, load},
    cluster::Cluster,
    contenders::Contender,
    intake::Intake,
    orders::Orders,
    process::{Process, TICKS_PER_SECOND},
};
use actix_web::rt;
use anyhow::{Context, Result, ensure};
use std::{
    cell::Cell,
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A server is at rest when it uses no more than a tick of processor time in so long; with a database, six.
const REST: Duration = Duration::from_millis(1_200);

/// How many times as many deliveries are signed ahead as the fastest round so far would take.
const MARGIN: f64 = 1.5;

/// The folder of its files, and the database that takes their place.
const CACHE: &str = "cache";
const LEDGER: &str = "runhound";

/// A key that was sent and stands as pending too would not be one run.
const RECORDED: &str =
    "select count(*) from (select key from runhound.sent union all select key from runhound.pending) t";

pub(crate) struct Server {
    pub(crate) contender: Contender,
    pub(crate) rounds: Vec<Round>,
    pub(crate) paced: Vec<Round>,
    processes: Vec<Process>,
    cluster: Option<Cluster>,
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

impl Server {
    /// Starts it on a folder of its own in `parent`.
    pub(crate) fn start(contender: &Contender, parent: &str) -> Result<Self> {
        let dir = tempfile::tempdir_in(parent)?;
        let intake = Intake::start()?;
        let cluster = contender.cluster(Path::new(parent))?;
        let ledger = cluster.as_ref().map(|cluster| cluster.url(LEDGER));
        let mut processes = Vec::new();
        for number in 0..contender.replicas() {
            let folder = dir.path().join(number.to_string());
            fs::create_dir(&folder)?;
            let (command, told) = contender.command(&folder.join(CACHE), ledger.as_deref(), intake.address)?;
            processes.push(Process::start(command, told, &folder.join("log"))?);
        }
        Ok(Self {
            contender: contender.clone(),
            rounds: Vec::new(),
            paced: Vec::new(),
            processes,
            cluster,
            dir,
            intake,
            ids: Rc::new(Cell::new(FIRST_ID)),
            accepted: 0,
            fastest: 0.0,
        })
    }

    /// Of its processes, of what they have started and waited for, and of their database.
    fn cpu_s(&self) -> Result<f64> {
        let own = self.processes.iter().map(Process::cpu_s).sum::<Result<f64>>()?;
        Ok(own + self.cluster.as_ref().map_or(Ok(0.0), Cluster::cpu_s)?)
    }

    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let peaks = self.processes.iter().map(Process::peak_mib).collect::<Result<Vec<f64>>>()?;
        Ok(peaks.into_iter().fold(0.0, f64::max))
    }

    /// Waits until it is at rest, and tells its processor time.
    fn rest(&self) -> Result<f64> {
        let since = Instant::now();
        let mut before = self.cpu_s()?;
        // Replicas ask their database each second, and it looks after itself.
        let ticks = if self.cluster.is_some() { 6.0 } else { 1.5 };
        loop {
            thread::sleep(REST);
            let now = self.cpu_s()?;
            if now - before < ticks / TICKS_PER_SECOND || since.elapsed() > PATIENCE {
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
        let addresses: Vec<SocketAddr> = self.processes.iter().map(|process| process.address).collect();
        let load = load(&addresses, connections, pace, length, &orders);
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
        self.processes.clear();
        let recorded = match &mut self.cluster {
            Some(cluster) => {
                cluster.crash()?;
                cluster.session(LEDGER)?.ask(RECORDED)?.parse()?
            }
            None => recorded_in(&self.dir.path().join("0").join(CACHE))?,
        };
        let (name, accepted) = (&self.contender, self.accepted);
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

/// How many runs the files of a folder have, sent or not.
fn recorded_in(folder: &Path) -> Result<usize> {
    let mut recorded = HashSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_record(&path) {
            recorded.extend(fs::read_to_string(&path)?.lines().filter_map(recorded_id));
        }
    }
    Ok(recorded.len())
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
