//! The promise itself, on the real program: answered 2xx means counted once.

use crate::{
    github::workflow_run,
    harness::{PATIENCE, Process, Service, Start, now, pushed, sent, signal},
    intake::{Intake, Order},
};
use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

const TOTAL: &str = "github.actions.workflow_run.total";

/// Which of four tag sets and ten seconds a run is of.
fn run(id: u64, start: i64) -> crate::github::RunBuilder {
    let workflow = ["ci", "nightly", "release", "docs"][usize::try_from(id % 4).unwrap()];
    let end = start - i64::try_from(id % 10).unwrap();
    workflow_run(id).workflow(workflow).started_at(end - 61).updated_at(end)
}

/// Delivers runs from several connections at once; how many answers of each status.
fn deliver_all(service: &Service, ids: &[u64], start: i64) -> (usize, usize) {
    let accepted = AtomicUsize::new(0);
    let duplicate = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (accepted, duplicate) = (&accepted, &duplicate);
            scope.spawn(move || {
                for id in ids.iter().skip(worker).step_by(8) {
                    let answer = service.deliver(&run(*id, start));
                    match answer.status {
                        202 => accepted.fetch_add(1, Ordering::Relaxed),
                        200 => duplicate.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}: {answer:?}"),
                    };
                }
            });
        }
    });
    (accepted.into_inner(), duplicate.into_inner())
}

#[test]
fn six_hundred_runs_delivered_three_times_each_while_pushes_fail_count_six_hundred() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let start = now();
    let mut tries = 0_u32;
    intake.set_policy(move |_| {
        tries += 1;
        // Every third push fails, each time in another way.
        match (tries % 3, tries / 3 % 6) {
            (1, 0) => Order::status(503),
            (1, 1) => Order::StoreThenDrop,
            (1, 2) => Order::Reset,
            (1, 3) => Order::StoreThenStatus(500),
            (1, 4) => Order::status(429),
            (1, _) => Order::StoreLater,
            _ => Order::Take,
        }
    });
    let ids: Vec<u64> = (1..=600).flat_map(|id| [id, id, id]).collect();
    let (first, second) = ids.split_at(900);
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    let one = deliver_all(&service, first, start);
    let pushed: usize = service.stop().iter().filter_map(|line| pushed(line)).sum();
    let service = launch.start();
    let two = deliver_all(&service, second, start);
    assert_eq!((one.0 + two.0, one.1 + two.1), (600, 1200));
    let cache = dir.path().join("sent-workflows.json");
    service.wait_for_pushes(600 - pushed);
    intake.land_late();
    intake.assert_contract();
    assert_eq!(intake.count(TOTAL), 600.0);
    assert_eq!(intake.count("github.actions.workflow_run.duration_second_total"), 600.0 * 61.0);
    service.stop();
    let marked = sent(&cache);
    assert_eq!((marked.len(), marked.iter().collect::<HashSet<_>>().len()), (600, 600));
}

#[test]
fn kill_9_between_datadogs_202_and_the_mark_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let victim = Arc::new(AtomicU32::new(0));
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    victim.store(service.id(), Ordering::SeqCst);
    let killed = Arc::new(Mutex::new(0));
    intake.set_policy({
        let (victim, killed) = (Arc::clone(&victim), Arc::clone(&killed));
        move |_| {
            let process = victim.swap(0, Ordering::SeqCst);
            if process > 0 {
                // Counted first, for whoever waits for its end goes on at once.
                *killed.lock().unwrap() += 1;
                signal(process, "KILL");
            }
            // It is stored, and answered 202 to whoever is left.
            Order::Take
        }
    });
    let start = now();
    for id in 1..=20 {
        // The first of them may be pushed, and the process be killed, before the last is delivered.
        if victim.load(Ordering::SeqCst) == 0 {
            break;
        }
        if service.try_deliver(&run(id, start)).is_err() {
            break;
        }
    }
    let (status, _) = service.wait();
    assert!(!status.success());
    assert_eq!(*killed.lock().unwrap(), 1);
    assert_eq!(sent(&dir.path().join("sent-workflows.json")), Vec::<String>::new());
    let service = launch.start();
    let (accepted, duplicate) = deliver_all(&service, &(1..=20).collect::<Vec<_>>(), start);
    assert_eq!(accepted + duplicate, 20);
    assert!(duplicate > 0);
    intake.wait_until(|state| state.count(TOTAL) >= 20.0, PATIENCE);
    service.stop();
    intake.assert_contract();
    assert_eq!(intake.count(TOTAL), 20.0);
    assert_eq!(sent(&dir.path().join("sent-workflows.json")).len(), 20);
}

#[test]
fn what_is_pending_at_a_stop_is_said_and_goes_out_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::stopped();
    let launch = Start::live(dir.path(), &intake);
    for signal in ["TERM", "INT"] {
        let service = launch.start();
        service.deliver(&workflow_run(1));
        service.deliver(&workflow_run(2));
        service.signal(signal);
        let (status, log) = service.wait();
        assert!(status.success(), "{signal}: {status}");
        assert!(log.iter().any(|line| line.contains("2 runs are pending")), "{signal}: {log:#?}");
    }
    intake.restart();
    let service = launch.start();
    assert!(service.start_line.contains("0 IDs known, 2 runs pending"), "{}", service.start_line);
    intake.wait_until(|state| state.count(TOTAL) >= 2.0, PATIENCE);
    service.stop();
    assert_eq!(sent(&dir.path().join("sent-workflows.json")), ["1", "2"]);
}

#[test]
fn a_second_live_process_waits_for_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let launch = Start::live(dir.path(), &intake);
    let first = launch.start();
    let mut second = Process(launch.command().stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(second.0.stderr.take().unwrap()).lines();
    assert!(log.next().unwrap().unwrap().contains("waiting up to 30 s"));
    first.stop();
    assert!(log.next().unwrap().unwrap().contains("listening on"));
}

#[test]
fn a_cache_of_the_plans_program_is_honoured_byte_for_byte_and_a_damaged_one_refused_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let path = dir.path().join("sent-workflows.json");
    let seed = "{\n  \"sent\": [\n    \"30433642\",\n    \"workflow-1\"\n  ]\n}";
    std::fs::write(&path, seed).unwrap();
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    assert!(service.start_line.contains("2 IDs known"), "{}", service.start_line);
    assert_eq!(service.deliver(&workflow_run(30_433_642)).says(), "duplicate");
    service.stop();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), seed);
    let damaged = &seed[..30];
    std::fs::write(&path, damaged).unwrap();
    let output = launch.command().output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("sent-workflows.json is damaged at byte") && error.contains("\nhint: "), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
}

#[test]
fn secrets_reach_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    intake.order_many([Order::status(403), Order::Reset]);
    let launch = Start::live(dir.path(), &intake).variable("RUST_LOG", "trace");
    let service = launch.start();
    service.deliver(&workflow_run(1));
    service.request("POST", "/webhook", &[], b"");
    service.wait_for_log("403");
    let log = service.stop().join("\n");
    assert!(!log.contains(crate::intake::TEST_KEY) && !log.contains(crate::harness::SECRET), "{log}");
}
