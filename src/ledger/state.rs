//! What is pending and which seconds are used: records, applied in order.
//!
//! Invariant: no I/O. The state after a restart is the state before it, because both come from `apply`.

mod plan;

use super::record::{FORMAT, Record, SealedSlot};
use crate::{
    event::Key,
    metrics::{Run, Slot, Subject, TagSet},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    iter,
    sync::Arc,
};

/// How long after it a used second is remembered. Beyond it no run can be given that second again.
pub(super) const LAST_KEPT_S: i64 = 70 * 60;

/// The batch that is being sent.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The second at which it was sealed, by Datadog's clock.
    pub at: i64,
    /// Its slots, those of one tag set together.
    pub slots: Vec<Slot>,
}

impl Batch {
    /// The keys of its runs.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.slots.iter().flat_map(Slot::keys)
    }

    /// The record of its sealing, when the cache held so many keys.
    pub(super) fn record(&self, sent: usize) -> Record {
        let slots = self.slots.iter().map(|slot| SealedSlot { second: slot.second, keys: slot.keys().collect() });
        Record::Seal { at: self.at, sent, slots: slots.collect() }
    }

    /// How many of its runs have another second than their end.
    pub(super) fn restamped(&self) -> usize {
        let moved = |slot: &Slot| slot.runs.iter().filter(|run| run.end != slot.second).count();
        self.slots.iter().map(moved).sum()
    }
}

/// A sealed batch as the journal names it: its keys, and how many keys the cache held before it.
#[derive(Debug)]
pub(super) struct SealedKeys {
    pub(super) sent: usize,
    pub(super) keys: Vec<Key>,
}

/// The records contradict each other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the records contradict each other: {0} is sealed, unsealed or rejected, but not pending")]
pub(super) struct Contradiction(Key);

/// Which of the waiting runs to seal.
#[derive(Debug)]
pub enum Choice {
    /// All but these.
    Except(HashSet<Key>),
    /// Only these.
    Only(HashSet<Key>),
}

