//! The house under test: a real ledger and a real delivery between a simulated disk and a simulated intake.

use super::{
    disk::{Image, SimDisk, until_crash},
    intake::SimIntake,
};
use crate::{
    delivery::{Clock, Delivery, Moment, Step},
    ledger::{
        Accepted, Command, Files, Keeper, Ledger, Mode, OpenError, Options, Owner, Reruns, Standing, Unavailable,
    },
    metrics::{DEFAULT_MAX_SERIES, Run},
    vitals::{Totals, Vitals},
};
use std::{
    path::Path,
    pin::pin,
    sync::{Arc, LazyLock, Mutex, mpsc},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// The second at which every simulation begins.
pub(super) const START: i64 = 1_796_000_000;

/// What is set when a house is built, and stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) reruns: Reruns,
    pub(super) compact_at_bytes: u64,
    pub(super) payload_max_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reruns: Reruns::Push, compact_at_bytes: 8 << 20, payload_max_bytes: 500_000 }
    }
}

/// A house and the world around it. What ends in a crash gives `None`, and leaves nobody inside.
#[derive(Debug)]
pub(super) struct House {
    pub(super) disk: SimDisk,
    pub(super) intake: SimIntake,
    /// The local clocks; Datadog has its own.
    clock: Arc<Mutex<Moment>>,
    settings: Settings,
    inside: Option<Inside>,
}

/// What a process has in memory.
#[derive(Debug)]
struct Inside {
    ledger: Ledger,
    inbox: mpsc::Receiver<Command>,
    owner: Owner,
    delivery: Delivery<SimIntake>,
}

pub(super) fn files() -> Files {
    Files::new(Path::new("cache"), Mode::Live)
}

/// Of all houses together: nobody looks at them, and some hundred thousand houses are built.
static VITALS: LazyLock<Arc<Vitals>> = LazyLock::new(Arc::default);

impl House {
    pub(super) fn new(settings: Settings) -> Self {
        let clock = Moment { monotonic: Duration::from_secs(50), unix: START };
        let intake = SimIntake::default();
        intake.with(|state| state.now = START);
        Self { disk: SimDisk::default(), intake, clock: Arc::new(Mutex::new(clock)), settings, inside: None }
    }

    /// Starts the process.
    pub(super) fn open(&mut self) -> Option<Result<(), OpenError>> {
        let birth = self.clock.lock().unwrap().unix;
        let options = Options {
            files: files(),
            database: None,
            reruns: self.settings.reruns,
            lock_patience: Duration::ZERO,
            birth,
            compact_at_bytes: self.settings.compact_at_bytes,
            max_journal_bytes: 1 << 30,
            max_series: DEFAULT_MAX_SERIES,
            storage: Arc::new(self.disk.clone()),
            vitals: Arc::clone(&VITALS),
        };
        let opened = until_crash(|| Ledger::with_owner(options))?;
        Some(opened.map(|(ledger, inbox, owner)| {
            let clock = Arc::clone(&self.clock);
            let clock = Clock::new(move || *clock.lock().unwrap());
            let jitter = Box::new(|longest| longest);
            let intake = Some(self.intake.clone());
            let delivery = Delivery::new(ledger.clone(), intake, clock, jitter);
            let delivery = delivery.payload_max_bytes(self.settings.payload_max_bytes);
            self.inside = Some(Inside { ledger, inbox, owner, delivery });
        }))
    }

    pub(super) fn is_open(&self) -> bool {
        self.inside.is_some()
    }

    /// Does something with the process, which is gone if it crashes meanwhile.
    fn inside<T>(&mut self, work: impl FnOnce(&mut Inside) -> T) -> Option<T> {
        let mut inside = self.inside.take().expect("somebody is inside");
        let done = until_crash(|| work(&mut inside));
        if done.is_some() {
            self.inside = Some(inside);
        }
        done
    }

    /// Runs come in at the same moment; what each is answered.
    pub(super) fn accept(&mut self, runs: Vec<Run>) -> Option<Vec<Result<Accepted, Unavailable>>> {
        let now = self.clock.lock().unwrap().unix;
        self.inside(|inside| {
            let ledger = inside.ledger.clone();
            let mut asked: Vec<_> = runs.into_iter().map(|run| Box::pin(ledger.accept(run, now))).collect();
            for asked in &mut asked {
                assert!(poll(asked.as_mut()).is_none(), "nothing is answered before it is recorded");
            }
            inside.work();
            asked.iter_mut().map(|asked| poll(asked.as_mut()).expect("an answer")).collect()
        })
    }

    /// One step of the delivery.
    pub(super) fn step(&mut self) -> Option<Step> {
        self.inside(|inside| {
            let Inside { inbox, owner, delivery, .. } = inside;
            let mut step = pin!(delivery.step());
            loop {
                match poll(step.as_mut()) {
                    Some(step) => return step,
                    None => turn(owner, inbox),
                }
            }
        })
    }

    /// A clean stop.
    pub(super) fn close(&mut self) -> Option<()> {
        self.inside(|inside| inside.owner.close())?;
        self.inside = None;
        Some(())
    }

    /// The process ends wherever it is.
    pub(super) fn kill(&mut self) {
        self.inside = None;
        // Another process counts from another moment.
        self.clock.lock().unwrap().monotonic = Duration::from_secs(7);
    }

    /// And the disk is left with this.
    pub(super) fn crash_to(&mut self, image: &Image) {
        self.kill();
        self.disk = SimDisk::of(image);
    }

    /// Lets time pass, here and at Datadog.
    pub(super) fn pass(&self, seconds: u64) {
        let mut clock = self.clock.lock().unwrap();
        clock.monotonic += Duration::from_secs(seconds);
        clock.unix += i64::try_from(seconds).unwrap();
        self.intake.with(|state| state.now += i64::try_from(seconds).unwrap());
    }

    /// Somebody sets the local clock.
    pub(super) fn step_clock(&self, seconds: i64) {
        self.clock.lock().unwrap().unix += seconds;
    }

    pub(super) fn standing(&self) -> Standing {
        self.inside.as_ref().expect("somebody is inside").owner.standing()
    }

    pub(super) fn totals(&self) -> Totals {
        self.inside.as_ref().expect("somebody is inside").delivery.totals()
    }

    /// The IDs in the cache, in order, if it is valid JSON.
    pub(super) fn sent(&self) -> Option<Vec<String>> {
        let text = self.disk.text(&files().cache)?;
        let document: serde_json::Value = serde_json::from_slice(&text).ok()?;
        serde_json::from_value(document["sent"].clone()).ok()
    }
}

impl Inside {
    fn work(&mut self) {
        while let Ok(first) = self.inbox.try_recv() {
            self.owner.turn(first, &self.inbox);
        }
    }
}

fn turn(owner: &mut Owner, inbox: &mpsc::Receiver<Command>) {
    let first = inbox.try_recv().expect("whoever waits has asked for something");
    owner.turn(first, inbox);
}

/// Asks once.
fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}
