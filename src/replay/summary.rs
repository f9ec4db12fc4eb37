//! What came of a replay, for people.

use crate::{
    inlet::Answered,
    metrics::{MetricKind, MetricPayload},
    vitals::Totals,
};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// More tag sets than this are counted, not shown.
const TAG_SETS_SHOWN: usize = 50;

/// The count or mean of one series.
#[derive(Debug, Default)]
struct Value {
    sum: f64,
    points: u32,
    is_gauge: bool,
    is_seconds: bool,
}

/// What came of all deliveries.
#[derive(Debug)]
pub(super) struct Summary {
    target: String,
    /// Whether the pushes can be seen from here.
    sees_pushes: bool,
    accepted: usize,
    duplicate: usize,
    ignored: BTreeMap<String, usize>,
    refused: Vec<(PathBuf, String)>,
    pushed: usize,
    pub(super) pending: usize,
    pub(super) totals: Totals,
    series: BTreeMap<Vec<String>, BTreeMap<String, Value>>,
}

impl Summary {
    pub(super) fn new(target: String, sees_pushes: bool) -> Self {
        Self {
            target,
            sees_pushes,
            accepted: 0,
            duplicate: 0,
            ignored: BTreeMap::new(),
            refused: Vec::new(),
            pushed: 0,
            pending: 0,
            totals: Totals::default(),
            series: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, path: &Path, answered: Answered) {
        match answered {
            Answered::Accepted => self.accepted += 1,
            Answered::Duplicate => self.duplicate += 1,
            Answered::Ignored(reason) => *self.ignored.entry(reason).or_default() += 1,
            Answered::Refused(error) => self.refused.push((path.to_owned(), error)),
        }
    }

    pub(super) fn pushed(&mut self, runs: usize, payload: &MetricPayload) {
        self.pushed += runs;
        for series in &payload.series {
            let of_tags = self.series.entry(series.tags.clone()).or_default();
            let value = of_tags.entry(series.metric.clone()).or_default();
            value.is_gauge = series.kind == MetricKind::Gauge;
            value.is_seconds = series.unit.is_some();
            for point in &series.points {
                value.sum += point.value;
                value.points += 1;
            }
        }
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) =
            if self.is_gauge { ("gauge", self.sum / f64::from(self.points)) } else { ("count", self.sum) };
        if self.is_seconds { write!(f, "{kind} {value:>12.3} s") } else { write!(f, "{kind} {value:>8}") }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ignored: usize = self.ignored.values().sum();
        let total = self.accepted + self.duplicate + ignored + self.refused.len();
        for (tags, metrics) in self.series.iter().take(TAG_SETS_SHOWN) {
            writeln!(f, "{}", tags.join(" "))?;
            for (metric, value) in metrics {
                writeln!(f, "  {metric:<64} {value}")?;
            }
        }
        if let Some(more) = self.series.len().checked_sub(TAG_SETS_SHOWN).filter(|more| *more > 0) {
            writeln!(f, "and {more} more combinations of tags")?;
        }
        if !self.series.is_empty() {
            let series: usize = self.series.values().map(BTreeMap::len).sum();
            writeln!(f, "{series} series (custom metrics) in {} combinations of tags\n", self.series.len())?;
        }
        writeln!(f, "replayed {total} deliveries {}", self.target)?;
        writeln!(f, "  accepted  {:>6}", self.accepted)?;
        writeln!(f, "  duplicate {:>6}", self.duplicate)?;
        writeln!(f, "  ignored   {ignored:>6}")?;
        for (reason, count) in &self.ignored {
            writeln!(f, "    {count} × {}", reason.escape_debug())?;
        }
        writeln!(f, "  refused   {:>6}", self.refused.len())?;
        for (path, error) in &self.refused {
            writeln!(f, "    {}: {}", path.display(), error.escape_debug())?;
        }
        if self.sees_pushes {
            writeln!(f, "  pushed    {:>6}", self.pushed)?;
            writeln!(f, "  pending   {:>6}", self.pending)?;
            for (what, runs) in [("rejected", self.totals.rejected), ("in doubt", self.totals.in_doubt)] {
                if runs > 0 {
                    writeln!(f, "  {what:<9} {runs:>6}")?;
                }
            }
        }
        Ok(())
    }
}
