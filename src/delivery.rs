//! What is pending goes to Datadog, batch by batch: seal, push, mark.
//!
//! Invariant: only this room retries, and it never sleeps: `step` does the next thing, or says how long to wait.
//! A run is marked only after Datadog has taken it, and nothing is sealed before that mark is on disk. A failed push
//! marks nothing.

mod backoff;
mod batch;
mod noted;
mod now;
mod push;
mod rejected;

use crate::{
    datadog::{Answer, Client, Intake, PAYLOAD_MAX_BYTES},
    event::Key,
    ledger::{self, Choice, Ledger, Mode, Sealed, Unavailable},
    metrics::{MetricPayload, Slot},
    vitals::Totals,
};
use batch::{OpenBatch, Piece, Refused, Suspects};
use futures_util::future::OptionFuture;
use std::{cell::Cell, collections::VecDeque, time::Duration};
use tokio::sync::Notify;

pub use backoff::{Backoff, Jitter};
pub(crate) use now::APART_MAX_S;
use now::Now;
pub use now::{Clock, Moment};

/// A batch that is unanswered for this long would soon be outside the hour that Datadog accepts.
const UNANSWERED_MAX_S: i64 = 50 * 60;

/// The longest wait between two steps of a last push.
const LAST_WAIT_MAX: Duration = Duration::from_secs(2);

/// What `step` did, or what there is to wait for.
#[derive(Debug)]
pub enum Step {
    /// Nothing is pending but what waits for news.
    Idle,
    /// Nothing can be done for this long.
    Wait(Duration),
    /// Something was done; there may be more to do at once.
    Moved,
    /// A payload was taken, or logged by a dry run. Its runs are marked.
    Pushed {
        /// The runs in it.
        runs: usize,
        /// What was sent.
        payload: MetricPayload,
    },
}

/// What the ledger must record before anything else is done. A slot that is set aside is then rejected, and a suspect until
/// that is recorded.
#[derive(Debug)]
enum Chore {
    LogPayload { line: String },
    Mark { keys: Vec<Key>, payload: MetricPayload },
    Unseal { keys: Vec<Key>, in_doubt: bool },
    SetAside { slot: Slot, refused: Refused },
    Reject { keys: Vec<Key> },
}

/// Takes runs from the ledger to Datadog.
#[derive(Debug)]
pub struct Delivery<I = Client> {
    ledger: Ledger,
    /// `None` for a dry run.
    client: Option<I>,
    log_payloads: bool,
    clock: Clock,
    now: Now,
    backoff: Backoff,
    /// No request before this moment.
    not_before: Duration,
    /// When to ask Datadog again while nothing is pending: only where the last answer told of a key or a clock that is wrong,
    /// so that it shows when that is mended.
    asks_again_at: Option<Duration>,
    /// Since when this process delivers; `None` while another one does.
    term: Option<i64>,
    batch: Option<OpenBatch>,
    suspects: Suspects,
    /// Whether a suspect was tried last.
    is_others_turn: bool,
    chores: VecDeque<Chore>,
    totals: Totals,
    payload_max_bytes: usize,
}

impl<I: Intake> Delivery<I> {
    /// Delivers what `ledger` holds, once that is for this process to do.
    #[must_use]
    pub fn new(ledger: Ledger, client: Option<I>, clock: Clock, jitter: Jitter) -> Self {
        let mode = if client.is_some() { Mode::Live } else { Mode::DryRun };
        Self {
            ledger,
            client,
            log_payloads: mode == Mode::DryRun,
            now: Now::new(mode),
            clock,
            backoff: Backoff::new(jitter),
            not_before: Duration::ZERO,
            asks_again_at: None,
            term: None,
            batch: None,
            suspects: Suspects::default(),
            is_others_turn: false,
            chores: VecDeque::new(),
            totals: Totals::default(),
            payload_max_bytes: PAYLOAD_MAX_BYTES,
        }
    }

    /// Logs the payloads of live pushes too.
    #[must_use]
    pub fn log_payloads(mut self) -> Self {
        self.log_payloads = true;
        self
    }

    /// Seals at another size of payload, in bytes.
    #[must_use]
    pub fn payload_max_bytes(mut self, bytes: usize) -> Self {
        self.payload_max_bytes = bytes;
        self
    }

    /// What has come of the runs so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Works until `stop` is done, and then for as long as there is something to do at once, up to `grace`.
    pub async fn run_until(&mut self, stop: impl Future<Output = ()>, grace: Duration) {
        let is_stopping = Cell::new(false);
        let noticed = Notify::new();
        let stop = async {
            stop.await;
            is_stopping.set(true);
            noticed.notify_one();
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = self.work(&is_stopping, &noticed) => {}
            () = stop => log::warn!("stopping in the middle of a push: it is repeated as it stands at the next start"),
        }
    }

