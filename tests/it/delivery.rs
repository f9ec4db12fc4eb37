//! Delivery, driven step by step on a clock that a test moves, into an intake that keeps Datadog's rules.

mod aside;
mod noticed;
mod outages;
mod verdicts;

use crate::{
    harness::now,
    intake::{Intake, TEST_KEY},
    logged,
};
use runhound::{
    datadog::{ApiKey, Client, Endpoint},
    delivery::{Clock, Delivery, Moment, Step},
    ledger::{Accepted, Files, Ledger, Mode, Opened, Options, Reruns},
    metrics::{Run, TagSet},
    vitals::Totals,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};
use tempfile::TempDir;

const TOTAL: &str = "github.actions.workflow_run.total";
const DURATION_TOTAL: &str = "github.actions.workflow_run.duration_second_total";

/// A ledger, a delivery and an intake, on one clock that only moves when it is told to.
struct Line {
    dir: TempDir,
    intake: Intake,
    clock: Arc<Mutex<Moment>>,
    start: i64,
    ledger: Option<Ledger>,
    owner: Option<JoinHandle<()>>,
    delivery: Option<Delivery>,
}

impl Line {
    fn new() -> Self {
        logged::keep();
        let start = now();
        let clock = Moment { monotonic: Duration::from_secs(1_000), unix: start };
        let mut line = Self {
            dir: tempfile::tempdir().unwrap(),
            intake: Intake::start(),
            clock: Arc::new(Mutex::new(clock)),
            start,
            ledger: None,
            owner: None,
            delivery: None,
        };
        line.open();
        line
    }

    fn open(&mut self) {
        let files = Files::new(self.dir.path(), Mode::Live);
        let Opened { ledger, owner, .. } = Ledger::open(Options::new(files, Reruns::Push, self.start - 7200)).unwrap();
        let clock = Arc::clone(&self.clock);
        let key = ApiKey::new(TEST_KEY).unwrap().of_file(&self.key_file());
        let client = Client::new(Endpoint::new(&self.intake.url()).unwrap(), key).unwrap();
        let read = Clock::new(move || *clock.lock().unwrap());
        let delivery = Delivery::new(ledger.clone(), Some(client), read, Box::new(|longest| longest));
        (self.ledger, self.owner, self.delivery) = (Some(ledger), Some(owner), Some(delivery));
    }

    /// The file that the key is read from, once there is one.
    fn key_file(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    /// Ends delivery and ledger wherever they are.
    fn stop(&mut self) {
        drop((self.delivery.take(), self.ledger.take()));
        self.owner.take().unwrap().join().unwrap();
    }

    /// And opens them anew.
    fn restart(&mut self) {
        self.stop();
        self.open();
    }

    fn delivery(&mut self) -> &mut Delivery {
        self.delivery.as_mut().unwrap()
    }

    fn totals(&mut self) -> Totals {
        self.delivery().totals()
    }

    fn passed(&self) -> i64 {
        self.clock.lock().unwrap().unix - self.start
    }

    /// Lets time pass, here and at Datadog.
    fn pass(&self, time: Duration) {
        let mut clock = self.clock.lock().unwrap();
        // Whole seconds, for the intake's clock has no others.
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        clock.monotonic += Duration::from_secs(seconds);
        clock.unix += i64::try_from(seconds).unwrap();
        self.intake.set_clock_offset(clock.unix - self.start);
    }

    async fn accept(&self, id: u64, workflow: &str) {
        self.accept_ended(id, workflow, now() + self.passed() - 10).await;
    }

    async fn accept_ended(&self, id: u64, workflow: &str, end: i64) {
        self.accept_tagged(id, &["conclusion:success", &format!("workflow_name:{workflow}")], end).await;
    }

    async fn accept_tagged(&self, id: u64, tags: &[&str], end: i64) {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let tag_set = Arc::new(TagSet::of_runs("github.actions".to_owned(), tags));
        let run = Run { key: id.to_string().parse().unwrap(), end, duration_ms: Some(61_000), job: None, tag_set };
        assert_eq!(self.ledger.as_ref().unwrap().accept(run, now()).await.unwrap(), Accepted::New);
    }

    async fn pending(&self) -> usize {
        self.ledger.as_ref().unwrap().standing().await.unwrap().pending
    }

    /// Steps until there is nothing to do at once; how long to wait then.
    async fn go(&mut self) -> Option<Duration> {
        loop {
            match self.delivery().step().await {
                Step::Moved | Step::Pushed { .. } => {}
                Step::Wait(wait) => return Some(wait),
                Step::Idle => return None,
            }
        }
    }

    /// Steps, and lets time pass wherever there is to wait, for so long at the most.
    async fn go_on_for(&mut self, time: Duration) {
        let end = self.passed() + i64::try_from(time.as_secs()).unwrap();
        while let Some(wait) = self.go().await {
            if self.passed() >= end {
                return;
            }
            self.pass(wait);
        }
    }

    /// Everything is sent, counted as it should be, and nothing was ever overwritten by another value.
    #[track_caller]
    fn assert_exact(&self, runs: u32) {
        self.intake.assert_contract();
        self.intake.assert_compressed();
        assert_eq!(self.intake.count(TOTAL), f64::from(runs));
        assert_eq!(self.intake.count(DURATION_TOTAL), f64::from(runs) * 61.0);
        let changed: Vec<_> = self.intake.overwritten().into_iter().filter(|point| point.old != point.new).collect();
        assert!(changed.is_empty(), "{changed:?}");
    }

    fn pushes(&self) -> usize {
        self.intake.requests().len()
    }

    /// How many of them had a run of this workflow.
    fn pushes_of(&self, workflow: &str) -> usize {
        let tag = format!("workflow_name:{workflow}");
        self.intake.requests().iter().filter(|request| request.has_tag(&tag)).count()
    }
}

const HOUR: Duration = Duration::from_secs(3600);
