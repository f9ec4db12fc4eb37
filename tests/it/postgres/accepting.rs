//! Taking runs in: what was answered is committed, and the same run is accepted once, whoever takes it in.

use super::{
    cluster::{Cluster, wait_until},
    replicas::{Stage, answered_after, at_once, run},
};
use crate::{
    github::RunBuilder,
    harness::{Client, PATIENCE, Service},
    intake::Order,
};
use serde_json::json;
use std::{fs, net::SocketAddr};

/// Whom to deliver which run.
type Delivered = (Client, RunBuilder);

/// Delivers all of these at once: for each run, how often it was answered with 202 and with 200.
fn deliver_at_once(stage: &Stage, deliveries: &[Delivered], replicas: i64) -> (usize, usize) {
    let held = stage.hold("pending");
    let answers = at_once(
        deliveries,
        |(client, run)| client.deliver(run),
        || {
            stage.wait_for_waiting(replicas);
            held.let_go();
        },
    );
    let count =
        |expected: (u16, &str)| answers.iter().filter(|answer| (answer.status, answer.says()) == expected).count();
    let counts = (count((202, "accepted")), count((200, "duplicate")));
    assert_eq!(counts.0 + counts.1, deliveries.len(), "{answers:#?}");
    counts
}

fn clients(replicas: &[Service]) -> impl Iterator<Item = Client> {
    replicas.iter().map(Service::client)
}

#[test]
fn a_run_is_accepted_after_its_commit_which_is_on_disk_whatever_the_server_is_set_to() {
    let Some(cluster) = Cluster::with(&[("synchronous_commit", "off")]) else { return };
    cluster.psql("alter role runhound set synchronous_commit = off");
    let stage = Stage::on(cluster);
    let [service] = stage.start();
    // A commit that is to be on disk waits for this standby too, and one that is not does not.
    stage.cluster.set("synchronous_standby_names", "nobody");
    let answer = answered_after(
        || service.deliver(&run(1)),
        || {
            assert_eq!(stage.keys(), [""; 0]);
            stage.cluster.set("synchronous_standby_names", "");
        },
    );
    assert_eq!((answer.status, stage.keys()), (202, vec!["1".to_owned()]));
    stage.wait_until_all_is_sent();
    stage.assert_counted(1);
}

#[test]
fn a_duplicate_is_answered_once_the_standby_has_what_it_repeats_and_readiness_waits_for_it_too() {
    let Some(mut stage) = Stage::new() else { return };
    // Whoever waits for a standby needs no privilege for that.
    stage.cluster.psql("create role plain login; grant create on database runhound to plain");
    stage.url = stage.url.replace("runhound@", "plain@");
    // It stays pending: one that was sent is looked for by a statement that writes in any case.
    stage.intake.order(Order::Hang);
    let [service] = stage.start();
    assert_eq!(service.deliver(&run(1)).status, 202);
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    stage.cluster.set("synchronous_standby_names", "nobody");
    let answer = answered_after(
        || service.deliver(&run(1)),
        || {
            wait_until("the answer waits for a standby", || stage.number(waits) > 0);
            let (answer, _) = service.ask("/readyz");
            assert_eq!(answer.status, 503);
            stage.cluster.set("synchronous_standby_names", "");
        },
    );
    assert_eq!((answer.status, answer.says()), (200, "duplicate"));
    service.wait_for_status(|status| status["ready"] == true);
}

#[test]
fn a_commit_that_is_cancelled_while_it_waits_for_a_standby_is_not_answered_202() {
    let Some(stage) = Stage::new() else { return };
    let [service] = stage.start();
    stage.cluster.set("synchronous_standby_names", "nobody");
    let cancel = "select count(pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'";
    let answers = at_once(
        &[service.client()],
        |client| client.deliver(&run(1)),
        || {
            wait_until("the commit is cancelled", || stage.number(cancel) > 0);
            stage.cluster.set("synchronous_standby_names", "");
        },
    );
    // It is committed, but not everywhere: it is not answered for, and there when it comes again.
    assert_eq!(answers[0].status, 503, "{answers:?}");
    let again = service.deliver(&run(1));
    assert_eq!((again.status, again.says()), (200, "duplicate"));
    service.wait_for_log("the database warned of its commit");
    stage.wait_until_all_is_sent();
    stage.assert_counted(1);
}

