//! How long nobody sends when the replica that leads is gone.

use crate::{
    cluster::{Cluster, Session},
    common::{self, FIRST_ID},
    median,
    program::{self, Program},
};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const REPLICAS: usize = 3;

const DATABASE: &str = "runhound";

/// Each replica is given a delivery so often, each time of another of so many workflows: a point a second in each series.
const EVERY: Duration = Duration::from_millis(10);
const WORKFLOWS: u64 = 400;

/// What is slower is not waited for.
const ANSWER: Duration = Duration::from_secs(1);

/// All is as usual after so long.
const STEADY: Duration = Duration::from_secs(4);

/// Longer than the lease.
const PATIENCE: Duration = Duration::from_secs(30);

const WAYS: [(&str, Signal); 3] =
    [("killed (SIGKILL)", Signal::KILL), ("stopped (SIGTERM)", Signal::TERM), ("held (SIGSTOP)", Signal::STOP)];

pub(crate) fn measure(cluster: &Cluster, parent: &Path, changes: u64) -> Result<()> {
    let session = cluster.session(DATABASE)?;
    let url = cluster.url(DATABASE);
    let start = || Replica::start(parent, &url);
    let mut replicas = (0..REPLICAS).map(|_| start()).collect::<Result<Vec<_>>>()?;
    let load = Load::default();
    for (place, replica) in replicas.iter().enumerate() {
        load.begin(place, replica.program.address);
    }
    println!("nobody sends, {changes} times each, {REPLICAS} replicas under steady load, in seconds");
    for (name, signal) in WAYS {
        let mut gaps = Vec::new();
        for _ in 0..changes {
            thread::sleep(STEADY);
            let leader = leader(&session)?;
            let place = replicas.iter().position(|replica| replica.program.child.id() == leader);
            let place = place.context("no replica leads")?;
            let at = Instant::now();
            let id = i32::try_from(leader).ok().and_then(Pid::from_raw).context("a process has an ID")?;
            kill_process(id, signal)?;
            // What is the new leader's, and what was the old one's last.
            let first = loop {
                let others = replicas.iter().enumerate().filter(|(other, _)| *other != place);
                let first = others.filter_map(|(_, replica)| replica.pushes.first_after(at)).min();
                if let Some(first) = first {
                    break first;
                }
                ensure!(at.elapsed() < PATIENCE, "nobody sends any more");
                thread::sleep(Duration::from_millis(5));
            };
            let last = replicas[place].pushes.last().context("whoever led has sent")?;
            gaps.push(first.saturating_duration_since(last).as_secs_f64());
            replicas[place] = start()?;
            load.turn_to(place, replicas[place].program.address);
        }
        let all: Vec<String> = gaps.iter().map(|gap| format!("{gap:.2}")).collect();
        println!("{name:<24} {:>8.2}   of {}", median(gaps), all.join(", "));
    }
    load.is_over.store(true, Relaxed);
    Ok(())
}

/// The process that leads, by what the database says: host and process.
fn leader(session: &Session) -> Result<u32> {
    let name = session.ask("select leader from runhound.ledger")?;
    let (_, process) = name.rsplit_once(':').context("nobody leads")?;
    Ok(process.parse()?)
}

/// When an intake was sent something.
#[derive(Debug, Default)]
struct Pushes(Mutex<Vec<Instant>>);

impl Pushes {
    fn last(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    fn first_after(&self, at: Instant) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().find(|push| *push > at)
    }
}

struct Replica {
    program: Program,
    pushes: Arc<Pushes>,
    _dir: TempDir,
}

impl Replica {
    fn start(parent: &Path, url: &str) -> Result<Self> {
        let dir = tempfile::tempdir_in(parent)?;
        let pushes = Arc::new(Pushes::default());
        let noted = Arc::clone(&pushes);
        let note = move || noted.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        let intake = common::start_noting_intake(note)?;
        Ok(Self { program: Program::start(dir.path(), Some(url), intake)?, pushes, _dir: dir })
    }
}

/// Deliveries to all replicas, whether they answer or not.
#[derive(Default)]
struct Load {
    ids: Arc<AtomicU64>,
    addresses: Arc<Mutex<[Option<SocketAddr>; REPLICAS]>>,
    is_over: Arc<AtomicBool>,
}

impl Load {
    fn turn_to(&self, place: usize, address: SocketAddr) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(address);
    }

    fn begin(&self, place: usize, address: SocketAddr) {
        self.turn_to(place, address);
        let (ids, addresses) = (Arc::clone(&self.ids), Arc::clone(&self.addresses));
        let is_over = Arc::clone(&self.is_over);
        thread::spawn(move || {
            let mut payload = common::payload()?;
            while !is_over.load(Relaxed) {
                let number = ids.fetch_add(1, Relaxed);
                payload["workflow_run"]["id"] = (FIRST_ID + number).into();
                payload["workflow_run"]["updated_at"] = format!("{:.0}", jiff::Timestamp::now()).into();
                payload["workflow"]["name"] = format!("workflow-{}", number % WORKFLOWS).into();
                let address = addresses.lock().unwrap_or_else(PoisonError::into_inner)[place];
                if let Some(address) = address {
                    // It may be gone, or held.
                    drop(program::deliver(address, &payload, ANSWER));
                }
                thread::sleep(EVERY);
            }
            Ok::<(), anyhow::Error>(())
        });
    }
}
