//! Which of the waiting runs make the next batch, and which second each of them gets.

use super::{Choice, SealedSlot, State};
use crate::{
    event::Key,
    metrics::{self, Run, TagSet, Totals},
};
use std::{collections::HashMap, sync::Arc};

/// An end further back than this counts as now. Datadog drops what is more than an hour old, and a try takes time.
const END_MAX_AGE_S: i64 = 30 * 60;

/// A slot of a batch that is being planned.
#[derive(Debug)]
struct Planned<'s> {
    tag_set: &'s Arc<TagSet>,
    second: i64,
    totals: Totals,
    /// What its points take in the payload.
    bytes: usize,
    keys: Vec<Key>,
}

/// What is known of a tag set while a batch is planned. Runs of one tag set share one copy of it, so its place in memory tells
/// it from others. By its text, which is long, it is looked up once.
#[derive(Debug, Clone, Copy)]
struct Met {
    family: *const TagSet,
    /// No second before this one is left to it.
    unused: i64,
    /// Whether its entries are counted among the bytes.
    is_counted: bool,
}

impl State {
    /// Plans the next batch: which runs share which second, up to `limit` bytes of payload. `None` if no
    /// run can be sealed at the second `now`.
    ///
    /// A run takes its own end, or the second after the last one that an earlier batch used for its family of tag sets,
    /// whichever is later. An end too long ago or in the future counts as now. A second that another tag set of its family
    /// has in this batch is passed over. A second after now is not used: the run waits for it.
    pub(in super::super) fn plan(&self, now: i64, limit: usize, choice: &Choice) -> Option<Vec<SealedSlot>> {
        self.plan_within(now, limit, choice).0
    }

    /// The same; and where the limit ended it, how many runs were looked at: whatever waits behind those makes no difference.
    pub(in super::super) fn plan_within(
        &self,
        now: i64,
        limit: usize,
        choice: &Choice,
    ) -> (Option<Vec<SealedSlot>>, Option<usize>) {
        let mut met: HashMap<*const TagSet, Met> = HashMap::new();
        // The slot that a family has on a second.
        let mut places: HashMap<(*const TagSet, i64), usize> = HashMap::new();
        let mut slots: Vec<Planned> = Vec::new();
        let (mut bytes, mut ended_after) = (0, None);
        for (number, run) in self.waiting.values().filter(|run| choice.takes(run.key)).enumerate() {
            let known = met.entry(Arc::as_ptr(&run.tag_set)).or_insert_with(|| self.meet(&run.tag_set));
            let Some(mut second) = self.second(run, known.unused, now) else {
                continue;
            };
            let slot = loop {
                let place = places.get(&(known.family, second)).copied();
                match place.and_then(|place| slots.get(place)) {
                    Some(other) if !Arc::ptr_eq(other.tag_set, &run.tag_set) => second += 1,
                    Some(_) => break place,
                    None => break None,
                }
            };
            if second > now {
                continue;
            }
            let before = slot.and_then(|place| slots.get(place));
            let (mut totals, bytes_before) =
                before.map_or_else(Default::default, |slot| (slot.totals.clone(), slot.bytes));
            totals.add(run);
            let slot_bytes = totals.points_bytes(&run.tag_set, second);
            let entries = if known.is_counted { 0 } else { metrics::entries_bytes(&run.tag_set) };
            let more = bytes + slot_bytes + entries - bytes_before;
            if more > limit && !slots.is_empty() {
                ended_after = Some(number + 1);
                break;
            }
            (bytes, known.is_counted) = (more, true);
            if let Some(slot) = slot.and_then(|place| slots.get_mut(place)) {
                (slot.totals, slot.bytes) = (totals, slot_bytes);
                slot.keys.push(run.key);
            } else {
                places.insert((known.family, second), slots.len());
                let keys = vec![run.key];
                slots.push(Planned { tag_set: &run.tag_set, second, totals, bytes: slot_bytes, keys });
            }
        }
        slots.sort_unstable_by(|a, b| (a.tag_set, a.second).cmp(&(b.tag_set, b.second)));
        let slots = slots.into_iter().map(|planned| SealedSlot { second: planned.second, keys: planned.keys });
        (Some(slots.collect()).filter(|slots: &Vec<SealedSlot>| !slots.is_empty()), ended_after)
    }

    fn meet(&self, tag_set: &Arc<TagSet>) -> Met {
        let family = self.family(tag_set);
        let unused = self.last.get(family).map_or(i64::MIN, |last| last + 1);
        Met { family: Arc::as_ptr(family), unused, is_counted: false }
    }

    /// The second of a run whose family has none before `unused` left.
    fn second(&self, run: &Run, unused: i64, now: i64) -> Option<i64> {
        let is_current = (now - END_MAX_AGE_S..=now).contains(&run.end);
        // Its seconds are used by runs like it alone, and the last one is never forgotten.
        if !is_current && run.end <= now && run.tag_set.is_historical() {
            return Some(run.end.max(unused)).filter(|second| *second <= now);
        }
        let end = if is_current { run.end } else { now };
        // A birth after now means that the clock was ahead then, and says nothing.
        let second = end.max(unused).max(self.birth.min(now));
        (second <= now).then_some(second)
    }
}