#[test]
fn a_redelivery_is_a_duplicate_on_each_replica_while_the_run_is_pending_and_after_it_was_sent() {
    let Some(stage) = Stage::new() else { return };
    // The first push hangs until it is let go.
    stage.intake.order(Order::Hang);
    let replicas: [Service; 2] = stage.start();
    let answer = replicas[0].deliver(&run(1));
    assert_eq!((answer.status, &answer.body), (202, &json!({"status": "accepted", "id": "1"})));
    for state in ["pending", "sent"] {
        assert_eq!(stage.cluster.psql(&format!("select key from runhound.{state}")), "1");
        for replica in &replicas {
            let answer = replica.deliver(&run(1));
            assert_eq!((answer.status, &answer.body), (200, &json!({"status": "duplicate", "id": "1"})), "{state}");
        }
        stage.intake.wait_until(|intake| !intake.requests().is_empty(), PATIENCE);
        stage.intake.release();
        stage.wait_until_all_is_sent();
    }
    stage.assert_counted(1);
}

#[test]
fn of_two_replicas_that_take_the_same_runs_at_once_one_accepts_each() {
    let Some(stage) = Stage::new() else { return };
    let replicas: [Service; 2] = stage.start();
    let runs = (1..=20).map(run);
    let deliveries: Vec<Delivered> =
        runs.flat_map(|run| clients(&replicas).map(move |client| (client, run.clone()))).collect();
    assert_eq!(deliver_at_once(&stage, &deliveries, 2), (20, 20));
    stage.wait_until_all_is_sent();
    stage.assert_counted(20);
}

/// How many connections a server has, and how many bytes of them it has not read yet. Source: `proc_net_tcp` in the kernel's
/// documentation.
fn connections(address: SocketAddr) -> (usize, u64) {
    let port = format!(":{:04X}", address.port());
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let established = fields.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01");
    let unread: Vec<u64> =
        established.map(|fields| u64::from_str_radix(fields[4].split_once(':').unwrap().1, 16).unwrap()).collect();
    (unread.len(), unread.iter().sum())
}

#[test]
fn deliveries_that_wait_at_the_same_moment_share_a_statement() {
    let Some(cluster) = Cluster::with(&[("track_functions", "pl")]) else { return };
    let stage = Stage::on(cluster);
    let [service] = stage.start();
    let runs: Vec<RunBuilder> = (1..=200).map(run).collect();
    let held = stage.hold("pending");
    let answers = at_once(
        &runs,
        |run| service.deliver(run).status,
        || {
            wait_until("all are read", || connections(service.address) == (runs.len(), 0));
            held.let_go();
        },
    );
    assert_eq!(answers, vec![202; runs.len()]);
    stage.wait_until_all_is_sent();
    stage.assert_counted(200);
    service.stop();
    // What a session has counted is told with its end at the latest.
    let statements = stage.number("select calls from pg_stat_user_functions where funcname = 'accept'");
    assert!((1..=20).contains(&statements), "{statements} statements for 200 deliveries");
}

#[test]
fn where_reruns_are_dropped_two_replicas_accept_one_attempt_of_each_run() {
    let Some(stage) = Stage::new() else { return };
    let launch = stage.launch().argument("--reruns=drop");
    let replicas = [launch.start(), launch.start()];
    let attempts = |id| (1..).zip(clients(&replicas)).map(move |(attempt, client)| (client, run(id).attempt(attempt)));
    let deliveries: Vec<Delivered> = (1..=10).flat_map(attempts).collect();
    assert_eq!(deliver_at_once(&stage, &deliveries, 2), (10, 10));
    stage.wait_until_all_is_sent();
    for (replica, attempt) in replicas.iter().zip([3, 2]) {
        assert_eq!(replica.deliver(&run(1).attempt(attempt)).says(), "duplicate");
    }
    stage.assert_counted(10);
}

#[test]
fn a_delivery_that_cannot_be_understood_is_set_aside_for_people_before_it_is_answered() {
    let Some(stage) = Stage::new() else { return };
    let [service] = stage.start();
    let held = stage.hold("rejected");
    let body = r#"{"action":"completed","workflow_run":{"id":"x"}}"#;
    let answer = answered_after(
        || service.post(body, &[("X-GitHub-Event", "workflow_run"), ("X-GitHub-Delivery", "guid-1")]),
        || held.let_go(),
    );
    assert_eq!((answer.status, answer.says()), (200, "ignored"), "{answer:?}");
    let lines = stage.cluster.psql("select line from runhound.rejected order by number");
    let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(line["request"]["payload"]["workflow_run"]["id"], "x");
    assert_eq!(line["request"]["headers"]["X-GitHub-Delivery"], "guid-1");
    assert_eq!(fs::read_dir(stage.cache_dir()).unwrap().count(), 0);
}
