//! A database that fails: what cannot be committed is refused while GitHub still listens, nothing that was answered is lost,
//! and all goes on by itself.

use super::{
    cluster::{Cluster, PASSWORD, wait_until},
    load::Load,
    replicas::{GITHUBS_PATIENCE, Stage, assert_refused_in_time, at_once, run},
};
use crate::harness::Service;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What a stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Why a replica is not ready. It has said so before whoever asks gives up.
#[track_caller]
fn unready_reason(service: &Service) -> String {
    let begun = Instant::now();
    let (answer, text) = service.ask("/readyz");
    assert!(begun.elapsed() < GITHUBS_PATIENCE, "{:?}: {text}", begun.elapsed());
    assert_eq!((answer.status, answer.says()), (503, "unready"), "{text}");
    answer.body["reason"].as_str().unwrap().to_owned()
}

#[track_caller]
fn wait_until_ready(service: &Service) {
    wait_until("the replica is ready again", || service.ask("/readyz").0.status == 200);
}

/// While something is the matter a new run is refused in time and the replica is not ready, for a reason that tells of it;
/// afterwards all is well by itself.
fn assert_refuses_while(stage: &Stage, tells: &str, begin: impl FnOnce(), end: impl FnOnce()) {
    let [service] = stage.start();
    assert_eq!(service.deliver(&run(1)).status, 202);
    stage.wait_until_all_is_sent();
    begin();
    at_once(
        &[true, false],
        |is_delivery| {
            if *is_delivery {
                assert_refused_in_time(|| service.deliver(&run(2)));
            } else {
                // A machine that is busy may first tell that the ledger itself has not answered.
                wait_until(tells, || unready_reason(&service).contains(tells));
            }
        },
        || (),
    );
    end();
    wait_until_ready(&service);
    let answer = service.deliver(&run(2));
    assert!(matches!((answer.status, answer.says()), (202, _) | (200, "duplicate")), "{answer:?}");
    assert_eq!(service.deliver(&run(3)).status, 202);
    stage.wait_until_all_is_sent();
    stage.assert_counted(3);
}

#[test]
fn a_database_that_is_killed_under_load_costs_no_answered_run_and_is_used_again_once_it_is_back() {
    let Some(stage) = Stage::new() else { return };
    let replicas: [Service; 2] = stage.start();
    let load = Load::on(&replicas);
    load.during(|| {
        load.wait_for(40, "202");
        stage.cluster.kill9();
        load.wait_for(1, "503");
        assert!(!unready_reason(&replicas[0]).is_empty());
        stage.cluster.start_again();
        load.wait_for(40, "202");
        // So short an outage is waited for.
        let refused = load.book().of("503");
        stage.cluster.kill9();
        stage.cluster.start_again();
        load.wait_for(40, "202");
        assert_eq!(load.book().of("503"), refused);
    });
    replicas.iter().for_each(wait_until_ready);
    load.assert_each_is_counted_once(&stage);
    assert_eq!(load.book().of("none"), 0);
    load.tell();
}

#[test]
fn while_the_database_is_held_deliveries_are_refused_in_time_and_taken_again_when_it_goes_on() {
    let Some(stage) = Stage::new() else { return };
    assert_refuses_while(&stage, "no answer for", || stage.cluster.pause(), || stage.cluster.go_on());
}

#[test]
fn while_the_database_only_reads_deliveries_are_refused_and_taken_again_when_it_writes() {
    let Some(stage) = Stage::new() else { return };
    let (begin, end) = (|| stage.cluster.read_only(true), || stage.cluster.read_only(false));
    assert_refuses_while(&stage, "PostgreSQL database runhound", begin, end);
}

#[test]
fn while_a_table_is_locked_by_somebody_deliveries_are_refused_in_time_and_taken_afterwards() {
    let Some(stage) = Stage::new() else { return };
    let mut somebody = stage.cluster.session();
    let begin = || drop(somebody.ask("begin; lock table runhound.pending"));
    let mut another = stage.cluster.session();
    let end = || {
        let others = "pid <> pg_backend_pid() and state = 'idle in transaction' and application_name = 'psql'";
        another.ask(&format!("select pg_terminate_backend(pid) from pg_stat_activity where {others}"));
    };
    assert_refuses_while(&stage, "no answer for", begin, end);
}

#[test]
fn without_a_connection_to_be_had_deliveries_are_refused_with_that_cause_until_there_is_one() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.psql("create role few login; grant create on database runhound to few");
    let mut stage = Stage::on(cluster);
    stage.url = stage.cluster.url().replace("postgres://runhound@", "postgres://few@");
    let sessions = "pg_stat_activity where usename = 'few'";
    let begin = || {
        stage.cluster.psql("alter role few connection limit 0");
        stage.cluster.psql(&format!("select pg_terminate_backend(pid) from {sessions}"));
        wait_until("its sessions are gone", || stage.number(&format!("select count(*) from {sessions}")) == 0);
    };
    let end = || drop(stage.cluster.psql("alter role few connection limit -1"));
    assert_refuses_while(&stage, "too many connections", begin, end);
}

#[test]
fn after_a_failover_to_a_standby_the_replicas_go_on_there_with_all_that_was_answered() {
    let Some(primary) = Cluster::on_tcp(&[]) else { return };
    let standby = Cluster::standby_of(&primary);
    // From now on a commit is in both.
    primary.set("synchronous_standby_names", "*");
    // The one that only follows is passed over.
    let (url, dir) = (Cluster::tcp_url(&[&standby, &primary]), tempfile::tempdir().unwrap());
    let mut stage = Stage::on(standby);
    stage.url = url;
    let password = password_file(dir.path(), PASSWORD);
    stage.arguments.push(format!("--ledger-password-file={}", password.display()));
    let replicas: [Service; 2] = stage.start();
    let load = Load::on(&replicas);
    load.during(|| {
        load.wait_for(40, "202");
        primary.kill9();
        stage.cluster.promote();
        load.wait_for(40, "202");
    });
    replicas.iter().for_each(wait_until_ready);
    load.assert_each_is_counted_once(&stage);
    load.tell();
}

#[test]
fn a_replica_can_be_stopped_while_the_database_is_held_and_says_what_it_does_not_know() {
    let Some(stage) = Stage::new() else { return };
    let replicas = Vec::from(stage.start::<2>());
    assert_eq!(replicas[0].deliver(&run(1)).status, 202);
    stage.wait_until_all_is_sent();
    stage.cluster.pause();
    let begun = Instant::now();
    for replica in &replicas {
        replica.signal("TERM");
    }
    for replica in replicas {
        let (status, log) = replica.wait();
        assert!(status.success(), "{status}: {log:#?}");
        assert!(log.iter().any(|line| line.contains("what is pending is not known")), "{log:#?}");
    }
    assert!(begun.elapsed() < STOP_PATIENCE, "{:?}", begun.elapsed());
    stage.cluster.go_on();
    stage.assert_counted(1);
}

pub(super) fn password_file(dir: &Path, password: &str) -> PathBuf {
    let path = dir.join("password");
    fs::write(&path, format!("{password}\n")).unwrap();
    path
}