impl Choice {
    fn takes(&self, key: Key) -> bool {
        match self {
            Self::Except(keys) => !keys.contains(&key),
            Self::Only(keys) => keys.contains(&key),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Runs that are in no batch, in the order of their acceptance.
    waiting: BTreeMap<u64, Arc<Run>>,
    /// Every run that is not settled, with its place in that order.
    pending: BTreeMap<Key, u64>,
    batch: Option<Batch>,
    /// The last used second of each family of tag sets.
    last: HashMap<Arc<TagSet>, i64>,
    /// Each tag set, with its family, which is itself if it has none.
    tag_sets: HashMap<Arc<TagSet>, Arc<TagSet>>,
    birth: i64,
    next_place: u64,
    /// Batches that the journal knows, the open one last. Only filled while a journal is read.
    pub(super) sealed: Vec<SealedKeys>,
}

impl State {
    pub(super) fn new(birth: i64) -> Self {
        Self { birth, ..Self::default() }
    }

    /// No earlier second is ever used.
    pub(super) const fn birth(&self) -> i64 {
        self.birth
    }

    pub(super) fn is_pending(&self, key: Key) -> bool {
        self.pending.contains_key(&key)
    }

    pub(super) fn is_waiting(&self, key: Key) -> bool {
        self.pending.get(&key).is_some_and(|place| self.waiting.contains_key(place))
    }

    pub(super) fn is_any_attempt_pending(&self, key: Key) -> bool {
        match key {
            Key::Run(run) => {
                let (first, last) = run.attempts().into_inner();
                self.pending.range(Key::from(first)..=Key::from(last)).next().is_some()
            }
            Key::Job(_) => self.is_pending(key),
        }
    }

    pub(super) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn pending_keys(&self) -> impl Iterator<Item = Key> {
        self.pending.keys().copied()
    }

    pub(super) fn pending_runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        let slots = self.batch.iter().flat_map(|batch| &batch.slots);
        let sealed = slots.flat_map(|slot| &slot.runs).filter(|run| self.pending.contains_key(&run.key));
        self.waiting.values().chain(sealed)
    }

    /// The place that the next run gets in the order of acceptance.
    pub(super) const fn next_place(&self) -> u64 {
        self.next_place
    }

    /// No run of an earlier place is pending. It costs nothing, and is 0 while a batch is open.
    pub(super) fn oldest_waiting_place(&self) -> u64 {
        match &self.batch {
            Some(_) => 0,
            None => self.waiting.first_key_value().map_or(self.next_place, |(place, _)| *place),
        }
    }

    /// The run that was accepted first of those pending, with its place.
    pub(super) fn oldest(&self) -> Option<(u64, &Arc<Run>)> {
        let place = |run: &Arc<Run>| self.pending.get(&run.key).copied();
        let sealed = self.batch.iter().flat_map(|batch| &batch.slots).flat_map(|slot| &slot.runs);
        let sealed = sealed.filter_map(|run| Some((place(run)?, run)));
        let waiting = self.waiting.first_key_value().map(|(place, run)| (*place, run));
        sealed.chain(waiting).min_by_key(|(place, _)| *place)
    }

    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn batch(&self) -> Option<&Batch> {
        self.batch.as_ref()
    }

    /// Takes a record over. On an error nothing that follows can be believed.
    pub(super) fn apply(&mut self, record: Record) -> Result<(), Contradiction> {
        match record {
            Record::Journal { birth, .. } => self.birth = birth,
            Record::Last { tag_set, second } => {
                let tag_set = self.intern(&tag_set);
                self.last.insert(tag_set, second);
            }
            Record::Accept(run) => self.accept(run),
            Record::Seal { at, sent, slots } => self.seal(at, sent, slots)?,
            Record::Unseal { keys, .. } => self.unseal(&keys)?,
            Record::Reject { keys } => self.reject(&keys)?,
        }
        Ok(())
    }

    /// Runs of one tag set share one copy of it: a backlog is large, its tag sets are few.
    fn intern(&mut self, tag_set: &Arc<TagSet>) -> Arc<TagSet> {
        if let Some((known, _)) = self.tag_sets.get_key_value(tag_set) {
            return Arc::clone(known);
        }
        let family = tag_set.family().filter(|family| *family != **tag_set);
        let family = family.map_or_else(|| Arc::clone(tag_set), |family| self.intern(&Arc::new(family)));
        self.tag_sets.insert(Arc::clone(tag_set), family);
        Arc::clone(tag_set)
    }

    /// The family of a tag set that is interned. That of runs is itself, without a look at their tags.
    fn family<'s>(&'s self, tag_set: &'s Arc<TagSet>) -> &'s Arc<TagSet> {
        if tag_set.subject == Subject::Run {
            return tag_set;
        }
        self.tag_sets.get(tag_set).unwrap_or(tag_set)
    }

    fn accept(&mut self, run: Arc<Run>) {
        let tag_set = self.intern(&run.tag_set);
        let run =
            if Arc::ptr_eq(&tag_set, &run.tag_set) { run } else { Arc::new(run.tagged(tag_set, run.job.clone())) };
        if self.pending.contains_key(&run.key) {
            // It came again after somebody had taken it out of the cache, so the earlier one had been sent.
            self.settle(&[run.key]);
            drop(self.take_from_batch(&[run.key]));
            self.close_settled_batch();
        }
        self.pending.insert(run.key, self.next_place);
        self.waiting.insert(self.next_place, run);
        self.next_place += 1;
    }

    fn seal(&mut self, at: i64, sent: usize, sealed: Vec<SealedSlot>) -> Result<(), Contradiction> {
        // A batch with a successor is settled.
        if let Some(before) = self.batch.take() {
            let keys: Vec<Key> = before.slots.iter().flat_map(Slot::keys).collect();
            self.settle(&keys);
        }
        let mut slots = Vec::with_capacity(sealed.len());
        let mut all_keys = Vec::new();
        for SealedSlot { second, keys } in sealed {
            let mut runs = Vec::with_capacity(keys.len());
            for key in &keys {
                let place = self.pending.get(key).ok_or(Contradiction(*key))?;
                runs.push(self.waiting.remove(place).ok_or(Contradiction(*key))?);
            }
            let slot = Slot { second, runs };
            if let Some(tag_set) = slot.tag_set() {
                let family = Arc::clone(self.family(tag_set));
                let last = self.last.entry(family).or_insert(second);
                *last = second.max(*last);
            }
            slots.push(slot);
            all_keys.extend(keys);
        }
        self.batch = Some(Batch { at, slots }).filter(|batch| !batch.slots.is_empty());
        self.sealed.push(SealedKeys { sent, keys: all_keys });
        Ok(())
    }

    fn unseal(&mut self, keys: &[Key]) -> Result<(), Contradiction> {
        for run in self.take_from_batch(keys) {
            let place = self.pending.get(&run.key).ok_or(Contradiction(run.key))?;
            self.waiting.insert(*place, run);
        }
        self.close_settled_batch();
        Ok(())
    }

    fn reject(&mut self, keys: &[Key]) -> Result<(), Contradiction> {
        for key in keys {
            let place = self.pending.remove(key).ok_or(Contradiction(*key))?;
            self.waiting.remove(&place);
        }
        drop(self.take_from_batch(keys));
        self.close_settled_batch();
        Ok(())
    }

    fn take_from_batch(&mut self, keys: &[Key]) -> Vec<Arc<Run>> {
        let keys: HashSet<Key> = keys.iter().copied().collect();
        let mut taken = Vec::new();
        if let Some(batch) = &mut self.batch {
            for slot in &mut batch.slots {
                taken.extend(slot.runs.extract_if(.., |run| keys.contains(&run.key)));
            }
            batch.slots.retain(|slot| !slot.runs.is_empty());
        }
        if let Some(sealed) = self.sealed.last_mut() {
            sealed.keys.retain(|key| !keys.contains(key));
        }
        taken
    }

    /// Forgets runs that are in the cache now. The open batch keeps them until all of it is settled, for a
    /// slot is sent whole or not at all.
    pub(super) fn settle(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(place) = self.pending.remove(key) {
                self.waiting.remove(&place);
            }
        }
        self.close_settled_batch();
    }

