//! GitHub under load: it delivers to replicas that come and go, and again what was not answered with a 2xx.

use super::replicas::{GITHUBS_PATIENCE, Stage};
use crate::{
    harness::{Answer, Client, PATIENCE, Service},
    kills::book::{Run, assert_each_is_counted_once},
};
use fastrand::Rng;
use std::{
    collections::BTreeMap,
    io,
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

const CLIENTS: usize = 4;

/// Between two deliveries of one client.
const PACE: Duration = Duration::from_millis(10);

/// What GitHub knows of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    /// It was never delivered.
    Nothing,
    /// It was delivered, and there was no 2xx: it was accepted, or it was not.
    Owed,
    /// It was answered with a 2xx.
    Answered,
}

/// All runs; their IDs count from 1.
#[derive(Debug, Default)]
pub(super) struct Book {
    runs: u64,
    owed: Vec<Run>,
    answered: Vec<Run>,
    /// How many answers there were of each kind.
    pub(super) answers: BTreeMap<&'static str, usize>,
    pub(super) slowest: Duration,
}

impl Book {
    /// How many answers of this kind there were.
    pub(super) fn of(&self, kind: &str) -> usize {
        self.answers.get(kind).copied().unwrap_or(0)
    }

    /// What is delivered next: now and then what was answered before, else as often as not what is owed, else a new run.
    fn next(&mut self, rng: &mut Rng) -> (Run, Known) {
        if rng.u8(0..4) == 0
            && let Some(run) = rng.choice(&self.answered)
        {
            return (*run, Known::Answered);
        }
        if rng.bool()
            && let Some(run) = self.owed.pop()
        {
            return (run, Known::Owed);
        }
        self.runs += 1;
        (Run::new(self.runs, rng), Known::Nothing)
    }

    /// Notes an answer, or that there was none. One that was answered before is only ever a duplicate.
    fn record(&mut self, run: Run, known: Known, answer: io::Result<Answer>, took: Duration) {
        let kind = match answer {
            Err(_) => "none",
            Ok(answer) => match (answer.status, answer.says(), known) {
                (202, "accepted", Known::Nothing | Known::Owed) => "202",
                (200, "duplicate", Known::Answered) => "200",
                // A commit whose answer was lost, in the same delivery or in one before.
                (200, "duplicate", Known::Nothing) => "200 at once",
                (200, "duplicate", Known::Owed) => "200 after none",
                (503, _, _) if answer.header("retry-after").is_some() => "503",
                _ => panic!("{run:?}, {known:?}: {answer:?}"),
            },
        };
        assert!(took < GITHUBS_PATIENCE, "{kind} after {took:?}");
        self.slowest = self.slowest.max(took);
        *self.answers.entry(kind).or_default() += 1;
        match (kind, known) {
            (_, Known::Answered) => {}
            ("503" | "none", _) => self.owed.push(run),
            _ => self.answered.push(run),
        }
    }
}

/// The load on some replicas.
#[derive(Debug)]
pub(super) struct Load {
    replicas: Mutex<Vec<Client>>,
    book: Mutex<Book>,
    answered: Condvar,
    is_over: Mutex<bool>,
    ends: Condvar,
}

impl Load {
    pub(super) fn on(replicas: &[Service]) -> Self {
        let replicas = Mutex::new(replicas.iter().map(Service::client).collect());
        let (book, is_over) = (Mutex::default(), Mutex::new(false));
        Self { replicas, book, answered: Condvar::new(), is_over, ends: Condvar::new() }
    }

    /// Has another replica in the place of one.
    pub(super) fn replace(&self, place: usize, replica: &Service) {
        self.replicas.lock().unwrap()[place] = replica.client();
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Delivers while something happens, and then all that is owed.
    pub(super) fn during<T>(&self, happens: impl FnOnce() -> T) -> T {
        let result = std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || self.deliver(client));
            }
            let _end = End(self);
            happens()
        });
        let (mut rng, begun) = (Rng::with_seed(0), Instant::now());
        loop {
            let Some(run) = self.book().owed.pop() else { return result };
            assert!(begun.elapsed() < PATIENCE, "what is owed is refused on and on");
            self.deliver_one(run, Known::Owed, &mut rng);
        }
    }

    fn deliver(&self, client: usize) {
        let mut rng = Rng::with_seed(client as u64);
        loop {
            let (run, known) = self.book().next(&mut rng);
            self.deliver_one(run, known, &mut rng);
            let over = self.is_over.lock().unwrap();
            if *self.ends.wait_timeout_while(over, PACE, |is_over| !*is_over).unwrap().0 {
                return;
            }
        }
    }

    fn deliver_one(&self, run: Run, known: Known, rng: &mut Rng) {
        let replica = *rng.choice(self.replicas.lock().unwrap().iter()).unwrap();
        let begun = Instant::now();
        let answer = replica.try_deliver(&run.payload());
        self.book().record(run, known, answer, begun.elapsed());
        self.answered.notify_all();
    }

    /// Waits until so many more answers of this kind have come.
    #[track_caller]
    pub(super) fn wait_for(&self, more: usize, kind: &str) {
        let book = self.book();
        let all = book.of(kind) + more;
        let (book, waited) = self.answered.wait_timeout_while(book, PATIENCE, |book| book.of(kind) < all).unwrap();
        assert!(!waited.timed_out(), "{more} more of {kind} never came: {:?}", book.answers);
    }

    /// Lets it go on for so long.
    pub(super) fn go_on_for(&self, time: Duration) {
        drop(self.ends.wait_timeout_while(self.is_over.lock().unwrap(), time, |is_over| !*is_over).unwrap());
    }

    /// Prints what there was.
    pub(super) fn tell(&self) {
        let book = self.book();
        println!("{} runs, answers {:?}, the slowest after {:?}", book.runs, book.answers, book.slowest);
    }

    /// Each run that was answered, and no other, is counted once, after all of them were sent.
    #[track_caller]
    pub(super) fn assert_each_is_counted_once(&self, stage: &Stage) {
        stage.wait_until_all_is_sent();
        let book = self.book();
        assert_eq!(book.answered.len() as u64, book.runs, "each is answered in the end");
        stage.intake.land_late();
        stage.assert_counted(u32::try_from(book.runs).unwrap());
        assert_each_is_counted_once(&stage.intake, &book.answered);
    }
}

/// Ends the load, however what happens meanwhile has ended.
struct End<'l>(&'l Load);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.is_over.lock().unwrap() = true;
        self.0.ends.notify_all();
    }
}
