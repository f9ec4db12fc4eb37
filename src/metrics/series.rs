//! How many distinct series are made, which is what Datadog bills, and a limit on it.
//!
//! Invariant: no I/O, no clock; seconds are passed in. Known tag sets always pass unchanged, whatever the count, and only
//! names are ever replaced: `conclusion` stays, for a metric is named after it.

use super::{JobTimes, Run, Subject, TAG_KEYS, TagSet, is_conclusion};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

/// The limit, unless configured otherwise.
pub const DEFAULT_MAX_SERIES: usize = 5_000;

/// A tag set that has not been seen for this long is forgotten, in seconds: 30 days.
pub const REMEMBERED_S: i64 = 30 * 86_400;

/// Seconds in the last hour.
const HOUR_S: i64 = 3_600;

/// What a new value of a capped key becomes.
const OTHER: &str = "other";

/// The format of a snapshot.
const FORMAT: u32 = 1;

/// Keys of tags whose values GitHub bounds. Every other tag that a run sets itself may be capped; those of `DD_ENV` and
/// `DD_TAGS` are constant.
const BOUNDED_KEYS: [&str; 4] = ["default_branch", "conclusion", "sender_type", "event"];

/// A text that is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// It is not such JSON.
    #[error("not readable")]
    Json(#[from] serde_json::Error),
    /// It is of another version of runhound.
    #[error("it has the format {0}, which this version of runhound does not know")]
    Format(u32),
}

/// When runs of a tag set were last accepted, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Any run.
    pub any: i64,
    /// One with a duration, which has metrics of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed: Option<i64>,
    /// One with a time in the queue, which has too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<i64>,
}

impl Seen {
    /// The later of the two, of each.
    fn max(self, other: Self) -> Self {
        Self { any: self.any.max(other.any), timed: self.timed.max(other.timed), queued: self.queued.max(other.queued) }
    }

    /// How many series that makes since this second, of what they are of.
    fn series_since(self, subject: Subject, second: i64) -> usize {
        let is_since = |seen: Option<i64>| seen.is_some_and(|seen| seen >= second);
        if self.any < second { 0 } else { subject.series(is_since(self.timed), is_since(self.queued)) }
    }

    /// How many series that makes at all.
    fn series(self, subject: Subject) -> usize {
        self.series_since(subject, i64::MIN)
    }

    /// The first and the last of its seconds.
    fn ends(self) -> (i64, i64) {
        let others = [self.timed, self.queued].into_iter().flatten();
        others.fold((self.any, self.any), |(first, last), second| (first.min(second), last.max(second)))
    }
}

/// Distinct series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SeriesCount {
    /// Of runs accepted in the last hour.
    pub last_hour: usize,
    /// Of runs accepted in the last 30 days.
    pub last_30_days: usize,
}

impl fmt::Display for SeriesCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last_hour, last_30_days } = self;
        write!(f, "{last_hour} series in the last hour, {last_30_days} in the last 30 days")
    }
}

/// A tag whose new values are sent as `other` from now on, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capped {
    /// The key of the tag.
    pub key: &'static str,
    /// How many values of it are known.
    pub values: usize,
    /// How many series the last 30 days made.
    pub series: usize,
    /// The limit on them.
    pub max: usize,
}

impl fmt::Display for Capped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, values, series, max } = self;
        write!(
            f,
            "the last 30 days made {series} series, and --max-series is {max}: new values of the tag {key}, which has \
             {values}, are sent as `other` from now on; raise the limit if these values are worth their cost"
        )
    }
}

/// What a run's tags become.
#[derive(Debug)]
pub struct Bounded {
    /// The tags to count it under: its own, or with `other` in places.
    pub tag_set: Arc<TagSet>,
    /// The times of a job that has them.
    pub job: Option<Box<JobTimes>>,
    /// The keys that were capped for it.
    pub capped: Vec<Capped>,
}