    async fn work(&mut self, is_stopping: &Cell<bool>, noticed: &Notify) {
        let ledger = self.ledger.clone();
        loop {
            let (wait, is_idle) = match self.step().await {
                Step::Moved | Step::Pushed { .. } => continue,
                Step::Wait(wait) => (wait, false),
                Step::Idle => (if self.asks_again_at.is_some() { push::HELD } else { Duration::MAX }, true),
            };
            let deposed = OptionFuture::from(self.term.map(|term| ledger.deposed(term)));
            // A run may only wait for its second, and a failed push is worth another try.
            if is_stopping.get() && (is_idle || wait > LAST_WAIT_MAX) {
                return;
            }
            tokio::select! {
                () = noticed.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = ledger.news(), if is_idle => {}
                Some(()) = deposed => {}
            }
        }
    }

    /// Does the next thing: a chore of the ledger, a request, or a seal.
    pub async fn step(&mut self) -> Step {
        let step = self.next().await;
        self.ledger.vitals().totals(self.totals, || (self.clock)().timestamp());
        step
    }

    async fn next(&mut self) -> Step {
        if !self.term.is_some_and(|term| self.ledger.leads(term)) && !self.lead().await {
            return Step::Idle;
        }
        let moment = (self.clock)();
        if let Some(wait) = self.not_before.checked_sub(moment.monotonic).filter(|wait| !wait.is_zero()) {
            return Step::Wait(wait);
        }
        if let Some(chore) = self.chores.pop_front() {
            let step = self.work_off(chore).await;
            if !matches!(step, Step::Wait(_)) {
                self.ledger.vitals().blocked(None);
            }
            return step;
        }
        let Some(now) = self.now.at(moment) else {
            return self.ask_for_the_time().await;
        };
        match self.batch.as_mut().and_then(|batch| Some((batch.at, batch.pieces.pop_front()?))) {
            Some((sealed_at, piece)) if sealed_at + UNANSWERED_MAX_S <= now && piece.grows_old() => {
                self.unseal_unanswered(piece)
            }
            Some((_, piece)) => self.push(piece).await,
            None => match self.seal(now, moment).await {
                Step::Idle if self.asks_again_at.is_some_and(|at| at <= moment.monotonic) => {
                    self.ask_for_the_time().await
                }
                step => step,
            },
        }
    }

    /// Begins anew with what the ledger says is open, if that is for this process to do. What was known of a batch before, another
    /// one may have changed.
    async fn lead(&mut self) -> bool {
        let term = self.ledger.lead().await.ok().flatten();
        self.term = term.as_ref().map(|term| term.number);
        // Nobody knows how the last try before a crash ended.
        let is_in_doubt = self.client.is_some();
        let open_batch = term.and_then(|term| term.open_batch);
        self.batch = open_batch.map(|batch| OpenBatch::new(batch, is_in_doubt));
        (self.suspects, self.is_others_turn) = (Suspects::default(), false);
        self.chores.clear();
        if self.term.is_none() {
            self.ledger.vitals().deposed();
        }
        self.not_before = Duration::ZERO;
        self.term.is_some()
    }

    fn wait_until(&mut self, moment: Duration) -> Step {
        self.not_before = moment;
        Step::Wait(moment.saturating_sub((self.clock)().monotonic))
    }

    fn back_off(&mut self, asked: Option<Duration>) -> Step {
        let wait = self.backoff.next().max(asked.unwrap_or_default());
        self.wait_until((self.clock)().monotonic + wait)
    }

    /// The ledger cannot write. What was to be recorded comes first when it can again.
    fn put_off(&mut self, chore: Chore, error: &Unavailable) -> Step {
        log::error!("{error}: nothing is sent before it is recorded");
        self.ledger.vitals().blocked(Some(error.to_string()));
        self.chores.push_front(chore);
        self.back_off(None)
    }

