//! One request of a batch, and what its answer leads to.

use super::{
    Chore, Delivery, Shown, Step, UNANSWERED_MAX_S,
    batch::{OpenBatch, Piece, Refused},
    list,
    now::Moment,
};
use crate::{
    datadog::{Answer, Intake, Verdict},
    event::Key,
    ledger,
    metrics::{self, MetricPayload, Slot},
};
use std::time::Duration;

/// How far behind and ahead of an answer's `Date` a second may lie for its points to be taken: Datadog's own limits are
/// an hour behind and ten minutes ahead, less what the two clocks of one answer may differ by.
const WINDOW_BEHIND_S: i64 = 58 * 60;
const WINDOW_AHEAD_S: i64 = 9 * 60;

/// The wait after an answer about the key, and the time for which a slot stands aside that was refused or is too large.
pub(super) const HELD: Duration = Duration::from_secs(60);

/// How many runs the line about a push names.
const LOGGED_KEYS: usize = 20;

impl<I: Intake> Delivery<I> {
    pub(super) async fn push(&mut self, mut piece: Piece) -> Step {
        let payload = metrics::payload(&piece.slots);
        let Some(client) = &self.client else {
            for run in piece.slots.iter().flat_map(|slot| &slot.runs) {
                log::info!("dry run: would have processed {} {}", run.key, run.tag_set.tags.join(" "));
            }
            self.record_taken(ledger::keys_of(&piece.slots), payload);
            return Step::Moved;
        };
        let asked = (self.clock)();
        let answer = client.push(&payload).await;
        let moment = (self.clock)();
        if answer.status.is_some() {
            self.learn_the_time(&answer, moment);
        }
        let runs: usize = piece.slots.iter().map(|slot| slot.runs.len()).sum();
        self.note("series", &answer, (runs, payload.points()), asked, answer.verdict == Verdict::Taken);
        match answer.verdict.clone() {
            Verdict::Taken if piece.is_witness => {
                log::info!("taken once more, to see whether anything is: {}", Shown(&answer));
                self.taken(piece, payload, moment)
            }
            Verdict::Taken => {
                log::info!(runs:% = first(&piece.slots); "pushed {runs} runs: {}", Shown(&answer));
                self.taken(piece, payload, moment)
            }
            Verdict::Retry { after, surely_failed, is_unexpected } => {
                piece.is_in_doubt |= !surely_failed;
                self.put_back([piece]);
                let unexpected = if is_unexpected { "unexpected answer: " } else { "" };
                log::warn!("{unexpected}{}: trying again", Shown(&answer));
                self.back_off(after)
            }
            Verdict::Denied => {
                log::error!("{}: runs are kept, and pushed once the API key is mended", Shown(&answer));
                self.put_back([piece]);
                self.wait_until(moment.monotonic + HELD)
            }
            Verdict::TooLarge => self.too_large(piece, &answer, moment),
            Verdict::Refused => self.refused(piece, &answer, moment),
        }
    }

    /// What was not taken is tried next, in its order.
    fn put_back(&mut self, pieces: impl IntoIterator<Item = Piece, IntoIter: DoubleEndedIterator>) {
        if let Some(batch) = &mut self.batch {
            for piece in pieces.into_iter().rev() {
                batch.pieces.push_front(piece);
            }
        }
    }

    /// A 2xx is believed for the seconds that lie inside the window by the answer's own clock, and for those of runs that are
    /// counted however long ago they were: whether Datadog keeps those is a setting there.
    fn taken(&mut self, piece: Piece, payload: MetricPayload, moment: Moment) -> Step {
        let answered_at = self.now.at(moment).unwrap_or(moment.unix);
        let window = answered_at - WINDOW_BEHIND_S..=answered_at + WINDOW_AHEAD_S;
        self.backoff.reset();
        self.suspects.another_was_taken(&ledger::key_set(&ledger::keys_of(&piece.slots)), moment.monotonic);
        if piece.is_witness {
            return Step::Moved;
        }
        if let (Some(batch), Some(slot)) = (&mut self.batch, piece.slots.last()) {
            batch.witness = Some(slot.clone());
        }
        let is_taken = |slot: &Slot| window.contains(&slot.second) || slot.is_historical();
        let (taken, dropped): (Vec<Slot>, Vec<Slot>) = piece.slots.into_iter().partition(is_taken);
        if !dropped.is_empty() {
            self.chores.push_back(Chore::Unseal { keys: ledger::keys_of(&dropped), in_doubt: true });
        }
        if !taken.is_empty() {
            let points = if dropped.is_empty() { payload.points() } else { metrics::payload(&taken).points() };
            self.ledger.vitals().taken(points);
            self.record_taken(ledger::keys_of(&taken), payload);
        }
        Step::Moved
    }

