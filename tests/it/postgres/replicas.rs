//! Replicas of the service on one database, before one intake.

use super::cluster::{Cluster, Session, wait_until};
use crate::{
    github::{RunBuilder, workflow_run},
    harness::{Answer, Service, Start, Starting, now},
    intake::Intake,
};
use std::{
    path::Path,
    sync::{Arc, Barrier, mpsc},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub(super) const TOTAL: &str = "github.actions.workflow_run.total";

/// GitHub gives up on a delivery after so long.
pub(super) const GITHUBS_PATIENCE: Duration = Duration::from_secs(10);

/// Whoever leads and says nothing for so long does not lead any more.
pub(super) const LEASE: Duration = Duration::from_secs(10);

/// So long nothing is to come.
const SILENCE: Duration = Duration::from_millis(300);

/// A database and an intake, for any number of replicas.
pub(super) struct Stage {
    pub(super) cluster: Arc<Cluster>,
    pub(super) intake: Intake,
    /// Where replicas find the database.
    pub(super) url: String,
    /// What else each replica is told.
    pub(super) arguments: Vec<String>,
    /// The cache directory of each replica. With a ledger in a database it stays empty.
    dir: TempDir,
}

impl Stage {
    /// On a new cluster, reached by its socket. `None` where there is no PostgreSQL, which has been said.
    pub(super) fn new() -> Option<Self> {
        Cluster::start().map(Self::on)
    }

    pub(super) fn on(cluster: Cluster) -> Self {
        let (url, cluster) = (cluster.url(), Arc::new(cluster));
        let (arguments, dir) = (Vec::new(), tempfile::tempdir().unwrap());
        Self { cluster, intake: Intake::start(), url, arguments, dir }
    }

    /// A replica.
    pub(super) fn launch(&self) -> Start {
        self.launch_on(&self.url)
    }

    /// A replica on another database.
    pub(super) fn launch_on(&self, url: &str) -> Start {
        let launch = Start::live(self.dir.path(), &self.intake).with_admin().argument(&format!("--ledger={url}"));
        self.arguments.iter().fold(launch, |launch, argument| launch.argument(argument))
    }

    pub(super) fn cache_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replicas, all of them listening, and one that leads.
    pub(super) fn start<const N: usize>(&self) -> [Service; N] {
        let launch = self.launch();
        let starting = [(); N].map(|()| launch.spawn());
        let started = starting.map(Starting::ready);
        self.wait_for_leader(&started);
        started
    }

    /// A number that the database gives.
    pub(super) fn number(&self, sql: &str) -> i64 {
        self.cluster.psql(sql).parse().unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The process that leads, as all replicas are told.
    pub(super) fn leader(&self) -> Option<u32> {
        let name = self.cluster.psql("select leader from runhound.ledger");
        name.rsplit_once(':').map(|(_, process)| process.parse().unwrap())
    }

    /// How often somebody began to lead.
    pub(super) fn term(&self) -> i64 {
        self.number("select term from runhound.ledger")
    }

    /// Waits until one of these replicas leads: its place among them.
    #[track_caller]
    pub(super) fn wait_for_leader(&self, among: &[Service]) -> usize {
        self.wait_for_leader_by(|leader| among.iter().position(|service| service.id() == leader))
    }

    /// Waits until a process leads that has a place.
    #[track_caller]
    pub(super) fn wait_for_leader_by(&self, place_of: impl Fn(u32) -> Option<usize>) -> usize {
        let mut place = None;
        wait_until("a replica leads", || {
            place = self.leader().and_then(&place_of);
            place.is_some()
        });
        place.unwrap()
    }

    /// The keys of all runs, in their order as text: those that are pending, and those that were sent.
    pub(super) fn keys(&self) -> Vec<String> {
        let keys = self.cluster.psql(
            "select key from (select key from runhound.pending union all select key from runhound.sent) t order by key",
        );
        keys.lines().map(str::to_owned).collect()
    }

    /// Waits until nothing is pending.
    #[track_caller]
    pub(super) fn wait_until_all_is_sent(&self) {
        wait_until("nothing is pending", || self.number("select count(*) from runhound.pending") == 0);
    }

    /// So many runs were sent and counted, each of them once, and nothing stands in files.
    #[track_caller]
    pub(super) fn assert_counted(&self, runs: u32) {
        let counted = self.cluster.psql(
            "select (select count(*) from runhound.pending), sent, (select count(*) from runhound.sent), \
             (select count(distinct key) from runhound.sent), batch is null from runhound.ledger",
        );
        assert_eq!(counted, format!("0|{runs}|{runs}|{runs}|t"));
        assert_eq!(self.intake.count(TOTAL), f64::from(runs));
        assert_eq!((self.intake.overwritten(), self.intake.dropped()), (Vec::new(), Vec::new()));
        self.intake.assert_contract();
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 0);
    }

    /// Has a session take a table so that nothing is written to it.
    pub(super) fn hold(&self, table: &str) -> Held {
        let mut session = self.cluster.session();
        session.ask(&format!("begin; lock table runhound.{table} in share mode"));
        Held(session)
    }

    /// Waits until so many sessions of replicas wait for somebody's lock.
    #[track_caller]
    pub(super) fn wait_for_waiting(&self, sessions: i64) {
        let waiting =
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'runhound'";
        wait_until("replicas wait for a lock", || self.number(waiting) >= sessions);
    }
}

/// A table that is held.
pub(super) struct Held(Session);

impl Held {
    pub(super) fn let_go(mut self) {
        self.0.ask("commit");
    }
}

/// A run that has just ended, of a workflow of its own: it waits for no other run's second.
pub(super) fn run(id: u64) -> RunBuilder {
    workflow_run(id).workflow(&format!("workflow {id}")).started_at(now() - 60).updated_at(now())
}

/// Does this at once for each of these, while the rest goes on, and gives the answers in their order.
pub(super) fn at_once<T: Send + Sync, A: Send>(
    items: &[T],
    each: impl Fn(&T) -> A + Sync,
    meanwhile: impl FnOnce(),
) -> Vec<A> {
    let barrier = Barrier::new(items.len() + 1);
    std::thread::scope(|scope| {
        let begin = |item| {
            let (barrier, each) = (&barrier, &each);
            scope.spawn(move || {
                barrier.wait();
                each(item)
            })
        };
        let threads: Vec<_> = items.iter().map(begin).collect();
        barrier.wait();
        meanwhile();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Delivers while something is in the way: that there is no answer before it is gone, and the answer.
#[track_caller]
pub(super) fn answered_after(deliver: impl FnOnce() -> Answer + Send, remove: impl FnOnce()) -> Answer {
    std::thread::scope(|scope| {
        let (sender, answer) = mpsc::channel();
        scope.spawn(move || drop(sender.send(deliver())));
        let early = answer.recv_timeout(SILENCE);
        remove();
        assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout), "answered too early");
        answer.recv().unwrap()
    })
}

/// It is refused for now, as GitHub is told, and before GitHub has given up.
#[track_caller]
pub(super) fn assert_refused_in_time(deliver: impl FnOnce() -> Answer) {
    let begun = Instant::now();
    let answer = deliver();
    assert!(begun.elapsed() < GITHUBS_PATIENCE, "{:?}: {answer:?}", begun.elapsed());
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some_and(|text| text.parse::<u32>().is_ok()), "{answer:?}");
}