    async fn work_off(&mut self, chore: Chore) -> Step {
        match chore {
            Chore::LogPayload { line } => match self.ledger.log_payload(line.clone()).await {
                Ok(()) => Step::Moved,
                // Of a dry run it is the work; of a live one it is a copy.
                Err(error) if self.client.is_none() => self.put_off(Chore::LogPayload { line }, &error),
                Err(error) => {
                    log::error!("{error}: a payload is missing from the log");
                    Step::Moved
                }
            },
            Chore::Mark { keys, payload } => {
                if let Err(error) = self.ledger.mark(keys.clone()).await {
                    return self.put_off(Chore::Mark { keys, payload }, &error);
                }
                self.backoff.reset();
                self.totals.pushed += keys.len() as u64;
                Step::Pushed { runs: keys.len(), payload }
            }
            Chore::Unseal { keys, in_doubt } => {
                if let Err(error) = self.ledger.unseal(keys.clone(), in_doubt).await {
                    return self.put_off(Chore::Unseal { keys, in_doubt }, &error);
                }
                if in_doubt {
                    self.totals.in_doubt += keys.len() as u64;
                    log::warn!("in doubt, may be counted twice: {}", list(&keys));
                }
                Step::Moved
            }
            Chore::SetAside { slot, refused } => {
                let time = self.now.at((self.clock)()).unwrap_or_default();
                let lines: Vec<String> = slot.runs.iter().map(|run| refused.line(run, time)).collect();
                let keys: Vec<Key> = slot.keys().collect();
                if let Err(error) = self.ledger.set_aside(lines.join("\n")).await {
                    // Others need not wait for this file: the slot is refused, and rejected, another time.
                    log::error!("{error}: not rejected before that can be recorded, stands aside: {}", list(&keys));
                    self.suspects.add(&slot, Some(refused), (self.clock)().monotonic + push::HELD);
                    self.chores.push_front(Chore::Unseal { keys, in_doubt: false });
                    return Step::Moved;
                }
                self.suspects.forget(&slot);
                self.chores.push_front(Chore::Reject { keys });
                Step::Moved
            }
            Chore::Reject { keys } => {
                if let Err(error) = self.ledger.reject(keys.clone()).await {
                    return self.put_off(Chore::Reject { keys }, &error);
                }
                self.totals.rejected += keys.len() as u64;
                log::error!("refused by Datadog for good, set aside in the file of rejected runs: {}", list(&keys));
                Step::Moved
            }
        }
    }

    /// Seals what waits. Slots under suspicion go alone, and in turn with all others, so that they hold nobody up.
    async fn seal(&mut self, now: i64, moment: Moment) -> Step {
        let suspect = self.suspects.due(moment.monotonic);
        let is_suspects_turn = !std::mem::take(&mut self.is_others_turn);
        let others = Choice::Except(self.suspects.keys());
        let choices = match suspect {
            Some(keys) if is_suspects_turn => vec![Choice::Only(keys), others],
            Some(keys) => vec![others, Choice::Only(keys)],
            None => vec![others],
        };
        let mut step = Step::Idle;
        for choice in choices {
            let is_suspect = matches!(choice, Choice::Only(_));
            match self.ledger.seal(now, self.payload_max_bytes, choice).await {
                Ok(Sealed::Batch(batch)) => {
                    self.batch = Some(OpenBatch::new(batch, false));
                    self.is_others_turn = is_suspect;
                    return Step::Moved;
                }
                Ok(Sealed::Later) => step = Step::Wait(self.now.next_second(moment)),
                Ok(Sealed::Nothing) => {}
                Err(error) => {
                    log::error!("{error}: nothing can be sealed");
                    return self.back_off(None);
                }
            }
        }
        step
    }

    /// A batch that is unanswered for so long is taken apart, and sealed again once Datadog answers.
    fn unseal_unanswered(&mut self, first: Piece) -> Step {
        log::warn!("no answer for {} min: the batch will be sealed again once Datadog answers", UNANSWERED_MAX_S / 60);
        let rest = self.batch.as_mut().map(|batch| std::mem::take(&mut batch.pieces));
        let pieces = std::iter::once(first).chain(rest.into_iter().flatten()).filter(|piece| !piece.is_witness);
        // What is counted at its own time is as good later, and repeated as it stands.
        let (old, ageless): (Vec<Piece>, Vec<Piece>) = pieces.flat_map(Piece::by_age).partition(Piece::grows_old);
        self.chores.extend(
            old.iter().map(|piece| Chore::Unseal { keys: ledger::keys_of(&piece.slots), in_doubt: piece.is_in_doubt }),
        );
        match &mut self.batch {
            Some(batch) if !ageless.is_empty() => batch.pieces.extend(ageless),
            _ => self.batch = None,
        }
        self.now.wait_for_an_answer();
        Step::Moved
    }
}

/// An answer in a log line.
struct Shown<'a>(&'a Answer);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.status {
            Some(status) => write!(f, "Datadog answered {status} {}", self.0.text),
            None => write!(f, "Datadog did not answer: {}", self.0.text),
        }
    }
}

fn list(keys: &[Key]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
