//! Starts: what cannot work is refused with what to do, nothing is changed by it, and a database that is away is waited for.

use super::{
    cluster::Cluster,
    failing::password_file,
    replicas::{Stage, run},
};
use crate::harness::{Process, Start, Starting};
use std::{
    io::{BufRead, BufReader},
    process::{ChildStderr, Stdio},
};

/// What a start says that is refused: what is the matter, and what to do.
#[track_caller]
pub(super) fn refusal(launch: &Start) -> (String, String) {
    let mut process = Process(launch.command().stderr(Stdio::piped()).spawn().unwrap());
    let mut log = String::new();
    for line in BufReader::new(process.0.stderr.take().unwrap()).lines() {
        log += &(line.unwrap() + "\n");
        assert!(!log.contains("listening on"), "it has started: {log}");
    }
    assert_eq!(process.0.wait().unwrap().code(), Some(1), "{log}");
    let (_, last) = log.rsplit_once("runhound: ").unwrap_or_else(|| panic!("it does not say why: {log}"));
    let (what, hint) = last.trim_end().split_once("\nhint: ").unwrap_or_else(|| panic!("no hint: {log}"));
    assert!(!what.contains('\n') && !hint.contains('\n'), "{log}");
    (what.to_owned(), hint.to_owned())
}

