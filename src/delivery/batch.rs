//! The open batch on its way: its pieces, and the slots that are under suspicion.

use super::rejected;
use crate::{
    event::Key,
    ledger::Batch,
    metrics::{Run, Slot},
};
use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

/// How often the whole batch, and a slot alone, is tried before a 400 is believed. Some are transient.
const REFUSALS_MAX: u32 = 3;

/// The batch as it is being tried.
#[derive(Debug)]
pub(super) struct OpenBatch {
    /// The second at which it was sealed.
    pub(super) at: i64,
    pub(super) pieces: VecDeque<Piece>,
    /// A slot of it that Datadog has taken.
    pub(super) witness: Option<Slot>,
}

/// Slots that are sent in one request.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) slots: Vec<Slot>,
    /// Whether it is the whole batch.
    is_whole: bool,
    /// How often it was refused by a 400.
    pub(super) refusals: u32,
    /// Whether a try of it may have been taken.
    pub(super) is_in_doubt: bool,
    /// Whether it was taken before, and goes again only to see whether Datadog takes anything now.
    pub(super) is_witness: bool,
}

impl OpenBatch {
    pub(super) fn new(batch: Batch, is_in_doubt: bool) -> Self {
        let piece = Piece { slots: batch.slots, is_whole: true, refusals: 0, is_in_doubt, is_witness: false };
        Self { at: batch.at, pieces: VecDeque::from([piece]), witness: None }
    }

    /// Has a slot that was taken sent again, unchanged, where no other piece can tell whether Datadog takes anything.
    pub(super) fn call_witness(&mut self) {
        if self.pieces.is_empty()
            && let Some(slot) = self.witness.take()
        {
            let slots = vec![slot];
            self.pieces.push_back(Piece { slots, is_whole: false, refusals: 0, is_in_doubt: false, is_witness: true });
        }
    }
}

impl Piece {
    /// Its halves, or itself if it is a single slot.
    pub(super) fn halves(mut self) -> Result<[Self; 2], Self> {
        if self.slots.len() < 2 {
            return Err(self);
        }
        let half = |slots| Self { slots, is_whole: false, refusals: 0, ..self };
        let right = self.slots.split_off(self.slots.len() / 2);
        let left = std::mem::take(&mut self.slots);
        Ok([half(left), half(right)])
    }

    /// Whether it has a slot whose second will be too long ago for Datadog.
    pub(super) fn grows_old(&self) -> bool {
        self.slots.iter().any(|slot| !slot.is_historical())
    }

    /// The slots that grow old, and those that do not, in pieces of their own.
    pub(super) fn by_age(self) -> impl Iterator<Item = Self> {
        let Self { slots, refusals, is_in_doubt, is_witness, .. } = self;
        let (old, ageless): (Vec<Slot>, Vec<Slot>) = slots.into_iter().partition(|slot| !slot.is_historical());
        let piece = move |slots| Self { slots, is_whole: false, refusals, is_in_doubt, is_witness };
        [old, ageless].into_iter().filter(|slots| !slots.is_empty()).map(piece)
    }

    /// Whether a refusal of it is not believed yet.
    pub(super) fn is_tried_again(&self) -> bool {
        (self.is_whole || self.slots.len() == 1) && self.refusals < REFUSALS_MAX
    }
}

/// Why a run was set aside.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) status: Option<u16>,
    pub(super) answer: String,
}

impl Refused {
    /// The line about a run for people, which `replay` can take in again.
    pub(super) fn line(&self, run: &Run, time: i64) -> String {
        let time = jiff::Timestamp::from_second(time).unwrap_or_default();
        serde_json::json!({
            "time": time.to_string(),
            "key": run.key,
            "status": self.status,
            "answer": self.answer,
            "request": rejected::delivery_of(run),
        })
        .to_string()
    }
}

/// Slots that were refused alone. One is to blame only if it is refused again after Datadog has taken another one;
/// if Datadog takes none, the fault lies between us. One that is too large alone stands aside too, and is never to blame.
#[derive(Debug, Default)]
pub(super) struct Suspects(Vec<Suspect>);

#[derive(Debug)]
struct Suspect {
    keys: HashSet<Key>,
    /// `None` if it is too large.
    refused: Option<Refused>,
    /// When it is tried again.
    due: Duration,
    another_was_taken: bool,
}

impl Suspect {
    fn is_of(&self, slot: &Slot) -> bool {
        slot.keys().all(|key| self.keys.contains(&key))
    }
}

impl Suspects {
    /// Has a slot stand aside until `due`, or a little longer: suspects are tried a second apart. That another one was taken
    /// after an earlier refusal of it still counts.
    pub(super) fn add(&mut self, slot: &Slot, refused: Option<Refused>, due: Duration) {
        let another_was_taken = self.0.iter().any(|suspect| suspect.another_was_taken && suspect.is_of(slot));
        self.forget(slot);
        let last = self.0.iter().map(|suspect| suspect.due + Duration::from_secs(1)).max();
        let due = due.max(last.unwrap_or_default());
        self.0.push(Suspect { keys: slot.keys().collect(), refused, due, another_was_taken });
    }

    pub(super) fn forget(&mut self, slot: &Slot) {
        for key in slot.keys() {
            self.0.retain(|suspect| !suspect.keys.contains(&key));
        }
    }

    /// Datadog has taken the slots of `keys`: they are cleared, and all others that were refused are due now.
    pub(super) fn another_was_taken(&mut self, keys: &HashSet<Key>, moment: Duration) {
        self.0.retain(|suspect| suspect.keys.is_disjoint(keys));
        for suspect in self.0.iter_mut().filter(|suspect| suspect.refused.is_some() && !suspect.another_was_taken) {
            suspect.another_was_taken = true;
            suspect.due = moment;
        }
    }

    /// Why a slot that was refused once more is rejected, if Datadog has taken another one meanwhile.
    pub(super) fn is_convicted(&self, slot: &Slot) -> Option<Refused> {
        let suspect = self.0.iter().find(|suspect| suspect.another_was_taken && suspect.is_of(slot))?;
        suspect.refused.clone()
    }

    /// Whether these slots have been refused alone before.
    pub(super) fn knows(&self, slots: &[Slot]) -> bool {
        let mut keys = slots.iter().flat_map(Slot::keys);
        keys.all(|key| self.0.iter().any(|suspect| suspect.refused.is_some() && suspect.keys.contains(&key)))
    }

    pub(super) fn keys(&self) -> HashSet<Key> {
        self.0.iter().flat_map(|suspect| &suspect.keys).copied().collect()
    }

    /// The runs of the first slot that is due.
    pub(super) fn due(&self, moment: Duration) -> Option<HashSet<Key>> {
        self.0.iter().find(|suspect| suspect.due <= moment).map(|suspect| suspect.keys.clone())
    }
}
