//! The proof: replicas under load, each kind of process killed in turn, before a Datadog that fails throughout.
//!
//! `RUNHOUND_CHAOS_SECONDS` says for how long.

use super::{
    load::Load,
    replicas::{LEASE, Stage},
};
use crate::{
    harness::Service,
    intake::{Order, Received},
};
use fastrand::Rng;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

const SECONDS: u64 = 15;

/// How long the database stays away each time, at least.
const AWAY: Duration = Duration::from_secs(2);

/// So many more answers come between two kills.
const CALM_ANSWERS: usize = 60;

/// When the intake took a push in.
type Taken = Arc<Mutex<Vec<Instant>>>;

/// One push of three fails, each in another way, but never two in a row.
fn faulty(taken: Taken) -> impl FnMut(&Received) -> Order + Send {
    let (mut rng, mut has_failed) = (Rng::with_seed(1), false);
    move |received| {
        has_failed = !has_failed && rng.bool();
        let order = match rng.u8(0..6) {
            _ if !has_failed => Order::Take,
            0 => Order::status(503),
            1 => Order::retry_after(429, 1),
            2 => Order::Reset,
            3 => Order::StoreThenDrop,
            4 => Order::StoreThenStatus(500),
            _ => Order::StoreLater,
        };
        if matches!(order, Order::Take | Order::StoreThenDrop | Order::StoreThenStatus(_)) {
            taken.lock().unwrap_or_else(PoisonError::into_inner).push(received.at);
        }
        order
    }
}

/// Replicas that are killed, and started again in the same place.
struct Chaos<'s> {
    stage: &'s Stage,
    load: &'s Load,
    replicas: Vec<Option<Service>>,
    /// From when to when the database was away.
    away: Vec<(Instant, Instant)>,
    kills: [(&'static str, usize); 3],
}

impl Chaos<'_> {
    fn leader(&self) -> usize {
        let is = |replica: &Option<Service>, id| replica.as_ref().is_some_and(|replica| replica.id() == id);
        self.stage.wait_for_leader_by(|id| self.replicas.iter().position(|replica| is(replica, id)))
    }

    /// Kills a replica and starts it again.
    fn kill(&mut self, place: usize) {
        self.replicas[place].take().unwrap().kill();
        let replica = self.stage.launch().start();
        self.load.replace(place, &replica);
        self.replicas[place] = Some(replica);
    }

    /// Kills the leader, a follower and the database.
    fn round(&mut self) {
        let leader = self.leader();
        self.kill(leader);
        self.kills[0].1 += 1;
        self.load.wait_for(CALM_ANSWERS, "202");
        let leader = self.leader();
        self.kill((leader + 1) % self.replicas.len());
        self.kills[1].1 += 1;
        self.load.wait_for(CALM_ANSWERS, "202");
        let begun = Instant::now();
        self.stage.cluster.kill9();
        self.load.go_on_for(AWAY);
        self.stage.cluster.start_again();
        self.away.push((begun, Instant::now()));
        self.kills[2].1 += 1;
        self.load.wait_for(CALM_ANSWERS, "202");
    }
}

/// The longest time without a push that was taken, less that in which the database was away.
fn longest_gap(taken: &[Instant], away: &[(Instant, Instant)]) -> Duration {
    let gap = |pair: &[Instant]| {
        let (from, to) = (pair[0], pair[1]);
        let within = |&(gone, back): &(Instant, Instant)| back.min(to).saturating_duration_since(gone.max(from));
        (to - from).saturating_sub(away.iter().map(within).sum())
    };
    taken.windows(2).map(gap).max().unwrap_or_default()
}

#[test]
fn with_leader_follower_and_database_killed_in_turn_each_answered_run_is_counted_once_without_a_gap() {
    let Some(stage) = Stage::new() else { return };
    let seconds = std::env::var("RUNHOUND_CHAOS_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let taken = Taken::default();
    stage.intake.set_policy(faulty(Arc::clone(&taken)));
    let replicas: [Service; 3] = stage.start();
    let load = Load::on(&replicas);
    let kills = [("leader", 0), ("follower", 0), ("PostgreSQL", 0)];
    let replicas = Vec::from(replicas.map(Some));
    let mut chaos = Chaos { stage: &stage, load: &load, replicas, away: Vec::new(), kills };
    let (begun, mut ended) = (Instant::now(), Instant::now());
    load.during(|| {
        load.wait_for(CALM_ANSWERS, "202");
        while ended.duration_since(begun).as_secs() < seconds {
            chaos.round();
            ended = Instant::now();
        }
    });
    let under_load: Vec<Instant> = taken.lock().unwrap().iter().copied().filter(|at| *at <= ended).collect();
    stage.intake.recover();
    load.assert_each_is_counted_once(&stage);
    let gap = longest_gap(&under_load, &chaos.away);
    load.tell();
    println!(
        "{:?}: killed {:?}, {} pushes, {} of them taken under load, the longest gap {gap:?}, {} terms",
        ended - begun,
        chaos.kills,
        stage.intake.requests().len(),
        under_load.len(),
        stage.term(),
    );
    assert!(gap < LEASE, "{gap:?}");
}
