//! Start and stop, as an orchestrator and systemd see them.

use crate::{
    github::{self, workflow_run},
    harness::{PATIENCE, SECRET, Service, Start, now},
    intake::{Intake, Order},
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    time::Instant,
};

/// What is sent to the socket next.
fn told(socket: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let len = socket.recv(&mut message).unwrap();
    String::from_utf8(message[..len].to_vec()).unwrap()
}

#[test]
fn systemd_is_told_when_the_service_is_ready_alive_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let start = Start::dry_run(&dir.path().join("cache"))
        .variable("NOTIFY_SOCKET", path.to_str().unwrap())
        .variable("WATCHDOG_USEC", "200000");
    let service = start.start();
    let ready = told(&socket);
    assert!(
        ready.contains("READY=1") && ready.contains(&format!("STATUS=receiving at {}", service.address)),
        "{ready}"
    );
    for _ in 0..3 {
        assert_eq!(told(&socket).trim(), "WATCHDOG=1");
    }
    let wait = std::thread::spawn(move || service.stop());
    let stopping = std::iter::repeat_with(|| told(&socket)).find(|message| !message.contains("WATCHDOG=1")).unwrap();
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
    wait.join().unwrap();
}

#[test]
fn a_stop_makes_one_last_push_of_runs_that_wait_for_their_second_too() {
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    let end = now();
    for id in 1..=3 {
        assert_eq!(service.deliver(&workflow_run(id).started_at(end - 61).updated_at(end)).status, 202);
    }
    let log = service.stop();
    assert!(log.iter().any(|line| line.contains("3 pushed; nothing is pending")), "{log:#?}");
    assert_eq!(intake.count("github.actions.workflow_run.total"), 3.0);
}

#[test]
fn a_stop_finishes_a_delivery_that_is_under_way_and_takes_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    let run = workflow_run(1).body();
    let signature = github::sign(SECRET, run.as_bytes());
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nX-GitHub-Event: workflow_run\r\n\
         X-Hub-Signature-256: {signature}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        service.address,
        run.len()
    );
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 Continue"), "the request is under way");
    service.signal("TERM");
    service.wait_for_log("stopping: finishing requests");
    let begun = Instant::now();
    while TcpStream::connect(service.address).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "somebody still listens");
    }
    stream.write_all(run.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let (status, log) = service.wait();
    assert!(status.success(), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("1 accepted") && line.contains("nothing is pending")), "{log:#?}");
}

/// A service whose thread that writes the files hangs in a read, as it would on a disk that does not answer.
fn hanging(dir: &Path, shutdown_timeout_s: u32) -> Service {
    let timeout = format!("--shutdown-timeout={shutdown_timeout_s}");
    let service = Start::dry_run(dir).with_admin().argument(&timeout).start();
    // Whoever opens a pipe to read waits for somebody who writes.
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, dir.join("lock-dry-run")).unwrap();
    assert_eq!(service.deliver(&workflow_run(1)).status, 202);
    service.wait_for_log("would have processed 1 ");
    service
}

#[test]
fn a_disk_that_hangs_is_told_and_keeps_nobody_from_stopping_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let service = hanging(dir.path(), 2);
    let begun = Instant::now();
    // The lock is read a moment after that line of the log.
    let answer = loop {
        match service.ask("/readyz").0 {
            answer if answer.status == 503 => break answer,
            _ => assert!(begun.elapsed() < PATIENCE, "it does not hang"),
        }
    };
    assert!(answer.body["reason"].as_str().unwrap().contains("has not answered for 3 s"), "{answer:?}");
    let (answer, metrics) = service.ask("/metrics");
    assert!(answer.status == 200 && metrics.contains("\nrunhound_ready 0\n"), "{metrics}");
    assert_eq!(service.ask("/healthz").0.status, 200);
    service.signal("TERM");
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(1), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("runhound: the service failed: the ledger does not answer")), "{log:#?}");
}

#[test]
fn a_second_signal_ends_the_service_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than the test would wait.
    let service = hanging(dir.path(), 600);
    service.signal("TERM");
    service.wait_for_log("stopping: finishing requests");
    service.signal("INT");
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(1), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("told twice to stop")), "{log:#?}");
}

#[test]
fn a_push_that_hangs_keeps_nobody_from_stopping_in_time_and_what_is_pending_stays() {
    let intake = Intake::start();
    intake.set_policy(|_| Order::Hang);
    let dir = tempfile::tempdir().unwrap();
    let launch = Start::live(dir.path(), &intake);
    let service = launch.clone().argument("--shutdown-timeout=2").start();
    assert_eq!(service.deliver(&workflow_run(1).started_at(now() - 61).updated_at(now())).status, 202);
    let log = service.stop();
    assert!(log.iter().any(|line| line.contains("stopping in the middle of a push")), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("1 runs are pending")), "{log:#?}");
    intake.recover();
    intake.release();
    assert_eq!(launch.start().standing(), (0, 1));
}

#[test]
fn a_stop_without_time_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = Start::dry_run(dir.path()).argument("--shutdown-timeout=0").command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