    fn close_settled_batch(&mut self) {
        let pending = &self.pending;
        if let Some(batch) = &mut self.batch {
            batch.slots.retain(|slot| slot.keys().any(|key| pending.contains_key(&key)));
        }
        self.batch.take_if(|batch| batch.slots.is_empty());
    }

    /// The fewest records that make this state, for a new journal. Used seconds that no run could be given
    /// again at the second `now` are left out.
    ///
    /// They are made one by one: all at once they would be a copy of the state.
    pub(super) fn records(&self, now: Option<i64>, sent: usize) -> impl Iterator<Item = Record> {
        let is_kept =
            move |(tag_set, second): &(&Arc<TagSet>, &i64)| now.is_none_or(|now| is_needed(tag_set, **second, now));
        // In one order, so that the same state makes the same file.
        let last: BTreeMap<_, _> = self.last.iter().filter(is_kept).collect();
        let last = last.into_iter().map(|(tag_set, second)| (Arc::clone(tag_set), *second));
        let batch = self.batch.as_ref().map(|batch| batch.record(sent));
        iter::once(Record::Journal { format: FORMAT, birth: self.birth })
            .chain(last.map(|(tag_set, second)| Record::Last { tag_set, second }))
            .chain(self.unsettled().map(|run| Record::Accept(Arc::clone(run))))
            .chain(batch)
    }

    /// The runs that are needed still, in the order of their acceptance.
    fn unsettled(&self) -> impl Iterator<Item = &Arc<Run>> {
        let in_batch = self.batch.iter().flat_map(|batch| &batch.slots).flat_map(|slot| &slot.runs);
        // A slot of the open batch may hold runs that are settled already: they are needed to send it whole.
        let place_of = |run: &Arc<Run>| self.pending.get(&run.key).copied().unwrap_or(0);
        let mut sealed: Vec<(u64, &Arc<Run>)> = in_batch.map(|run| (place_of(run), run)).collect();
        sealed.sort_by_key(|(place, _)| *place);
        let mut sealed = sealed.into_iter().peekable();
        let mut waiting = self.waiting.iter().peekable();
        iter::from_fn(move || {
            let next_waiting = waiting.peek().map_or(u64::MAX, |(place, _)| **place);
            let next = sealed.next_if(|(place, _)| *place <= next_waiting);
            next.or_else(|| waiting.next().map(|(place, run)| (*place, run))).map(|(_, run)| run)
        })
    }

    /// Drops from memory what a new journal made from `records` leaves out.
    pub(super) fn forget_old(&mut self, now: Option<i64>) {
        if let Some(now) = now {
            self.last.retain(|tag_set, second| is_needed(tag_set, *second, now));
        }
        // Those of jobs first: they hold their family.
        self.tag_sets.retain(|tag_set, family| Arc::ptr_eq(tag_set, family) || Arc::strong_count(tag_set) > 1);
        self.tag_sets.retain(|tag_set, family| !Arc::ptr_eq(tag_set, family) || Arc::strong_count(tag_set) > 2);
    }
}

/// Whether a run could still be given a second that was used.
fn is_needed(tag_set: &TagSet, second: i64, now: i64) -> bool {
    second + LAST_KEPT_S > now || tag_set.is_historical()
}

#[cfg(test)]
mod tests;
