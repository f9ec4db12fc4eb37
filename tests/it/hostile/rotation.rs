//! Secrets and certificates that change while deliveries flow.

use super::{
    delivery, exchange, statuses, strange,
    tls::{self, Pair},
};
use crate::harness::{PATIENCE, Start};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

const CLIENTS: usize = 4;

/// Deliveries that are answered after each change before the next one.
const BETWEEN: u64 = 60;

/// Deliveries that flow from several clients until all is done, each of a new run, and each accepted.
struct Flow {
    address: SocketAddr,
    ids: AtomicU64,
    accepted: AtomicU64,
    is_over: AtomicBool,
}

impl Flow {
    fn new(address: SocketAddr) -> Self {
        Self { address, ids: AtomicU64::new(1), accepted: AtomicU64::new(0), is_over: AtomicBool::new(false) }
    }

    /// Runs `send`, which delivers the run with this ID from this client, while `changes` are made.
    fn run(&self, send: impl Fn(SocketAddr, usize, u64) -> u16 + Sync, changes: impl FnOnce()) -> u64 {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let send = &send;
                scope.spawn(move || {
                    while !self.is_over.load(Ordering::Relaxed) {
                        let id = self.ids.fetch_add(1, Ordering::Relaxed);
                        let is_accepted = send(self.address, client, id) == 202;
                        if !is_accepted {
                            self.is_over.store(true, Ordering::Relaxed);
                        }
                        assert!(is_accepted, "run {id} of client {client} was refused");
                        self.accepted.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // However it ends, it is over for the clients too.
            let _over = Over(&self.is_over);
            self.wait();
            changes();
        });
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until more deliveries have been answered.
    fn wait(&self) {
        let (begun, from) = (Instant::now(), self.accepted.load(Ordering::Relaxed));
        while self.accepted.load(Ordering::Relaxed) < from + BETWEEN && !self.is_over.load(Ordering::Relaxed) {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
}

struct Over<'f>(&'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Puts a new file in the place of another, in one step.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn webhook_secrets_rotate_under_load_and_no_delivery_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secrets");
    fs::write(&file, "first\n").unwrap();
    let service = Start::dry_run(&dir.path().join("cache"))
        .variable("GITHUB_WEBHOOK_SECRET", "")
        .variable("GITHUB_WEBHOOK_SECRET_FILE", file.to_str().unwrap())
        .start();
    let flow = Flow::new(service.address);
    // GitHub's hooks do not change at one moment: each client has its own secret.
    let secrets: Vec<Mutex<&str>> = (0..CLIENTS).map(|_| Mutex::new("first")).collect();
    let send = |address, client: usize, id| {
        let secret = *secrets[client].lock().unwrap();
        statuses(&exchange(address, &delivery(id, secret, "close"))).first().copied().unwrap_or(0)
    };
    let switch = |to, clients: &[usize]| clients.iter().for_each(|client| *secrets[*client].lock().unwrap() = to);
    let all: Vec<usize> = (0..CLIENTS).collect();
    let accepted = flow.run(send, || {
        replace(&file, "first\nsecond\n");
        flow.wait();
        switch("second", &all[..2]);
        flow.wait();
        switch("second", &all);
        replace(&file, "second\n");
        flow.wait();
        // Plainly from one to the next, some still on the old one, and the file rewritten in place.
        fs::write(&file, "third\n").unwrap();
        switch("third", &all[..2]);
        flow.wait();
        switch("third", &all);
        flow.wait();
    });
    println!("{accepted} deliveries, none refused");
    let wrong = exchange(service.address, &delivery(u64::MAX, "fourth", "close"));
    assert_eq!(statuses(&wrong), [401]);
    let log = service.stop();
    let changes = strange(&log);
    assert_eq!(
        changes.iter().filter(|line| line.contains("the file of webhook secrets changed")).count(),
        3,
        "{log:#?}"
    );
    assert!(!log.iter().any(|line| ["first", "second", "third"].iter().any(|secret| line.contains(secret))));
}

#[test]
fn the_tls_pair_rotates_under_load_and_no_delivery_is_refused() {
    let (first, second) = (Pair::new(), Pair::new());
    let (dir, service) = first.serve(&[]);
    let flow = Flow::new(service.address);
    let both = tls::client(&[&first, &second], &[]);
    let send = |address, _, id| {
        let bytes = delivery(id, crate::harness::SECRET, "close");
        tls::exchange(&both, address, &bytes).map_or(0, |(answer, ..)| answer.status)
    };
    let served = |id| {
        let bytes = delivery(id, crate::harness::SECRET, "close");
        tls::exchange(&both, service.address, &bytes).unwrap().1
    };
    let accepted = flow.run(send, || {
        second.write(dir.path());
        flow.wait();
        assert_eq!(served(1_000_001), second.der(), "a new connection has the new one");
        first.write(dir.path());
        flow.wait();
        assert_eq!(served(1_000_002), first.der());
        // A certificate whose key does not follow.
        replace(&dir.path().join("tls.crt"), &second.certificate);
        flow.wait();
        assert_eq!(served(1_000_003), first.der(), "the pair of before");
    });
    println!("{accepted} deliveries, none refused");
    let log = service.stop();
    let warnings = log.iter().filter(|line| line.contains("the certificate and its key of before is used")).count();
    assert!((1..=3).contains(&warnings), "one for each time that they did not belong together: {log:#?}");
}
