//! From runs to what Datadog stores of them: tag sets, slots, series.
//!
//! Invariant: no I/O, no clock. The same slots always make the same series, to the last byte, so that
//! a batch that is sent again overwrites itself and nothing else.

mod catalogue;
mod jobs;
mod metric;
mod series;
mod tags;

use crate::event::Key;
use metric::Metric;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, iter, sync::Arc};

pub use catalogue::Catalogue;
pub use metric::{MetricKind, Subject, Totals};
pub use series::{
    Bounded, Capped, DEFAULT_MAX_SERIES, REMEMBERED_S, SavedTagSet, Seen, SeriesCount, SeriesError, SeriesGuard,
    SeriesSnapshot,
};
pub use tags::{BACKFILL_TAG, ExtraTag, TAG_KEYS, TAG_MAX_CHARS, Tagging, tag, tag_form};

/// What stands before every metric's name unless configured otherwise.
pub const DEFAULT_PREFIX: &str = "github.actions";

/// Datadog's longest metric name. Source: Datadog, "Custom metrics", naming.
pub const METRIC_NAME_MAX_CHARS: usize = 200;

/// One combination of tags, with the prefix of its metrics and what they are of. The tags are in Datadog's form, sorted, none
/// twice.
///
/// A job that is counted with its steps has one tag set with all of them in it: whatever it makes goes out together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TagSet {
    /// What stands before every metric's name.
    pub prefix: String,
    /// What its metrics are of.
    #[serde(default, skip_serializing_if = "Subject::is_run")]
    pub subject: Subject,
    /// Whole tags, `key:value`.
    pub tags: Vec<String>,
    /// Of each step of a job the tags in which it differs from the job; sorted, and as often as there is such a step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Vec<String>>,
}

impl TagSet {
    /// The tag set of runs with these tags.
    #[must_use]
    pub const fn of_runs(prefix: String, tags: Vec<String>) -> Self {
        Self { prefix, subject: Subject::Run, tags, steps: Vec::new() }
    }

    /// Whether its runs are counted at their own time, however long ago. No delivery has such a tag set, so nothing else is
    /// counted in those seconds.
    #[must_use]
    pub fn is_historical(&self) -> bool {
        self.tags.iter().any(|tag| tag.strip_prefix(BACKFILL_TAG).is_some_and(|value| value.starts_with(':')))
    }

    /// The tag sets that series are made of: without steps itself, else the job's alone and that of each kind of step.
    pub fn elements(&self) -> impl Iterator<Item = Cow<'_, Self>> {
        let own = if self.steps.is_empty() { Cow::Borrowed(self) } else { Cow::Owned(self.alone()) };
        let steps = self.steps.chunk_by(|a, b| a == b).filter_map(<[_]>::first);
        iter::once(own).chain(steps.map(|step| Cow::Owned(self.step(step))))
    }

    /// It without steps.
    fn alone(&self) -> Self {
        self.of(self.subject, self.tags.clone())
    }

    /// The tag set of a step of this job: the job's tags but for its conclusion, and the step's own.
    fn step(&self, own: &[String]) -> Self {
        let mut tags: Vec<String> = self.tags.iter().filter(|tag| !is_conclusion(tag)).chain(own).cloned().collect();
        tags.sort_unstable();
        self.of(Subject::Step, tags)
    }

    /// What all tag sets have in common that may have series in common, if that is not the tag set itself: jobs that differ in
    /// their conclusion may have had the same steps. Two of them are never counted on one second.
    #[must_use]
    pub fn family(&self) -> Option<Self> {
        let in_common = || self.tags.iter().filter(|tag| !is_conclusion(tag)).cloned().collect();
        (self.subject == Subject::Job).then(|| self.of(Subject::Job, in_common()))
    }

    /// Another one with the same prefix.
    fn of(&self, subject: Subject, tags: Vec<String>) -> Self {
        Self { prefix: self.prefix.clone(), subject, tags, steps: Vec::new() }
    }

    /// What the element of this number has metrics of.
    const fn subject_of(&self, element: usize) -> Subject {
        if element == 0 { self.subject } else { Subject::Step }
    }
}

fn is_conclusion(tag: &str) -> bool {
    tag.starts_with("conclusion:")
}

/// One completed attempt, or one completed job, as it is counted: all of it decided when it is accepted. What is said of runs
/// holds for both, unless jobs are named.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Under which it is counted once.
    pub key: Key,
    /// When it ended, in seconds since 1970.
    pub end: i64,
    /// How long it took, in milliseconds; `None` where no start or no end is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What a job has beside that. Behind a pointer, for of runs there may be a million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<JobTimes>>,
    /// Its tags.
    pub tag_set: Arc<TagSet>,
}

