//! Leading: one replica delivers at a time, the next one goes on where it ended, and whoever does not lead any more changes
//! nothing.

use super::{
    cluster::wait_until,
    replicas::{LEASE, Stage, run},
};
use crate::{
    harness::{PATIENCE, Service, Start, signal},
    intake::{Order, Received},
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Longer than it takes to hand over where nobody has to wait for the lease.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The sessions that lead, in whatever schema.
const LEADING: &str = "from pg_locks where locktype = 'advisory' and objid = 1 and granted";

/// What the first push sets off, before it is stored and answered with 202.
fn at_first_push(stage: &Stage, act: impl FnOnce() + Send + 'static) {
    let mut act = Some(act);
    stage.intake.set_policy(move |_: &Received| {
        if let Some(act) = act.take() {
            act();
        }
        Order::Take
    });
}

fn leads(replica: &Service) -> bool {
    replica.status()["leadership"]["leads"] == true
}

/// What a replica has marked as sent, by its own count.
fn pushed(replica: &Service) -> u64 {
    replica.status()["runs"]["pushed"].as_u64().unwrap()
}

/// The second push was the first one once more, point by point.
#[track_caller]
fn assert_repeated_as_it_stood(stage: &Stage) {
    let texts: Vec<String> = stage.intake.requests().into_iter().map(|received| received.unpacked).collect();
    assert!(texts.len() >= 2, "{texts:#?}");
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn one_of_three_replicas_delivers_what_all_of_them_take_in_and_each_says_which() {
    let Some(stage) = Stage::new() else { return };
    let replicas: [Service; 3] = stage.start();
    let leader = stage.wait_for_leader(&replicas);
    for (place, replica) in replicas.iter().enumerate() {
        let status = replica.wait_for_status(|status| !status["leadership"]["leader"].is_null());
        let leadership = &status["leadership"];
        assert_eq!(leadership["leads"], place == leader, "{leadership}");
        assert!(leadership["leader"].as_str().unwrap().ends_with(&format!(":{}", replicas[leader].id())));
        assert!(leadership["since"].is_string(), "{leadership}");
        let leader = format!("\nrunhound_leader {}\n", u8::from(place == leader));
        assert!(replica.ask("/metrics").1.contains(&leader), "{leader}");
        assert!(status["ready"] == true && replica.ask("/readyz").0.status == 200, "{status:#}");
    }
    // What others take in, the leader learns of by itself.
    let followers = replicas.iter().enumerate().filter(|(place, _)| *place != leader);
    for (id, (_, follower)) in (1..=6).zip(followers.cycle()) {
        assert_eq!(follower.deliver(&run(id)).status, 202);
    }
    let taken_in = Instant::now();
    stage.wait_until_all_is_sent();
    assert!(taken_in.elapsed() < AT_ONCE, "{:?}", taken_in.elapsed());
    for id in 7..=9 {
        assert_eq!(replicas[leader].deliver(&run(id)).status, 202);
    }
    stage.wait_until_all_is_sent();
    for (place, replica) in replicas.iter().enumerate() {
        assert_eq!(pushed(replica), if place == leader { 9 } else { 0 });
        let status = replica.status();
        assert_eq!((&status["pending"]["runs"], &status["known_ids"]), (&0.into(), &9.into()), "{status:#}");
    }
    stage.assert_counted(9);
}

#[test]
fn a_leader_that_is_stopped_hands_over_at_once_and_the_stop_of_a_follower_changes_nothing() {
    let Some(stage) = Stage::new() else { return };
    let mut replicas = Vec::from(stage.start::<3>());
    let leader = replicas.remove(stage.wait_for_leader(&replicas));
    replicas.remove(0).stop();
    assert_eq!((stage.leader(), stage.term()), (Some(leader.id()), 1));
    leader.stop();
    let stopped = Instant::now();
    stage.wait_for_leader(&replicas);
    assert!(stopped.elapsed() < AT_ONCE, "{:?}", stopped.elapsed());
    assert_eq!(stage.term(), 2);
    assert_eq!(replicas[0].deliver(&run(1)).status, 202);
    stage.wait_until_all_is_sent();
    replicas.remove(0).stop();
    assert_eq!(stage.cluster.psql("select leader is null and since is null from runhound.ledger"), "t");
    stage.assert_counted(1);
}

#[test]
fn what_a_leader_killed_between_push_and_mark_has_sent_is_repeated_as_it_stands_and_counts_once() {
    let Some(stage) = Stage::new() else { return };
    let replicas: [Service; 3] = stage.start();
    let leader = stage.wait_for_leader(&replicas);
    let process = replicas[leader].id();
    at_first_push(&stage, move || signal(process, "KILL"));
    let killed = Instant::now();
    for (id, replica) in (1..=20).zip(replicas.iter().filter(|replica| replica.id() != process).cycle()) {
        assert_eq!(replica.deliver(&run(id)).status, 202);
    }
    stage.wait_until_all_is_sent();
    assert!(killed.elapsed() < LEASE, "nobody waits for the lease of a process that has ended: {:?}", killed.elapsed());
    assert_ne!(stage.wait_for_leader(&replicas), leader);
    assert_eq!(stage.term(), 2);
    assert_repeated_as_it_stood(&stage);
    stage.assert_counted(20);
}

#[test]
fn a_leader_held_for_longer_than_the_lease_is_followed_by_another_and_changes_nothing_when_it_goes_on() {
    let Some(stage) = Stage::new() else { return };
    let replicas: [Service; 2] = stage.start();
    let old = stage.wait_for_leader(&replicas);
    let (held, other) = (&replicas[old], &replicas[1 - old]);
    let stopped_at = Arc::new(Mutex::new(None));
    let (process, note) = (held.id(), Arc::clone(&stopped_at));
    // The answer is there when it goes on, and with it comes the wish to mark.
    at_first_push(&stage, move || {
        signal(process, "STOP");
        *note.lock().unwrap() = Some(Instant::now());
    });
    for id in 1..=5 {
        assert_eq!(other.deliver(&run(id)).status, 202);
    }
    wait_until("the other one leads", || stage.leader() == Some(other.id()));
    let waited = stopped_at.lock().unwrap().unwrap().elapsed();
    assert!(waited > LEASE / 2 && waited < LEASE + AT_ONCE, "{waited:?}");
    stage.wait_until_all_is_sent();
    assert_repeated_as_it_stood(&stage);
    let pushes = stage.intake.requests().len();
    held.signal("CONT");
    held.wait_for_log("term 1 is over");
    assert!(!leads(held) && leads(other));
    // It still takes in, for the other one.
    assert_eq!(held.deliver(&run(6)).status, 202);
    stage.wait_until_all_is_sent();
    assert_eq!((pushed(held), pushed(other), stage.intake.requests().len()), (0, 6, pushes + 1));
    assert_eq!((stage.term(), stage.leader()), (2, Some(other.id())));
    stage.assert_counted(6);
}

#[test]
fn a_leader_whose_term_is_over_marks_nothing_though_its_session_lives() {
    let Some(stage) = Stage::new() else { return };
    let [service] = stage.start();
    let cluster = Arc::clone(&stage.cluster);
    at_first_push(&stage, move || drop(cluster.psql("update runhound.ledger set term = term + 1")));
    assert_eq!(service.deliver(&run(1)).status, 202);
    stage.wait_until_all_is_sent();
    service.wait_for_log("term 1 is over");
    assert_eq!((stage.term(), pushed(&service)), (3, 1));
    assert_repeated_as_it_stood(&stage);
    stage.assert_counted(1);
}

#[test]
fn a_leader_whose_session_is_ended_by_hand_is_followed_within_the_lease_and_nothing_counts_twice() {
    let Some(stage) = Stage::new() else { return };
    let replicas: [Service; 2] = stage.start();
    let cluster = Arc::clone(&stage.cluster);
    at_first_push(&stage, move || {
        assert_eq!(cluster.psql(&format!("select pg_terminate_backend(pid) {LEADING}")), "t");
    });
    let begun = Instant::now();
    for (id, replica) in (1..=20).zip(replicas.iter().cycle()) {
        assert_eq!(replica.deliver(&run(id)).status, 202);
    }
    stage.wait_until_all_is_sent();
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
    stage.wait_for_leader(&replicas);
    assert!(stage.term() >= 2, "{}", stage.term());
    assert_repeated_as_it_stood(&stage);
    stage.assert_counted(20);
}

#[test]
fn a_live_ledger_and_one_of_a_dry_run_in_one_database_do_not_meet() {
    let Some(stage) = Stage::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dry_run = Start::dry_run(dir.path()).with_admin().argument(&format!("--ledger={}", stage.cluster.url()));
    let dry_run = dry_run.start();
    let [live] = stage.start();
    dry_run.wait_for_status(|status| status["leadership"]["leads"] == true);
    assert!(leads(&live));
    assert_eq!(stage.number(&format!("select count(*) {LEADING}")), 2);
    for replica in [&dry_run, &live] {
        assert_eq!(replica.deliver(&run(1)).status, 202);
    }
    assert_eq!(dry_run.deliver(&run(2)).status, 202);
    let sent = "select key from runhound_dry_run.sent order by key";
    wait_until("the dry run is done", || stage.cluster.psql(sent) == "1\n2");
    stage.intake.wait_until(|intake| !intake.requests().is_empty(), PATIENCE);
    stage.wait_until_all_is_sent();
    stage.assert_counted(1);
}