    /// A dry run logs, then marks: the log is its work. A live run marks first, and logs what it can.
    fn record_taken(&mut self, keys: Vec<Key>, payload: MetricPayload) {
        let log = self.log_payloads.then(|| Chore::LogPayload { line: payload.line() });
        let mark = Chore::Mark { keys, payload };
        if self.client.is_none() {
            self.chores.extend(log.into_iter().chain([mark]));
        } else {
            self.chores.extend([mark].into_iter().chain(log));
        }
    }

    fn too_large(&mut self, piece: Piece, answer: &Answer, moment: Moment) -> Step {
        match piece.halves() {
            Ok(halves) => {
                log::warn!("{}: trying the halves", Shown(answer));
                self.put_back(halves);
                Step::Moved
            }
            // Its runs are marked: it has told that nothing is taken now.
            Err(piece) if piece.is_witness => Step::Moved,
            Err(piece) => {
                let keys = list(&ledger::keys_of(&piece.slots));
                log::error!(
                    "{}: a single slot is too large for something between us: it is kept: {keys}",
                    Shown(answer)
                );
                self.set_apart(piece, moment)
            }
        }
    }

    /// Nobody is to blame for a slot that is too large, and nobody waits for it: it stands aside. But one that may have been
    /// taken would be counted twice at another second: it is repeated as it stands, after all others of the batch.
    fn set_apart(&mut self, piece: Piece, moment: Moment) -> Step {
        let now = self.now.at(moment).unwrap_or(moment.unix);
        let stays = |batch: &OpenBatch| piece.is_in_doubt && batch.at + UNANSWERED_MAX_S > now;
        if let Some(batch) = self.batch.as_mut().filter(|batch| stays(batch)) {
            batch.pieces.push_back(piece);
            return self.wait_until(moment.monotonic + HELD);
        }
        self.unseal_aside(&piece, None, moment);
        Step::Moved
    }

    /// A 400. The whole batch, and a slot alone, is tried three times; what lies between is split at once.
    fn refused(&mut self, mut piece: Piece, answer: &Answer, moment: Moment) -> Step {
        log::warn!("{}: refused", Shown(answer));
        if piece.is_witness {
            // Datadog refuses what it has taken before: the fault lies between us.
            return Step::Moved;
        }
        piece.refusals += 1;
        // A try of this very sealing may have been taken: it stands aside, and the refusal of another sealing convicts it.
        if let [slot] = piece.slots.as_slice()
            && !piece.is_in_doubt
            && let Some(refused) = self.suspects.is_convicted(slot)
        {
            self.chores.push_back(Chore::SetAside { slot: slot.clone(), refused });
            return Step::Moved;
        }
        if piece.is_tried_again() && !self.suspects.knows(&piece.slots) {
            let wait = self.backoff.after(piece.refusals);
            self.put_back([piece]);
            return self.wait_until(moment.monotonic + wait);
        }
        match piece.halves() {
            Ok(halves) => self.put_back(halves),
            Err(piece) => self.stand_aside(&piece, answer, moment),
        }
        Step::Moved
    }

    /// A slot that is refused alone waits until Datadog has taken another one: only then is it to blame.
    fn stand_aside(&mut self, piece: &Piece, answer: &Answer, moment: Moment) {
        let keys = list(&ledger::keys_of(&piece.slots));
        log::warn!("refused alone, stands aside for {} s: {keys}", HELD.as_secs());
        let refused = Refused { status: answer.status, answer: answer.text.clone() };
        self.unseal_aside(piece, Some(&refused), moment);
        if let Some(batch) = &mut self.batch {
            batch.call_witness();
        }
    }

    /// Takes a slot out of the batch; it is sealed again after a while, alone.
    fn unseal_aside(&mut self, piece: &Piece, refused: Option<&Refused>, moment: Moment) {
        for slot in &piece.slots {
            self.suspects.add(slot, refused.cloned(), moment.monotonic + HELD);
        }
        self.chores.push_back(Chore::Unseal { keys: ledger::keys_of(&piece.slots), in_doubt: piece.is_in_doubt });
    }
}

/// The keys of the first runs of a push, for its line in the log.
fn first(slots: &[Slot]) -> String {
    let mut keys = slots.iter().flat_map(Slot::keys);
    let first = list(&keys.by_ref().take(LOGGED_KEYS).collect::<Vec<_>>());
    if keys.next().is_some() { first + " …" } else { first }
}
