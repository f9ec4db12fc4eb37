//! Runs and their durations over the last hours.

use jiff::Timestamp;
use serde::Serialize;
use std::collections::VecDeque;

/// How long a span is, in seconds.
pub(crate) const SPAN_S: i64 = 15 * 60;

/// How many spans are kept: a day.
pub(crate) const SPANS: usize = 96;

/// The runs accepted in one quarter of an hour. A span without runs is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Span {
    /// When it began.
    pub start: Timestamp,
    /// Runs that ended well.
    pub succeeded: u64,
    /// Runs that failed, or did not get to run: `failure`, `timed_out`, `startup_failure`.
    pub failed: u64,
    /// All others: cancelled, skipped, and so on.
    pub other: u64,
    /// Runs with a duration.
    pub timed: u64,
    /// The sum of those durations, in milliseconds.
    pub duration_ms: u64,
}

impl Span {
    /// All runs in it.
    #[must_use]
    pub const fn runs(&self) -> u64 {
        self.succeeded + self.failed + self.other
    }
}

/// The spans of the last day, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct History(VecDeque<Span>);

impl History {
    /// Adds a run that was accepted at `now`.
    pub(super) fn add(&mut self, now: Timestamp, conclusion: Option<&str>, duration_ms: Option<u64>) {
        let second = now.as_second();
        let start = Timestamp::from_second(second - second.rem_euclid(SPAN_S)).unwrap_or(now);
        // A clock that was set back counts into the last span that there is.
        if self.0.back().is_none_or(|last| last.start < start) {
            self.0.push_back(Span { start, ..Span::default() });
        }
        self.forget(now);
        let Some(span) = self.0.back_mut() else {
            return;
        };
        match conclusion {
            Some("success") => span.succeeded += 1,
            Some("failure" | "timed_out" | "startup_failure") => span.failed += 1,
            _ => span.other += 1,
        }
        if let Some(duration_ms) = duration_ms {
            span.timed += 1;
            span.duration_ms = span.duration_ms.saturating_add(duration_ms);
        }
    }

    /// What is left of it at `now`.
    pub(super) fn spans(&self, now: Timestamp) -> Vec<Span> {
        self.0.iter().filter(|span| !is_old(span, now)).cloned().collect()
    }

    fn forget(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|span| is_old(span, now)) || self.0.len() > SPANS {
            self.0.pop_front();
        }
    }
}

fn is_old(span: &Span, now: Timestamp) -> bool {
    span.start.as_second() + i64::try_from(SPANS).unwrap_or(i64::MAX) * SPAN_S <= now.as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_span_is_a_quarter_of_an_hour_and_a_day_of_them_is_kept() {
        let mut history = History::default();
        let start = 1_800_000_000 / SPAN_S * SPAN_S;
        history.add(at(start), Some("success"), Some(1000));
        history.add(at(start + SPAN_S - 1), Some("timed_out"), None);
        history.add(at(start + SPAN_S), None, Some(500));
        let spans = history.spans(at(start + SPAN_S));
        let first = Span { start: at(start), succeeded: 1, failed: 1, other: 0, timed: 1, duration_ms: 1000 };
        assert_eq!(spans[0], first);
        assert_eq!((spans.len(), spans[1].runs(), spans[1].other), (2, 1, 1));
        assert_eq!(history.spans(at(start + 86_400 - 1)).len(), 2);
        assert_eq!(history.spans(at(start + 86_400)).len(), 1);
        for span in 0..500 {
            history.add(at(start + span * SPAN_S), Some("success"), None);
        }
        assert_eq!(history.0.len(), SPANS);
    }

    #[test]
    fn a_clock_that_was_set_back_loses_no_run() {
        let mut history = History::default();
        history.add(at(1_800_000_000), Some("success"), None);
        history.add(at(1_700_000_000), Some("success"), None);
        assert_eq!(history.spans(at(1_800_000_000)).iter().map(Span::runs).sum::<u64>(), 2);
    }
}
