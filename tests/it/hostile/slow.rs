//! Ten thousand connections that say nothing, or little by little.

use super::{GITHUBS_PATIENCE, connect, delivery, exchange, is_open, read_to_close, statuses, wrong_signature};
use crate::harness::{PATIENCE, SECRET, Service, Start};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const WANTED: usize = 10_000;
const DELIVERIES: u64 = 200;

/// Files that this process and the service need for other things, other tests at the same time among them.
const OTHER_FILES: usize = 2_000;

/// How many connections this process can hold at one time, and the service too, for its limit is the same.
fn connections() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let files = maximum.map_or(usize::MAX, |files| usize::try_from(files).unwrap());
    let room = files.saturating_sub(OTHER_FILES).max(files / 2);
    if room < WANTED {
        println!("the limit of open files, {files}, leaves room for {room} connections instead of {WANTED}");
    }
    room.min(WANTED)
}

/// How a connection is slow.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Silent,
    Head,
    Body,
}

fn open(service: &Service, manner: Manner) -> TcpStream {
    let mut stream = connect(service.address);
    let signature = wrong_signature();
    let begun = match manner {
        Manner::Silent => String::new(),
        Manner::Head => "POST /webhook HTTP/1.1\r\nHost: x\r\nX-Drip: ".to_owned(),
        Manner::Body => format!("POST /webhook HTTP/1.1\r\nHost: x\r\n{signature}Content-Length: 1000000\r\n\r\n"),
    };
    stream.write_all(begun.as_bytes()).unwrap();
    stream
}

/// Delivers new runs, each on a connection of its own; how long each took to be answered, in order of that time.
fn deliver(service: &Service, first_id: u64) -> Vec<Duration> {
    let one = |id| {
        let begun = Instant::now();
        let answer = exchange(service.address, &delivery(id, SECRET, "close"));
        assert_eq!(statuses(&answer), [202], "{answer}");
        begun.elapsed()
    };
    let mut took: Vec<Duration> = (first_id..first_id + DELIVERIES).map(one).collect();
    took.sort_unstable();
    assert!(took.last().is_some_and(|longest| *longest < GITHUBS_PATIENCE), "{took:?}");
    took
}

fn told(took: &[Duration]) -> String {
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    format!("median {:?}, p99 {:?}, longest {:?}", at(50), at(99), at(100))
}

#[test]
fn ten_thousand_slow_connections_keep_no_delivery_from_its_answer_and_are_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    let without = deliver(&service, 1);
    let manners = [Manner::Silent, Manner::Head, Manner::Body].into_iter().cycle();
    let begun = Instant::now();
    let slow: Vec<(Manner, TcpStream)> =
        manners.take(connections()).map(|manner| (manner, open(&service, manner))).collect();
    println!("{} slow connections within {:?}", slow.len(), begun.elapsed());
    let is_done = AtomicBool::new(false);
    let with = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                for (_, stream) in slow.iter().filter(|(manner, _)| !matches!(manner, Manner::Silent)) {
                    // It may have been let go already.
                    drop((&*stream).write_all(b"x"));
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let with = deliver(&service, 1_000);
        is_done.store(true, Ordering::Relaxed);
        with
    });
    let open = slow.iter().filter(|(_, stream)| is_open(stream)).count();
    println!("without: {}", told(&without));
    println!("with:    {}; {open} slow connections were open at its end", told(&with));
    for (manner, mut stream) in slow {
        let answer = read_to_close(&mut stream);
        // One that was written to after it was closed is reset, and its answer lost.
        let is_as_told = answer.is_empty() && !matches!(manner, Manner::Silent) || statuses(&answer) == [408];
        assert!(is_as_told, "{manner:?}: {answer}");
    }
    assert!(begun.elapsed() < GITHUBS_PATIENCE + PATIENCE, "{:?}", begun.elapsed());
    deliver(&service, 2_000);
}