/// The times of a job, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTimes {
    /// How long it waited for its runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<u64>,
    /// How long each of the steps in its tag set took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps_ms: Vec<Option<u64>>,
}

impl Run {
    /// The same with another tag set, and with times of a job that has it.
    pub(crate) fn tagged(&self, tag_set: Arc<TagSet>, job: Option<Box<JobTimes>>) -> Self {
        let Self { key, end, duration_ms, .. } = *self;
        Self { key, end, duration_ms, job, tag_set }
    }

    /// How long a job waited for its runner.
    pub(crate) fn queued_ms(&self) -> Option<u64> {
        self.job.as_ref().and_then(|job| job.queued_ms)
    }

    /// How long each of the steps in its tag set took.
    pub(crate) fn steps_ms(&self) -> &[Option<u64>] {
        self.job.as_ref().map(|job| job.steps_ms.as_slice()).unwrap_or_default()
    }
}

/// One tag set and one second, and the runs in it. There is at least one, and all have that tag set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The second of its points, since 1970.
    pub second: i64,
    /// The runs it stands for.
    pub runs: Vec<Arc<Run>>,
}

impl Slot {
    /// The tag set that its runs share.
    #[must_use]
    pub fn tag_set(&self) -> Option<&Arc<TagSet>> {
        self.runs.first().map(|run| &run.tag_set)
    }

    /// Whether its runs are counted at their own time, however long ago.
    #[must_use]
    pub fn is_historical(&self) -> bool {
        self.tag_set().is_some_and(|tag_set| tag_set.is_historical())
    }

    /// The keys of its runs.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.runs.iter().map(|run| run.key)
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for run in &self.runs {
            totals.add(run);
        }
        totals
    }
}

/// The body of `POST /api/v2/series`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPayload {
    /// One entry for each metric and tag set.
    pub series: Vec<Series>,
}

impl MetricPayload {
    /// How many points it has.
    #[must_use]
    pub fn points(&self) -> usize {
        self.series.iter().map(|series| series.points.len()).sum()
    }

    /// The payload as a line of JSON.
    #[must_use]
    pub fn line(&self) -> String {
        match serde_json::to_string(self) {
            Ok(line) => line,
            Err(error) => unreachable!("plain data always serialises: {error}"),
        }
    }
}

/// One metric of one tag set, with a point for each second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The metric's name.
    pub metric: String,
    /// Count or gauge.
    #[serde(rename = "type")]
    pub kind: MetricKind,
    /// Its points, a second each.
    pub points: Vec<Point>,
    /// Whole tags, `key:value`.
    pub tags: Vec<String>,
    /// Datadog's name of the unit, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// The value of a metric in one second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds since 1970.
    pub timestamp: i64,
    /// In the metric's unit.
    pub value: f64,
}

/// The payload of `slots`. Slots of one tag set that follow each other share their series' entries.
#[must_use]
pub fn payload(slots: &[Slot]) -> MetricPayload {
    let mut series = Vec::new();
    for group in slots.chunk_by(|a, b| a.tag_set() == b.tag_set()) {
        let Some(tag_set) = group.first().and_then(Slot::tag_set) else {
            continue;
        };
        let totals: Vec<(i64, Totals)> = group.iter().map(|slot| (slot.second, slot.totals())).collect();
        for (number, element) in tag_set.elements().enumerate() {
            series.extend(element.subject.metrics().iter().map(|metric| {
                let value = |totals: &Totals| metric.value(totals.of(number)?);
                let points = totals
                    .iter()
                    .filter_map(|(second, totals)| value(totals).map(|value| Point { timestamp: *second, value }));
                entry(*metric, &element, points.collect())
            }));
        }
    }
    series.retain(|entry| !entry.points.is_empty());
    MetricPayload { series }
}

fn entry(metric: Metric, tag_set: &TagSet, points: Vec<Point>) -> Series {
    Series {
        metric: metric.name(tag_set),
        kind: metric.kind(),
        points,
        tags: tag_set.tags.clone(),
        unit: metric.unit().map(str::to_owned),
    }
}

/// The bytes that the entries of a tag set take in a payload, points not counted.
#[must_use]
pub fn entries_bytes(tag_set: &TagSet) -> usize {
    let of_element = |element: Cow<'_, TagSet>| {
        let entries = element.subject.metrics().iter().map(|metric| entry(*metric, &element, Vec::new()));
        entries.map(|entry| json_bytes(&entry) + 1).sum::<usize>()
    };
    tag_set.elements().map(of_element).sum()
}

fn json_bytes<T: Serialize>(value: &T) -> usize {
    let mut count = ByteCount(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(error) => unreachable!("plain data always serialises: {error}"),
    }
}

/// A writer that only counts.
struct ByteCount(usize);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