/// The tag sets of the last 30 days, and which keys take no new values.
#[derive(Debug)]
pub struct SeriesGuard {
    max: usize,
    known: HashMap<Arc<TagSet>, Seen>,
    /// The values of each key that may be capped, and how many known tag sets have them.
    values: BTreeMap<&'static str, HashMap<String, usize>>,
    capped: BTreeSet<&'static str>,
    /// How many series the known tag sets make.
    count: usize,
    /// No known tag set was seen before the first of these seconds, and none after the second.
    seen: Option<(i64, i64)>,
}

impl SeriesGuard {
    /// Nothing known, and a limit on the series of 30 days.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, known: HashMap::new(), values: BTreeMap::new(), capped: BTreeSet::new(), count: 0, seen: None }
    }

    /// Decides the tags of a run that is accepted in the second `now`, and counts them.
    ///
    /// A value that is new for a capped key becomes `other`. A tag set that is new even so, and would pass the limit, caps a
    /// key: of those that this run brings a new value of, the one with the most. Where it brings none, the first to be capped
    /// is the one with the most values of all, and later such a new combination of known values passes. Of a job with steps
    /// that is done for the job, and then for each step.
    pub fn bound(&mut self, run: &Run, now: i64) -> Bounded {
        let times = |timed: Option<u64>, queued: Option<u64>| Seen {
            any: now,
            timed: timed.map(|_| now),
            queued: queued.map(|_| now),
        };
        let own = times(run.duration_ms, run.queued_ms());
        let mut capped = Vec::new();
        if run.tag_set.steps.is_empty() {
            let tag_set = self.bound_element(&run.tag_set, own, &mut capped);
            return Bounded { tag_set, job: run.job.clone(), capped };
        }
        let job = self.bound_element(&Arc::new(run.tag_set.alone()), own, &mut capped);
        let mut steps = Vec::with_capacity(run.steps_ms().len());
        for (step, ms) in run.tag_set.steps.iter().zip(run.steps_ms()) {
            let bounded = self.bound_element(&Arc::new(job.step(step)), times(*ms, None), &mut capped);
            let is_own = |tag: &&String| is_conclusion(tag) || tag.starts_with("step_name:");
            steps.push((bounded.tags.iter().filter(is_own).cloned().collect::<Vec<_>>(), *ms));
        }
        steps.sort_unstable();
        let (steps, steps_ms) = steps.into_iter().unzip();
        let tag_set = Arc::new(TagSet { steps, ..Arc::unwrap_or_clone(job) });
        Bounded { tag_set, job: Some(JobTimes { queued_ms: run.queued_ms(), steps_ms }.into()), capped }
    }

    /// The same for one tag set without steps, which was seen now.
    fn bound_element(&mut self, tag_set: &Arc<TagSet>, seen: Seen, capped: &mut Vec<Capped>) -> Arc<TagSet> {
        let mut bounded = Arc::clone(tag_set);
        let mut before = self.known.get(tag_set).copied();
        if before.is_none() {
            bounded = self.with_others(tag_set);
            before = self.known.get(&bounded).copied();
            if before.is_none() && self.count + seen.series(bounded.subject) > self.max {
                capped.extend(self.cap(&bounded));
                bounded = self.with_others(&bounded);
                before = self.known.get(&bounded).copied();
            }
        }
        let seen = Seen {
            timed: seen.timed.or_else(|| before.and_then(|before| before.timed)),
            queued: seen.queued.or_else(|| before.and_then(|before| before.queued)),
            ..seen
        };
        // Of nearly all runs the series are known, and were seen in this second.
        if before != Some(seen) {
            self.note(&bounded, seen);
        }
        bounded
    }

    /// Forgets what was last seen more than 30 days before `now`, and lifts all caps once the series left are down to nine
    /// tenths of the limit, so that they do not come and go with every tag set. The keys that were capped until now.
    pub fn forget(&mut self, now: i64) -> BTreeSet<&'static str> {
        let first = now.saturating_sub(REMEMBERED_S);
        if self.seen.is_some_and(|(oldest, newest)| oldest < first || newest > now) {
            self.forget_before(first, now);
        }
        let is_well_below = self.count.saturating_mul(10) <= self.max.saturating_mul(9);
        if is_well_below { std::mem::take(&mut self.capped) } else { BTreeSet::new() }
    }

    fn forget_before(&mut self, first: i64, now: i64) {
        (self.count, self.seen) = (0, None);
        self.values.clear();
        for (tag_set, seen) in std::mem::take(&mut self.known) {
            if seen.any >= first {
                // A clock that was ahead for a while must not keep them for longer.
                let kept = |seen: Option<i64>| seen.filter(|second| *second >= first).map(|second| second.min(now));
                let seen = Seen { any: seen.any.min(now), timed: kept(seen.timed), queued: kept(seen.queued) };
                self.note(&tag_set, seen);
            }
        }
    }

    /// Distinct series up to `now`.
    #[must_use]
    pub fn count(&self, now: i64) -> SeriesCount {
        let since = |age_s: i64| {
            let first = now.saturating_sub(age_s);
            self.known.iter().map(|(tag_set, seen)| seen.series_since(tag_set.subject, first)).sum()
        };
        SeriesCount { last_hour: since(HOUR_S), last_30_days: since(REMEMBERED_S) }
    }

    /// The limit on the series of 30 days.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// The key with the most values, of those that may be capped, and how many it has.
    #[must_use]
    pub fn widest(&self) -> Option<(&'static str, usize)> {
        let keys = self.values.iter().map(|(key, values)| (*key, values.len()));
        keys.max_by_key(|(key, values)| (*values, Reverse(*key)))
    }

    /// The keys whose new values become `other`.
    pub fn capped(&self) -> impl Iterator<Item = &'static str> {
        self.capped.iter().copied()
    }

    /// All that is known at this moment, to be written while others go on.
    #[must_use]
    pub fn snapshot(&self) -> SeriesSnapshot {
        let saved = |(tag_set, seen): (&Arc<TagSet>, &Seen)| SavedTagSet { tag_set: Arc::clone(tag_set), seen: *seen };
        let tag_sets = self.known.iter().map(saved).collect();
        SeriesSnapshot { format: FORMAT, capped: self.capped().map(str::to_owned).collect(), tag_sets }
    }

    /// What a snapshot is as JSON, under a limit that may be another one.
    ///
    /// # Errors
    /// It wrote something else.
    pub fn from_json(max: usize, text: &[u8]) -> Result<Self, SeriesError> {
        let Version { format } = serde_json::from_slice(text)?;
        if format != FORMAT {
            return Err(SeriesError::Format(format));
        }
        let saved: SeriesSnapshot = serde_json::from_slice(text)?;
        let mut series = Self::new(max);
        for SavedTagSet { tag_set, seen } in saved.tag_sets {
            series.note(&tag_set, seen);
        }
        let is_capped = |key: &&str| saved.capped.iter().any(|capped| capped == key);
        series.capped = TAG_KEYS.into_iter().filter(|key| !BOUNDED_KEYS.contains(key)).filter(is_capped).collect();
        Ok(series)
    }

    /// Tag sets that were seen since this second.
    #[must_use]
    pub fn seen_since(&self, second: i64) -> Vec<SavedTagSet> {
        let seen = self.known.iter().filter(|(_, seen)| seen.any >= second);
        seen.map(|(tag_set, seen)| SavedTagSet { tag_set: Arc::clone(tag_set), seen: *seen }).collect()
    }

    /// Takes over what somebody else has seen.
    pub fn learn(&mut self, saved: &SavedTagSet) {
        let own = self.known.get(&saved.tag_set).copied();
        let seen = own.map_or(saved.seen, |own| own.max(saved.seen));
        if own != Some(seen) {
            self.note(&saved.tag_set, seen);
        }
    }

    fn note(&mut self, tag_set: &Arc<TagSet>, seen: Seen) {
        self.count += seen.series(tag_set.subject);
        let (first, last) = seen.ends();
        self.seen = Some(self.seen.map_or((first, last), |(oldest, newest)| (oldest.min(first), newest.max(last))));
        match self.known.insert(Arc::clone(tag_set), seen) {
            Some(before) => self.count -= before.series(tag_set.subject),
            None => {
                for (key, value) in names(tag_set) {
                    *self.values.entry(key).or_default().entry(value.to_owned()).or_default() += 1;
                }
            }
        }
    }

    fn is_new(&self, key: &str, value: &str) -> bool {
        value != OTHER && !self.values.get(key).is_some_and(|values| values.contains_key(value))
    }

    /// The tag set with `other` in place of new values of capped keys, in order again.
    fn with_others(&self, tag_set: &Arc<TagSet>) -> Arc<TagSet> {
        let is_replaced = |tag: &str| name(tag).is_some_and(|(key, value)| self.is_replaced(key, value));
        if !tag_set.tags.iter().any(|tag| is_replaced(tag)) {
            return Arc::clone(tag_set);
        }
        let replaced = |tag: &String| match name(tag) {
            Some((key, value)) if self.is_replaced(key, value) => format!("{key}:{OTHER}"),
            _ => tag.clone(),
        };
        let mut tags: Vec<String> = tag_set.tags.iter().map(replaced).collect();
        tags.sort_unstable();
        tags.dedup();
        Arc::new(tag_set.of(tag_set.subject, tags))
    }

    fn is_replaced(&self, key: &str, value: &str) -> bool {
        self.capped.contains(key) && self.is_new(key, value)
    }

    /// Caps the key that is to blame for a tag set too many, if there is one.
    fn cap(&mut self, tag_set: &TagSet) -> Option<Capped> {
        let brought = names(tag_set).filter(|(key, value)| !self.capped.contains(key) && self.is_new(key, value));
        let known = |key: &str| self.values.get(key).map_or(0, HashMap::len);
        // Of two that are equal by name, to be the same every time.
        let widest = brought.map(|(key, _)| (key, known(key))).max_by_key(|(key, values)| (*values, Reverse(*key)));
        let is_first = self.capped.is_empty();
        let (key, values) = widest.or_else(|| if is_first { self.widest() } else { None })?;
        self.capped.insert(key);
        Some(Capped { key, values, series: self.count, max: self.max })
    }
}

