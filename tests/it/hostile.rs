//! What strangers can do from outside, and what an operator can change under load: neither costs a delivery its answer.

mod limits;
mod malformed;
mod rotation;
mod slow;
mod smuggling;
mod tls;

use crate::{
    github::{sign, workflow_run},
    harness::{Answer, PATIENCE, SECRET, Service},
};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// GitHub's own patience with an answer.
const GITHUBS_PATIENCE: Duration = Duration::from_secs(10);

/// A delivery of a new run as GitHub sends it, whole.
fn delivery(id: u64, secret: &str, connection: &str) -> Vec<u8> {
    let body = workflow_run(id).body();
    let signature = sign(secret, body.as_bytes());
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: runhound\r\nConnection: {connection}\r\nX-GitHub-Event: workflow_run\r\n\
         Content-Type: application/json\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A signature header that is well-formed, and wrong.
fn wrong_signature() -> String {
    format!("X-Hub-Signature-256: sha256={}\r\n", "5a".repeat(32))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes back on a connection until it is closed, in whichever way.
#[track_caller]
fn read_to_close(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            panic!("the connection was not closed: {:?}", String::from_utf8_lossy(&text))
        }
        _ => String::from_utf8_lossy(&text).into_owned(),
    }
}

/// Whether nothing has come back on a connection yet.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Sends bytes and nothing more; what comes back until the connection is closed.
#[track_caller]
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // A server that answers early may stop reading.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(Shutdown::Write));
    read_to_close(&mut stream)
}

/// The statuses of the answers in what came back.
fn statuses(text: &str) -> Vec<u16> {
    let starts = text.match_indices("HTTP/1.1 ").filter_map(|(at, start)| text.get(at + start.len()..));
    starts.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

/// Reads one answer with a length from a connection that stays open.
fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let (mut text, mut byte) = (String::new(), [0]);
    loop {
        stream.read_exact(&mut byte)?;
        text.push(char::from(byte[0]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lengths =
            head.lines().filter_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= lengths.max().unwrap_or(0) {
            return Answer::read(&text);
        }
    }
}

/// All that a service logs but what its operator, this machine and GitHub cause.
fn strange(log: &[String]) -> Vec<&String> {
    let usual = [
        "listening on",
        "too few for 16000 connections",
        "accepted ",
        "pushed ",
        "dry run: ",
        "cost: ",
        "stopping: ",
        "stopped: ",
    ];
    log.iter().filter(|line| !usual.iter().any(|usual| line.contains(usual))).collect()
}

#[track_caller]
fn assert_accepted(service: &Service, id: u64) {
    let answer = exchange(service.address, &delivery(id, SECRET, "close"));
    assert_eq!(statuses(&answer), [202], "{answer}");
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.replace('_', "").parse().unwrap())
}
