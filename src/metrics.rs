//! From runs to what Datadog stores of them: tag sets, slots, series.
//!
//! Invariant: no I/O, no clock. The same slots always make the same series, to the last byte, so that
//! a batch that is sent again overwrites itself and nothing else.

mod catalogue;
mod series;
mod tags;

use crate::event::RunKey;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub use catalogue::Catalogue;
pub use series::{Bounded, Capped, DEFAULT_MAX_SERIES, REMEMBERED_S, SeriesCount, SeriesError, SeriesGuard};
pub use tags::{BACKFILL_TAG, ExtraTag, RUN_TAG_KEYS, TAG_MAX_CHARS, Tagging, tag, tag_form};

/// What stands before every metric's name unless configured otherwise.
pub const DEFAULT_PREFIX: &str = "github.actions";

/// Datadog's longest metric name. Source: Datadog, "Custom metrics", naming.
pub const METRIC_NAME_MAX_CHARS: usize = 200;

/// One combination of tags, with the prefix of its metrics. The tags are in Datadog's form, sorted, none twice.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TagSet {
    /// What stands before every metric's name.
    pub prefix: String,
    /// Whole tags, `key:value`.
    pub tags: Vec<String>,
}

impl TagSet {
    /// Whether its runs are counted at their own time, however long ago. No delivery has such a tag set, so nothing else is
    /// counted in those seconds.
    #[must_use]
    pub fn is_historical(&self) -> bool {
        self.tags.iter().any(|tag| tag.strip_prefix(BACKFILL_TAG).is_some_and(|value| value.starts_with(':')))
    }
}

/// One completed attempt as it is counted: all of it decided when it is accepted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Under which it is counted once.
    pub key: RunKey,
    /// When it ended, in seconds since 1970.
    pub end: i64,
    /// How long it took, in milliseconds; `None` where no start or no end is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Its tags.
    pub tag_set: Arc<TagSet>,
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
    pub fn keys(&self) -> impl Iterator<Item = RunKey> {
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

/// What the points of a slot are made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    runs: u64,
    timed: u64,
    duration_ms: u64,
}

impl Totals {
    /// Counts one run more.
    pub fn add(&mut self, run: &Run) {
        self.runs += 1;
        if let Some(duration_ms) = run.duration_ms {
            self.timed += 1;
            self.duration_ms = self.duration_ms.saturating_add(duration_ms);
        }
    }

    /// A bound on the bytes that the points of a slot at `second` take in a payload.
    #[must_use]
    pub fn points_bytes(&self, second: i64) -> usize {
        Metric::ALL
            .iter()
            .filter_map(|metric| metric.value(self))
            .map(|value| json_bytes(&Point { timestamp: second, value }) + 1)
            .sum()
    }
}

/// The metrics of a run, in the order in which they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    Total,
    ConclusionTotal,
    Duration,
    DurationTotal,
}

impl Metric {
    const ALL: [Self; 4] = [Self::Total, Self::ConclusionTotal, Self::Duration, Self::DurationTotal];

    fn name(self, tag_set: &TagSet) -> String {
        let room = METRIC_NAME_MAX_CHARS.saturating_sub(Self::ConclusionTotal.of(&tag_set.prefix, "").len());
        let conclusion: String = conclusion(tag_set).chars().take(room).map(name_char).collect();
        self.of(&tag_set.prefix, &conclusion)
    }

    fn of(self, prefix: &str, conclusion: &str) -> String {
        match self {
            Self::Total => format!("{prefix}.workflow_run.total"),
            Self::ConclusionTotal => format!("{prefix}.workflow_run.conclusion.{conclusion}_total"),
            Self::Duration => format!("{prefix}.workflow_run.duration_second"),
            Self::DurationTotal => format!("{prefix}.workflow_run.duration_second_total"),
        }
    }

    const fn kind(self) -> MetricKind {
        match self {
            Self::Duration => MetricKind::Gauge,
            Self::Total | Self::ConclusionTotal | Self::DurationTotal => MetricKind::Count,
        }
    }

    const fn unit(self) -> Option<&'static str> {
        match self {
            Self::Duration | Self::DurationTotal => Some("second"),
            Self::Total | Self::ConclusionTotal => None,
        }
    }

    /// How many series a tag set makes whose runs have durations, or have none.
    fn series(is_timed: bool) -> usize {
        let totals = Totals { runs: 1, timed: u64::from(is_timed), duration_ms: 0 };
        Self::ALL.into_iter().filter(|metric| metric.value(&totals).is_some()).count()
    }

    /// The value for a slot; `None` where no run in it has a duration.
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    fn value(self, totals: &Totals) -> Option<f64> {
        let seconds = totals.duration_ms as f64 / 1000.0;
        match self {
            Self::Total | Self::ConclusionTotal => Some(totals.runs as f64),
            Self::Duration => (totals.timed > 0).then(|| seconds / totals.timed as f64),
            Self::DurationTotal => (totals.timed > 0).then_some(seconds),
        }
    }
}

/// The conclusion is one of the tags, so that equal tags always mean equal metric names.
fn conclusion(tag_set: &TagSet) -> &str {
    tag_set.tags.iter().find_map(|tag| tag.strip_prefix("conclusion:")).unwrap_or("unknown")
}

/// Metric names have ASCII letters, digits and `_`; the dot is kept for the levels that we set.
fn name_char(char: char) -> char {
    if char.is_ascii_alphanumeric() { char } else { '_' }
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

/// Datadog's number for the type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum MetricKind {
    /// Values of different seconds add up.
    Count = 1,
    /// The value as it stood.
    Gauge = 3,
}

impl From<MetricKind> for u8 {
    fn from(kind: MetricKind) -> Self {
        kind as Self
    }
}

impl TryFrom<u8> for MetricKind {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1 => Ok(Self::Count),
            3 => Ok(Self::Gauge),
            other => Err(format!("metric type {other} is neither 1 (count) nor 3 (gauge)")),
        }
    }
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
        series.extend(Metric::ALL.into_iter().map(|metric| {
            let points = totals
                .iter()
                .filter_map(|(second, totals)| metric.value(totals).map(|value| Point { timestamp: *second, value }));
            entry(metric, tag_set, points.collect())
        }));
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
    Metric::ALL.into_iter().map(|metric| json_bytes(&entry(metric, tag_set, Vec::new())) + 1).sum()
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
