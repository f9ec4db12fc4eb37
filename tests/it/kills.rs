//! Kill -9, for real and often: the program under load, before an intake that fails in many ways, killed at any moment
//! and started again on the same directory.
//!
//! All chance comes from one seed, though what the processes make of it is theirs. `RUNHOUND_TORTURE_KILLS` says how
//! often the service is ended, and `RUNHOUND_TORTURE_SEED` by which chance.

pub(crate) mod book;
mod life;

use self::{
    book::{Book, Known, assert_each_is_counted_once},
    life::{End, Life, wait_until_open},
};
use crate::{
    harness::{Service, Start, sent},
    intake::{Intake, Order, Received},
};
use fastrand::Rng;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

const KILLS: usize = 20;
const SEED: usize = 1;
const CLIENTS: usize = 4;

/// Many lives of a service on one directory, before one intake.
struct Campaign {
    dir: TempDir,
    intake: Intake,
    launch: Start,
    book: Mutex<Book>,
    life: Arc<Mutex<Option<Arc<Life>>>>,
}

impl Campaign {
    fn new(rng: Rng) -> Self {
        let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
        let launch = Start::live(dir.path(), &intake);
        let life = Arc::default();
        intake.set_policy(policy(Arc::clone(&life), rng));
        Self { dir, intake, launch, book: Mutex::default(), life }
    }

    /// Starts the service, and sees it to its end.
    fn live(&self, end: End, rng: &mut Rng) {
        let starting = self.launch.spawn();
        if let End::AtStart(file) = end {
            if let Some(file) = file {
                wait_until_open(starting.id(), &self.dir.path().join(file));
            }
            assert_all_is_well(&starting.kill());
            return;
        }
        let life = Arc::new(Life::new(starting.id(), end));
        *self.life.lock().unwrap() = Some(Arc::clone(&life));
        let service = starting.ready();
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let (service, life, rng) = (&service, &life, rng.fork());
                scope.spawn(move || self.deliver(service, life, rng));
            }
        });
        let (status, log) = service.wait();
        let is_as_ordered = if matches!(end, End::Stopped(_)) { status.success() } else { status.signal() == Some(9) };
        assert!(is_as_ordered, "{end:?}: {status}: {log:#?}");
        assert_all_is_well(&log);
    }

    /// Delivers until the service is gone.
    fn deliver(&self, service: &Service, life: &Life, mut rng: Rng) {
        loop {
            life.wait_for_room();
            let (run, known) = self.book.lock().unwrap().next(&mut rng);
            match service.try_deliver(&run.payload()) {
                Ok(answer) => {
                    let is_accepted = self.book.lock().unwrap().record(run, known, &answer);
                    life.count_answer(is_accepted);
                }
                Err(error) => {
                    self.book.lock().unwrap().record_broken(run, known);
                    assert!(life.is_ended(), "broken while the service lived: {error}");
                    return;
                }
            }
        }
    }

    /// The last life: the intake is well, whatever was never answered is delivered again, and all is pushed.
    fn settle(&self) {
        self.intake.recover();
        let service = self.launch.start();
        let (_, mut pending) = service.standing();
        let mut book = self.book.lock().unwrap();
        while let Some(run) = book.broken.pop() {
            let answer = service.deliver(&run.payload());
            pending += usize::from(book.record(run, Known::Broken, &answer));
        }
        service.wait_for_pushes(pending);
        assert_all_is_well(&service.stop());
    }

    fn assert_the_cache_holds_each_run_once_in_the_plans_layout(&self) {
        let path = self.dir.path().join("sent-workflows.json");
        let ids = sent(&path);
        let plans_layout = serde_json::to_string_pretty(&json!({ "sent": ids })).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), plans_layout);
        let mut ids: Vec<u64> = ids.iter().map(|id| id.parse().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=self.book.lock().unwrap().runs).collect::<Vec<_>>());
    }

    fn assert_nothing_is_news_to_a_new_start(&self) {
        let pushes = self.intake.requests().len();
        let service = self.launch.start();
        let answered = self.book.lock().unwrap().answered.clone();
        assert_eq!(service.standing(), (answered.len(), 0));
        std::thread::scope(|scope| {
            for part in answered.chunks(answered.len().div_ceil(CLIENTS).max(1)) {
                let service = &service;
                scope.spawn(move || {
                    for run in part {
                        let answer = service.deliver(&run.payload());
                        self.book.lock().unwrap().record(*run, Known::Answered, &answer);
                    }
                });
            }
        });
        service.stop();
        assert_eq!(self.intake.requests().len(), pushes);
    }
}

/// One push of three fails, each in another way, but never two in a row: after many failures the service waits long.
fn policy(life: Arc<Mutex<Option<Arc<Life>>>>, mut rng: Rng) -> impl FnMut(&Received) -> Order + Send {
    let mut has_failed = false;
    move |_| {
        if let Some(life) = life.lock().unwrap().as_ref() {
            life.count_push();
        }
        has_failed = !has_failed && rng.bool();
        if !has_failed {
            return Order::Take;
        }
        match rng.u8(0..6) {
            0 => Order::status(503),
            1 => Order::status(429),
            2 => Order::Reset,
            3 => Order::StoreThenDrop,
            4 => Order::StoreThenStatus(500),
            _ => Order::StoreLater,
        }
    }
}

/// In so short a time nothing comes into doubt, whatever is killed.
fn assert_all_is_well(log: &[String]) {
    let is_bad = |line: &&String| line.contains("in doubt") || line.contains(" ERROR runhound");
    assert_eq!(log.iter().find(is_bad), None, "{log:#?}");
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.replace('_', "").parse().unwrap())
}

#[test]
fn whatever_moment_it_is_killed_at_each_answered_run_is_counted_once() {
    let (kills, seed) = (number("RUNHOUND_TORTURE_KILLS", KILLS), number("RUNHOUND_TORTURE_SEED", SEED));
    let mut rng = Rng::with_seed(u64::try_from(seed).unwrap());
    let campaign = Campaign::new(rng.fork());
    let mut of_ends = rng.fork();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for end in std::iter::repeat_with(|| End::round(&mut of_ends)).flatten().take(kills) {
        campaign.live(end, &mut rng);
        *kinds.entry(end.kind()).or_default() += 1;
    }
    campaign.settle();
    assert_each_is_counted_once(&campaign.intake, &campaign.book.lock().unwrap().answered);
    campaign.assert_the_cache_holds_each_run_once_in_the_plans_layout();
    campaign.assert_nothing_is_news_to_a_new_start();
    let Book { runs, answers, redeliveries, .. } = *campaign.book.lock().unwrap();
    let pushes = campaign.intake.requests().len();
    println!(
        "seed {seed}: {kills} ends {kinds:?}, {runs} runs, {answers} answers, {redeliveries} redeliveries, {pushes} pushes"
    );
}