/// Starts a service that waits for something, until its log has this text: the line, and the service.
#[track_caller]
pub(super) fn start_until(launch: &Start, text: &str) -> (String, Process, BufReader<ChildStderr>) {
    let mut process = Process(launch.command().stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(process.0.stderr.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it has ended without {text:?}");
        if line.contains(text) {
            return (line, process, log);
        }
    }
}

#[test]
fn a_server_that_does_not_sync_is_refused_and_nothing_is_made_in_it() {
    let Some(cluster) = Cluster::with(&[("fsync", "off")]) else { return };
    let stage = Stage::on(cluster);
    let (what, hint) = refusal(&stage.launch());
    let folder = stage.cluster.socket_folder().display();
    assert_eq!(what, format!("PostgreSQL database runhound on {folder}: fsync is off: what it commits may be lost"));
    assert!(hint.contains("docs/scaling.md"), "{hint}");
    assert_eq!(stage.cluster.psql("select to_regnamespace('runhound')"), "");
}

#[test]
fn a_database_that_cannot_hold_each_text_is_refused() {
    let Some(stage) = Stage::new() else { return };
    stage.cluster.psql("create database latin encoding 'LATIN1' locale 'C' template template0");
    let launch = stage.launch_on(&stage.cluster.url().replace("/runhound?", "/latin?"));
    let (what, hint) = refusal(&launch);
    assert!(what.contains("its encoding is LATIN1, and names on GitHub are UTF-8"), "{what}");
    assert!(hint.contains("docs/scaling.md"), "{hint}");
}

#[test]
fn a_wrong_password_an_unknown_database_and_a_lack_of_privilege_are_told_apart_with_what_to_do() {
    let Some(cluster) = Cluster::on_tcp(&[]) else { return };
    cluster.psql("create role poor login");
    let (address, dir) = (cluster.address(), tempfile::tempdir().unwrap());
    let (by_tcp, by_socket) = (Cluster::tcp_url(&[&cluster]), cluster.url());
    let mut stage = Stage::on(cluster);
    let password = format!("--ledger-password-file={}", password_file(dir.path(), "another").display());
    for (url, argument, tells, advises) in [
        (by_tcp, Some(password), "password authentication failed for user \"runhound\"", "--ledger-password-file"),
        (by_socket.replace("/runhound?", "/nowhere?"), None, "database \"nowhere\" does not exist", "createdb"),
        (
            by_socket.replace("runhound@", "poor@"),
            None,
            "permission denied for database runhound",
            "CREATE on the database",
        ),
    ] {
        (stage.url, stage.arguments) = (url, argument.into_iter().collect());
        let (what, hint) = refusal(&stage.launch());
        assert!(what.starts_with("PostgreSQL database ") && what.contains(tells), "{what}");
        assert!(hint.contains(advises), "{hint}");
        assert!(!what.contains("another"), "{what}");
    }
    stage.url = format!("postgres://runhound:secret@{address}/runhound");
    let (what, hint) = refusal(&stage.launch());
    assert_eq!(what, "--ledger: there is a password in it");
    assert!(hint.contains("--ledger-password-file") && !hint.contains("secret"), "{hint}");
    stage.url = Cluster::tcp_url(&[&stage.cluster]);
    stage.arguments = vec![format!("--ledger-password-file={}", dir.path().join("none").display())];
    assert!(refusal(&stage.launch()).0.starts_with("--ledger-password-file /"));
    assert_eq!(stage.cluster.psql("select to_regnamespace('runhound')"), "");
}

#[test]
fn a_schema_of_a_later_version_is_refused_and_left_as_it_is() {
    let Some(stage) = Stage::new() else { return };
    let [service] = stage.start();
    service.stop();
    stage.cluster.psql("update runhound.ledger set format = 99");
    let all = "select l.*, (select count(*) from pg_class where relnamespace = 'runhound'::regnamespace) from runhound.ledger l";
    let before = stage.cluster.psql(all);
    let (what, hint) = refusal(&stage.launch());
    assert!(what.contains("schema runhound has the format 99, which this version of runhound does not know"), "{what}");
    assert!(hint.contains("or a later one"), "{hint}");
    assert_eq!(stage.cluster.psql(all), before);
    stage.cluster.psql("update runhound.ledger set format = 1");
    let [service] = stage.start();
    assert_eq!(service.deliver(&run(1)).status, 202);
}

#[test]
fn a_start_waits_for_a_database_that_is_away() {
    let Some(stage) = Stage::new() else { return };
    stage.cluster.stop_fast();
    let (line, process, log) = start_until(&stage.launch(), "trying again");
    assert!(line.contains(" WARN ") && line.contains("PostgreSQL database runhound on /"), "{line}");
    stage.cluster.start_again();
    let listening = log.lines().map(Result::unwrap).find(|line| line.contains("listening on"));
    assert!(listening.is_some_and(|line| line.contains("PostgreSQL database runhound on ")));
    drop(process);
}

#[test]
fn replicas_that_start_at_once_on_an_empty_database_make_one_schema() {
    let Some(stage) = Stage::new() else { return };
    // Each of them comes as far as it can while somebody makes a schema of that name, and then takes it back.
    let mut somebody = stage.cluster.session();
    somebody.ask("begin; create schema runhound");
    let launch = stage.launch();
    let starting = [(); 4].map(|()| launch.spawn());
    stage.wait_for_waiting(4);
    somebody.ask("rollback");
    let replicas = starting.map(Starting::ready);
    for (id, replica) in (1..).zip(&replicas) {
        assert_eq!(replica.deliver(&run(id)).status, 202);
    }
    stage.wait_until_all_is_sent();
    assert_eq!(stage.cluster.psql("select count(*), min(format), min(term) from runhound.ledger"), "1|1|1");
    stage.assert_counted(4);
    for replica in replicas {
        let log = replica.stop();
        assert!(!log.iter().any(|line| line.contains("trying again")), "{log:#?}");
    }
}

#[test]
fn a_role_that_owns_its_schema_needs_nothing_else() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.psql("create role owner login; create schema runhound authorization owner");
    let mut stage = Stage::on(cluster);
    stage.url = stage.cluster.url().replace("runhound@", "owner@");
    for (id, known) in [(1, 0), (2, 1)] {
        let [service] = stage.start();
        assert_eq!(service.standing(), (known, 0));
        assert_eq!(service.deliver(&run(id)).status, 202);
        stage.wait_until_all_is_sent();
        service.stop();
    }
    stage.assert_counted(2);
    let owners = "select distinct relowner::regrole from pg_class where relnamespace = 'runhound'::regnamespace";
    assert_eq!(stage.cluster.psql(owners), "owner");
}