/// The tags that may be capped, as key and value.
fn names(tag_set: &TagSet) -> impl Iterator<Item = (&'static str, &str)> {
    tag_set.tags.iter().filter_map(|tag| name(tag))
}

fn name(tag: &str) -> Option<(&'static str, &str)> {
    let (key, value) = tag.split_once(':')?;
    let key = TAG_KEYS.into_iter().find(|known| *known == key)?;
    (!BOUNDED_KEYS.contains(&key)).then_some((key, value))
}

#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

/// What was known at a moment.
#[derive(Debug, Serialize, Deserialize)]
pub struct SeriesSnapshot {
    format: u32,
    capped: Vec<String>,
    tag_sets: Vec<SavedTagSet>,
}

impl SeriesSnapshot {
    /// As JSON, in one order.
    #[must_use]
    pub fn json(mut self) -> String {
        self.tag_sets.sort_unstable_by(|a, b| a.tag_set.cmp(&b.tag_set));
        match serde_json::to_string(&self) {
            Ok(text) => text,
            Err(error) => unreachable!("plain data always serialises: {error}"),
        }
    }
}

/// A tag set, and when runs of it were last accepted.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedTagSet {
    /// The tag set.
    pub tag_set: Arc<TagSet>,
    /// When.
    pub seen: Seen,
}

#[cfg(test)]
mod tests;
