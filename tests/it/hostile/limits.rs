//! Each limit, met and passed.

use super::{assert_accepted, connect, delivery, is_open, read_answer, read_to_close, statuses, wrong_signature};
use crate::{
    github::{sign, workflow_run},
    harness::{PATIENCE, SECRET, Service, Start},
    intake::{Intake, Order},
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::Stdio,
    time::Instant,
};
use tempfile::TempDir;

fn service(arguments: &[&str]) -> (TempDir, Service) {
    let dir = tempfile::tempdir().unwrap();
    let start = arguments.iter().fold(Start::dry_run(dir.path()), |start, argument| start.argument(argument));
    let service = start.start();
    (dir, service)
}

/// Sends the head of a request with a body of so many bytes, and all of it but the last one.
fn hold_back(service: &Service, bytes: usize) -> TcpStream {
    let mut stream = connect(service.address);
    let signature = wrong_signature();
    let head = format!("POST /webhook HTTP/1.1\r\nHost: x\r\n{signature}Content-Length: {bytes}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &vec![b' '; bytes - 1]].concat()).unwrap();
    stream
}

#[test]
fn strangers_who_hold_bodies_back_keep_no_delivery_out() {
    let (_dir, service) = service(&["--max-unverified-mib=1", "--client-timeout=600"]);
    let mut held = vec![hold_back(&service, 60_000)];
    // Until one is refused, or has given way already.
    while held.iter().all(is_open) {
        held.push(hold_back(&service, 60_000));
    }
    let body = format!("{}{}", workflow_run(1).body(), " ".repeat(200_000));
    let begun = Instant::now();
    // Those that came in just now are safe from giving way.
    while service.post(&body, &[("X-GitHub-Event", "workflow_run")]).status != 202 {
        assert!(begun.elapsed() < PATIENCE, "it finds no room");
    }
    // Which came in first is for the server to say: two of its threads read them.
    let closed: Vec<Vec<u16>> =
        held.iter_mut().filter(|stream| !is_open(stream)).map(|stream| statuses(&read_to_close(stream))).collect();
    assert!(closed.contains(&vec![408]), "an older one gave way: {closed:?}");
    let newest = held.iter_mut().rev().find(|stream| is_open(stream)).expect("not all gave way");
    newest.write_all(b" ").unwrap();
    assert_eq!(statuses(&read_to_close(newest)), [401]);
}

#[test]
fn a_verified_body_counts_no_longer_among_those_that_are_not() {
    let (_dir, service) = service(&["--max-unverified-mib=1", "--max-in-flight-mib=1"]);
    let signed = |kib: usize| {
        let body = format!("{}{}", workflow_run(1).body(), " ".repeat(kib << 10));
        service.post(&body, &[("X-GitHub-Event", "workflow_run")]).status
    };
    assert_eq!(signed(900), 202);
    assert_eq!(signed(900), 200);
    assert_eq!(signed(1_100), 503, "it has no room by itself");
}

#[test]
fn verified_bodies_have_a_limit_of_their_own() {
    let (_dir, service) = service(&["--max-in-flight-mib=1"]);
    let body = format!("{}{}", workflow_run(1).body(), " ".repeat(1_100 << 10));
    let answer = service.post(&body, &[("X-GitHub-Event", "workflow_run")]);
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn connections_beyond_the_limit_wait_until_others_are_gone() {
    let (_dir, service) = service(&["--max-connections=2", "--client-timeout=1"]);
    let mut idle = [connect(service.address), connect(service.address)];
    assert_accepted(&service, 1);
    // Which of them is let go first is for the server to say; the delivery needed the place of one.
    assert!(idle.iter().any(|stream| !is_open(stream)), "one was let go before the delivery was looked at");
    for stream in &mut idle {
        assert_eq!(statuses(&read_to_close(stream)), [408]);
    }
}

#[test]
fn a_client_that_takes_too_long_for_head_or_body_is_answered_408_and_let_go() {
    let (_dirs, services): (Vec<_>, Vec<_>) =
        [service(&["--client-timeout=600"]), service(&["--client-timeout=1"])].into_iter().unzip();
    let signature = wrong_signature();
    let whole_head = format!("POST /webhook HTTP/1.1\r\nHost: x\r\n{signature}Content-Length: 9\r\n\r\n{{");
    for sent in ["", "POST /webhook HTTP/1.1\r\nHos", &whole_head] {
        let mut streams = services.iter().map(|service| connect(service.address)).collect::<Vec<_>>();
        for stream in &mut streams {
            stream.write_all(sent.as_bytes()).unwrap();
        }
        let answer = read_to_close(&mut streams[1]);
        assert_eq!(statuses(&answer), [408], "{sent:?}: {answer}");
        assert!(is_open(&streams[0]), "{sent:?}: it has more time");
    }
}

#[test]
fn a_connection_lives_on_after_a_verified_delivery_and_after_nothing_else() {
    let (_dir, service) = service(&["--client-timeout=600"]);
    let mut stream = connect(service.address);
    for (id, status) in [(1, 202), (1, 200), (2, 202)] {
        stream.write_all(&delivery(id, SECRET, "keep-alive")).unwrap();
        assert_eq!(read_answer(&mut stream).unwrap().status, status);
    }
    let wrong = delivery(3, "another secret", "keep-alive");
    let [good, more, behind] = [4, 5, 6].map(|id| delivery(id, SECRET, "keep-alive"));
    stream.write_all(&[good, more, wrong.clone(), behind].concat()).unwrap();
    let answers = read_to_close(&mut stream);
    assert_eq!(statuses(&answers), [202, 202, 401], "what comes behind the refused one is not looked at");
    for request in [&b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &wrong] {
        let mut stream = connect(service.address);
        stream.write_all(request).unwrap();
        let answer = read_to_close(&mut stream);
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
}

/// Runs the service under a limit of open files that a shell sets; its limit at work, and its log up to there.
fn open_files(limit: &str) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::dry_run(dir.path());
    let inner = start.command();
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(format!("ulimit {limit}; exec \"$0\" \"$@\"")).arg(inner.get_program()).args(inner.get_args());
    shell.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = crate::harness::Process(shell.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = Vec::new();
    for line in BufReader::new(child.0.stderr.take().unwrap()).lines() {
        log.push(line.unwrap());
        if log.last().is_some_and(|line| line.contains("listening on")) {
            break;
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.0.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    (line.split_whitespace().nth(3).unwrap().to_owned(), log)
}

#[test]
fn the_limit_of_open_files_is_raised_and_one_that_is_too_low_is_told() {
    let (soft, log) = open_files("-Sn 200");
    assert!(soft.parse::<u64>().unwrap() > 200, "{soft}");
    let hard = soft;
    let is_enough = hard.parse::<u64>().unwrap() >= 16_100;
    assert_eq!(log.iter().any(|line| line.contains("too few for 16000 connections")), !is_enough, "{log:#?}");
    let (soft, log) = open_files("-n 600");
    assert_eq!(soft, "600");
    let warning = "600 open files, the hard limit of this process, are too few for 16000 connections: 500 are taken";
    assert!(log.iter().any(|line| line.contains(warning)), "{log:#?}");
}

#[test]
fn a_journal_at_its_limit_is_503_until_datadog_has_taken_what_is_pending() {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    intake.set_policy(|_| Order::status(503));
    let service = Start::live(dir.path(), &intake).argument("--max-journal-mib=1").start();
    let journal = || fs::metadata(dir.path().join("journal.jsonl")).unwrap().len();
    let (address, name) = (service.address, "w".repeat(150));
    let deliver = |stream: &mut TcpStream, id: u64| {
        let body = workflow_run(id).workflow(&format!("{name}{id}")).body();
        let signature = sign(SECRET, body.as_bytes());
        let head = format!(
            "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Hub-Signature-256: {signature}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        read_answer(stream).unwrap()
    };
    let fill = |first: u64| {
        let mut stream = connect(address);
        (first..first + 100_000).map(|id| deliver(&mut stream, id)).find(|answer| answer.status != 202).unwrap()
    };
    std::thread::scope(|scope| {
        let fill = &fill;
        let fillers: Vec<_> = (1..=8).map(|part| scope.spawn(move || fill(part * 1_000_000))).collect();
        for filler in fillers {
            let answer = filler.join().unwrap();
            assert_eq!(answer.status, 503);
            assert!(answer.header("retry-after").is_some());
        }
    });
    assert!(journal() <= (1 << 20) + 100, "{}", journal());
    service.wait_for_log("--max-journal-mib 1");
    intake.recover();
    let begun = Instant::now();
    while deliver(&mut connect(address), 10_000_000).status != 202 {
        assert!(begun.elapsed() < PATIENCE, "nothing new is accepted");
    }
    service.wait_for_log("room again");
}
