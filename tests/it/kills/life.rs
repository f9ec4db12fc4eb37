//! How a life of the service ends, and when.

use crate::harness::{PATIENCE, signal};
use fastrand::Rng;
use std::{
    fs,
    path::Path,
    sync::{Condvar, Mutex},
    time::Instant,
};

/// The most new runs that wait for one push; a client that has more waits for the push too.
const RUNS_A_PUSH: usize = 40;

/// The end of a life.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// Killed when so many deliveries have been answered.
    AfterAnswers(usize),
    /// Killed when so many pushes have come in, before the last of them is answered.
    AtPush(usize),
    /// Killed on its way to listening: at once, or when it has opened this file.
    AtStart(Option<&'static str>),
    /// Stopped as an orchestrator does, when so many deliveries have been answered.
    Stopped(usize),
}

impl End {
    /// Ends of every kind, in any order.
    pub(super) fn round(rng: &mut Rng) -> Vec<Self> {
        let mut ends: Vec<Self> = (1..=3).map(Self::AtPush).collect();
        ends.extend((0..3).map(|_| Self::AfterAnswers(rng.usize(1..=60))));
        ends.extend([None, Some("lock"), Some("sent-workflows.json"), Some("journal.jsonl")].map(Self::AtStart));
        ends.push(Self::Stopped(rng.usize(1..=60)));
        rng.shuffle(&mut ends);
        ends
    }

    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::AfterAnswers(_) => "after an answer",
            Self::AtPush(_) => "at a push",
            Self::AtStart(_) => "at the start",
            Self::Stopped(_) => "by a stop",
        }
    }
}

/// A life of the service under load.
#[derive(Debug)]
pub(super) struct Life {
    process: u32,
    end: End,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// What has happened in it.
#[derive(Debug, Default)]
struct Seen {
    answers: usize,
    accepted: usize,
    pushes: usize,
    is_ended: bool,
}

impl Life {
    pub(super) fn new(process: u32, end: End) -> Self {
        Self { process, end, seen: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.seen.lock().unwrap().is_ended
    }

    pub(super) fn count_answer(&self, is_accepted: bool) {
        self.count(|seen| {
            seen.answers += 1;
            seen.accepted += usize::from(is_accepted);
        });
    }

    pub(super) fn count_push(&self) {
        self.count(|seen| seen.pushes += 1);
    }

    /// Ends the life if it is time, once: nobody waits for the process before, so its number is not another's yet.
    fn count(&self, count: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap();
        count(&mut seen);
        self.changed.notify_all();
        let name = match self.end {
            End::AfterAnswers(last) if seen.answers >= last => "KILL",
            End::AtPush(last) if seen.pushes >= last => "KILL",
            End::Stopped(last) if seen.answers >= last => "TERM",
            _ => return,
        };
        if !std::mem::replace(&mut seen.is_ended, true) {
            signal(self.process, name);
        }
    }

    /// Waits while so much was accepted that a push must come.
    pub(super) fn wait_for_room(&self) {
        let is_full = |seen: &mut Seen| !seen.is_ended && seen.accepted >= RUNS_A_PUSH * (seen.pushes + 1);
        let waited = self.changed.wait_timeout_while(self.seen.lock().unwrap(), PATIENCE, is_full).unwrap();
        assert!(!waited.1.timed_out(), "no push came: {self:?}");
    }
}

/// Waits until the process has the file open. Where that cannot be seen it does not wait.
pub(super) fn wait_until_open(process: u32, path: &Path) {
    let begun = Instant::now();
    while let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) {
        if open.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|file| file == path)) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{} is not opened", path.display());
        std::thread::yield_now();
    }
}
