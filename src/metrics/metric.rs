//! The metrics: of what, named how, of which type and unit, and their values.

use super::{METRIC_NAME_MAX_CHARS, Point, Run, TagSet, json_bytes};
use crate::event::Detail;
use serde::{Deserialize, Serialize};
use std::iter;

/// What a metric is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Attempts of runs.
    #[default]
    Run,
    /// Jobs.
    Job,
    /// Steps of jobs.
    Step,
}

impl Subject {
    /// What there are metrics of, in this detail.
    #[must_use]
    pub const fn of(detail: Detail) -> &'static [Self] {
        match detail {
            Detail::Runs => &[Self::Run],
            Detail::Jobs => &[Self::Run, Self::Job],
            Detail::Steps => &[Self::Run, Self::Job, Self::Step],
        }
    }

    /// A pattern of all its metrics.
    #[must_use]
    pub fn pattern(self, prefix: &str) -> String {
        format!("{prefix}.{}.*", self.name())
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
    pub(super) fn is_run(&self) -> bool {
        *self == Self::Run
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Run => "workflow_run",
            Self::Job => "job",
            Self::Step => "step",
        }
    }

    /// Its metrics, in the order in which they are sent.
    pub(super) const fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Run | Self::Step => {
                &[Metric::Total, Metric::ConclusionTotal, Metric::Duration, Metric::DurationTotal]
            }
            Self::Job => &[
                Metric::Total,
                Metric::ConclusionTotal,
                Metric::Queued,
                Metric::QueuedTotal,
                Metric::Duration,
                Metric::DurationTotal,
            ],
        }
    }

    /// How many series a tag set makes, with durations and times in the queue or without.
    pub(super) fn series(self, is_timed: bool, is_queued: bool) -> usize {
        let one = |is_known: bool| is_known.then_some(0);
        let total = Total::of(one(is_timed), one(is_queued));
        self.metrics().iter().filter(|metric| metric.value(&total).is_some()).count()
    }
}

/// A metric of whatever it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Total,
    ConclusionTotal,
    Queued,
    QueuedTotal,
    Duration,
    DurationTotal,
}

impl Metric {
    pub(super) fn name(self, tag_set: &TagSet) -> String {
        let TagSet { prefix, subject, .. } = tag_set;
        let room = METRIC_NAME_MAX_CHARS.saturating_sub(Self::ConclusionTotal.of(prefix, *subject, "").len());
        let conclusion: String = conclusion(tag_set).chars().take(room).map(name_char).collect();
        self.of(prefix, *subject, &conclusion)
    }

    pub(super) fn of(self, prefix: &str, subject: Subject, conclusion: &str) -> String {
        let subject = subject.name();
        match self {
            Self::Total => format!("{prefix}.{subject}.total"),
            Self::ConclusionTotal => format!("{prefix}.{subject}.conclusion.{conclusion}_total"),
            Self::Queued => format!("{prefix}.{subject}.queued_duration_second"),
            Self::QueuedTotal => format!("{prefix}.{subject}.queued_duration_second_total"),
            Self::Duration => format!("{prefix}.{subject}.duration_second"),
            Self::DurationTotal => format!("{prefix}.{subject}.duration_second_total"),
        }
    }

    pub(super) const fn kind(self) -> MetricKind {
        match self {
            Self::Queued | Self::Duration => MetricKind::Gauge,
            Self::Total | Self::ConclusionTotal | Self::QueuedTotal | Self::DurationTotal => MetricKind::Count,
        }
    }

    pub(super) const fn unit(self) -> Option<&'static str> {
        match self {
            Self::Queued | Self::QueuedTotal | Self::Duration | Self::DurationTotal => Some("second"),
            Self::Total | Self::ConclusionTotal => None,
        }
    }

    /// The value for a slot; `None` where no run in it has such a time.
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    pub(super) fn value(self, total: &Total) -> Option<f64> {
        match self {
            Self::Total | Self::ConclusionTotal => Some(total.count as f64),
            Self::Queued => total.queued.mean_s(),
            Self::QueuedTotal => total.queued.sum_s(),
            Self::Duration => total.duration.mean_s(),
            Self::DurationTotal => total.duration.sum_s(),
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

/// What the points of a slot are made of: a total for each element of its tag set.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    own: Total,
    steps: Vec<Total>,
}

/// What the points of one element are made of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    count: u64,
    duration: Sum,
    queued: Sum,
}

/// A sum of the times that are known.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    known: u64,
    ms: u64,
}

impl Totals {
    /// Counts one run more. All have one tag set.
    pub fn add(&mut self, run: &Run) {
        self.own.add(Total::of(run.duration_ms, run.queued_ms()));
        let groups = run.tag_set.steps.chunk_by(|a, b| a == b);
        let mut steps_ms = run.steps_ms().iter();
        for (number, group) in groups.enumerate() {
            if self.steps.len() <= number {
                self.steps.push(Total::default());
            }
            let mut of_group = Total::default();
            steps_ms.by_ref().take(group.len()).for_each(|ms| of_group.add(Total::of(*ms, None)));
            self.steps.get_mut(number).into_iter().for_each(|total| total.add(of_group));
        }
    }

    /// That of the element of this number.
    pub(super) fn of(&self, element: usize) -> Option<&Total> {
        match element.checked_sub(1) {
            None => Some(&self.own),
            Some(step) => self.steps.get(step),
        }
    }

    /// A bound on the bytes that the points of a slot of this tag set at `second` take in a payload.
    #[must_use]
    pub fn points_bytes(&self, tag_set: &TagSet, second: i64) -> usize {
        let of_element = |(number, total): (usize, &Total)| {
            let values = tag_set.subject_of(number).metrics().iter().filter_map(|metric| metric.value(total));
            values.map(|value| json_bytes(&Point { timestamp: second, value }) + 1).sum::<usize>()
        };
        iter::once(&self.own).chain(&self.steps).enumerate().map(of_element).sum()
    }
}

impl Total {
    fn of(duration_ms: Option<u64>, queued_ms: Option<u64>) -> Self {
        Self { count: 1, duration: Sum::of(duration_ms), queued: Sum::of(queued_ms) }
    }

    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.duration.add(more.duration);
        self.queued.add(more.queued);
    }
}

impl Sum {
    fn of(ms: Option<u64>) -> Self {
        Self { known: u64::from(ms.is_some()), ms: ms.unwrap_or_default() }
    }

    fn add(&mut self, more: Self) {
        self.known += more.known;
        self.ms = self.ms.saturating_add(more.ms);
    }

    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    fn sum_s(self) -> Option<f64> {
        (self.known > 0).then(|| self.ms as f64 / 1000.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53")]
    fn mean_s(self) -> Option<f64> {
        self.sum_s().map(|sum| sum / self.known as f64)
    }
}
