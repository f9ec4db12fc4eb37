//! Start and stop, as an orchestrator and systemd see them.

use crate::{
    github::workflow_run,
    harness::{PATIENCE, Start, now},
    intake::{Intake, Order},
};
use std::os::unix::net::UnixDatagram;

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
fn a_stop_makes_one_last_push() {
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    assert_eq!(service.deliver(&workflow_run(1).started_at(now() - 61).updated_at(now())).status, 202);
    // Whether it was pushed already or not.
    let log = service.stop();
    assert!(log.iter().any(|line| line.contains("1 pushed; nothing is pending")), "{log:#?}");
    assert_eq!(intake.count("github.actions.workflow_run.total"), 1.0);
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
