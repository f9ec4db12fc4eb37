//! A socket that somebody else holds, as systemd does: it goes on taking connections while no service runs.

use crate::{
    github::workflow_run,
    harness::{HAND_OVER, Start, sent},
};
use std::{
    net::{TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    process::{Command, Stdio},
    sync::Arc,
};

/// What `sh` makes of its standard input and of the arguments before it becomes the service.
fn refused(hand_over: &str, stdin: OwnedFd) -> String {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::dry_run(dir.path()).command();
    let mut command = Command::new("sh");
    command.args(["-c", hand_over, "sh"]).arg(start.get_program()).args(start.get_args()).env_clear();
    command.envs(start.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.stdin(stdin).stdout(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn deliveries_that_come_in_while_no_service_runs_are_answered_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let socket = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    // The door that is handed over takes the place of the flag's.
    let start = Start::dry_run(dir.path()).argument("--shutdown-timeout=5").on_socket(&socket);
    let service = start.start();
    assert_eq!(service.address, socket.local_addr().unwrap());
    assert_eq!(service.deliver(&workflow_run(1)).status, 202);
    let github = service.client();
    service.stop();
    // The connection is taken, by the queue of the socket; the answer has to wait for somebody to give it.
    let waiting = std::thread::spawn(move || github.deliver(&workflow_run(2)));
    let next = start.start();
    assert_eq!(waiting.join().unwrap().status, 202);
    assert_eq!(next.deliver(&workflow_run(2)).says(), "duplicate");
    next.stop();
    assert_eq!(sent(&dir.path().join("sent-workflows-dry-run.json")), ["1", "2"]);
}

#[test]
fn a_socket_that_cannot_be_used_is_told_at_the_start() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let told = refused(HAND_OVER, udp.into());
    assert!(told.contains("runhound: LISTEN_FDS: ") && told.contains("not a valid tcp socket"), "{told}");
    assert!(told.contains("hint: the socket unit wants one ListenStream="), "{told}");

    let two = r#"exec 3<&0 4<&0 </dev/null; LISTEN_FDS=2 LISTEN_PID=$$ exec "$@""#;
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let told = refused(two, tcp.as_fd().try_clone_to_owned().unwrap());
    assert!(told.contains("LISTEN_FDS: 2 sockets were handed over, and one is needed"), "{told}");
}

#[test]
fn a_socket_for_another_process_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::dry_run(dir.path()).variable("LISTEN_FDS", "1").variable("LISTEN_PID", "1");
    let service = start.start();
    assert_eq!(service.deliver(&workflow_run(1)).status, 202);
}
