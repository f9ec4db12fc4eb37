//! That a cluster does what tests of the ledger ask of it.

use super::{Cluster, PASSWORD};
use crate::harness::PATIENCE;
use std::{net::TcpListener, os::unix::net::UnixStream, process::Command, time::Duration};

/// So long nothing is to come.
const SILENCE: Duration = Duration::from_millis(300);

/// What psql answers over TCP, or says instead.
fn over_tcp(cluster: &Cluster, host: &str, mode: &str, password: &str) -> Result<String, String> {
    let port = cluster.port.to_string();
    let mut psql = cluster.place.command("psql");
    psql.env("PGPASSWORD", password).env("PGSSLMODE", mode).env("PGSSLROOTCERT", cluster.authority());
    psql.args(["-XAtqc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()", "-U", "runhound", "-h", host]);
    let output = psql.args(["-p", &port, "-d", "runhound"]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_cluster_is_durable_and_reached_by_its_socket_alone() {
    let Some(cluster) = Cluster::with(&[("idle_session_timeout", "10s")]) else { return };
    let settings = "select name, setting from pg_settings where name in ('fsync', 'full_page_writes', \
                    'idle_session_timeout', 'listen_addresses', 'synchronous_commit') order by name";
    let expected =
        "fsync|on\nfull_page_writes|on\nidle_session_timeout|10000\nlisten_addresses|\nsynchronous_commit|on";
    assert_eq!(cluster.psql(settings), expected);
    assert_eq!(cluster.psql("select current_user, current_database()"), "runhound|runhound");
    assert_eq!(cluster.psql("show server_encoding; show lc_collate").lines().collect::<Vec<_>>(), ["UTF8", "C"]);
    let socket = cluster.socket_folder().join(".s.PGSQL.5432");
    assert!(socket.as_os_str().len() < 100);
    UnixStream::connect(socket).unwrap();
    assert!(cluster.url().starts_with("postgres://runhound@/runhound?host=/tmp/"), "{}", cluster.url());
    assert!(cluster.try_psql("select nothing").unwrap_err().contains("does not exist"));
}

#[test]
fn clusters_know_nothing_of_each_other_and_leave_nothing() {
    let (Some(one), Some(other)) = (Cluster::start(), Cluster::start()) else { return };
    one.psql("create table numbers (number int)");
    assert_eq!(other.psql("select to_regclass('numbers')"), "");
    let (folder, server) = (one.socket_folder().to_owned(), one.id());
    drop(one);
    assert!(!folder.exists());
    assert!(!Command::new("kill").args(["-0", &server.to_string()]).output().unwrap().status.success());
    assert_eq!(other.psql("select 1"), "1");
}

#[test]
fn what_was_committed_is_there_after_a_kill_and_after_a_stop() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.psql("create table numbers (number int)");
    let mut open = cluster.session();
    open.ask("begin; insert into numbers values (-1)");
    for number in 0..3 {
        cluster.psql(&format!("insert into numbers values ({number})"));
        if number % 2 == 0 {
            cluster.kill9();
        } else {
            cluster.stop_fast();
        }
        assert!(cluster.try_psql("select 1").is_err());
        cluster.start_again();
    }
    assert_eq!(cluster.psql("select number from numbers order by number"), "0\n1\n2");
    assert!(cluster.log().contains("database system was not properly shut down"), "{}", cluster.log());
}

#[test]
fn a_server_that_is_held_answers_when_it_goes_on() {
    let Some(cluster) = Cluster::start() else { return };
    let mut known = cluster.session();
    assert_eq!(known.ask("select 1"), "1");
    cluster.pause();
    known.send("select 2");
    let mut new = cluster.session();
    new.send("select 3");
    assert_eq!((known.answer(SILENCE), new.answer(SILENCE)), (None, None));
    cluster.go_on();
    assert_eq!((known.answer(PATIENCE), new.answer(PATIENCE)), (Some("2".to_owned()), Some("3".to_owned())));
    // Neither a kill nor the end of the test waits for it to go on.
    cluster.pause();
    cluster.kill9();
    cluster.start_again();
    assert_eq!(cluster.psql("select 4"), "4");
    cluster.pause();
}

#[test]
fn a_server_that_reads_only_says_so_to_sessions_old_and_new() {
    let Some(cluster) = Cluster::start() else { return };
    let mut known = cluster.session();
    for (is_so, told) in [(true, "on"), (false, "off")] {
        cluster.read_only(is_so);
        assert_eq!(known.ask("show transaction_read_only"), told);
        assert_eq!(cluster.psql("show transaction_read_only"), told);
        assert_eq!(cluster.try_psql(&format!("create table of_{told} ()")).is_ok(), !is_so);
    }
}

#[test]
fn a_standby_follows_and_takes_over() {
    let Some(primary) = Cluster::start() else { return };
    primary.psql("create table numbers as select 1 as number");
    let standby = Cluster::standby_of(&primary);
    primary.psql("insert into numbers values (2)");
    standby.wait_for_all_of(&primary);
    assert_eq!(standby.psql("select sum(number), pg_is_in_recovery() from numbers"), "3|t");
    assert!(standby.try_psql("insert into numbers values (3)").unwrap_err().contains("read-only transaction"));
    primary.kill9();
    standby.promote();
    standby.psql("insert into numbers values (3)");
    assert_eq!(standby.psql("select sum(number), pg_is_in_recovery() from numbers"), "6|f");
    standby.kill9();
    standby.start_again();
    assert_eq!(standby.psql("select sum(number), pg_is_in_recovery() from numbers"), "6|f");
}

#[test]
fn a_password_is_wanted_over_tcp_and_the_certificate_is_for_its_address() {
    let Some(primary) = Cluster::on_tcp(&[]) else { return };
    let standby = Cluster::standby_of(&primary);
    assert_ne!(primary.address(), standby.address());
    for cluster in [&primary, &standby] {
        assert_eq!(over_tcp(cluster, "127.0.0.1", "disable", PASSWORD).as_deref(), Ok("f"));
        assert_eq!(over_tcp(cluster, "127.0.0.1", "verify-full", PASSWORD).as_deref(), Ok("t"));
        let refused = over_tcp(cluster, "127.0.0.1", "verify-full", "another").unwrap_err();
        assert!(refused.contains("password authentication failed"), "{refused}");
        let refused = over_tcp(cluster, "localhost", "verify-full", PASSWORD).unwrap_err();
        assert!(refused.contains("does not match host name"), "{refused}");
        assert_eq!(cluster.psql("select 1"), "1");
        assert!(cluster.url().contains("&port="));
    }
    let both = format!("postgres://runhound@{},{}/runhound", primary.address(), standby.address());
    assert_eq!(Cluster::tcp_url(&[&primary, &standby]), both);
    assert!(
        Cluster::tls_url(&[&primary, &standby]).starts_with(&format!("{both}?sslmode=verify-full&sslrootcert=/tmp/"))
    );
    // Its address is the same in each of its lives.
    primary.kill9();
    TcpListener::bind(primary.address()).unwrap();
    primary.start_again();
    assert_eq!(over_tcp(&primary, "127.0.0.1", "verify-full", PASSWORD).as_deref(), Ok("t"));
}
