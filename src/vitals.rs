//! What the service notices of itself while it works: counters, latencies, the last deliveries and answers.
//!
//! Invariant: nothing here decides anything, and nobody waits here. What is kept has a bound, the length of a text too. All
//! of it is since the start of the process.

mod counts;
mod history;
mod recovery;

use crate::{explain, github::Limits};
use jiff::Timestamp;
use prometheus::{Histogram, HistogramOpts};
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use counts::{Counts, Outcome};
use history::History;
pub use history::Span;
pub(crate) use history::{SPAN_S, SPANS};
pub use recovery::Recovery;

/// How many deliveries are remembered.
pub const DELIVERIES_KEPT: usize = 100;

/// How many answers of Datadog are remembered.
const ANSWERS_KEPT: usize = 20;

/// The longest text from outside that is kept, in characters.
const TEXT_MAX_CHARS: usize = 200;

/// Which way a delivery came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// GitHub has brought it.
    Delivered,
    /// It was fetched, because GitHub has not.
    Fetched,
}

/// A delivery of GitHub's, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Delivered {
    /// When it was answered.
    pub at: Timestamp,
    /// `X-GitHub-Delivery`.
    pub guid: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Which way it came.
    pub way: Way,
    /// Why, where it was not accepted.
    pub reason: Option<String>,
    /// `owner/name`.
    pub repository: Option<String>,
    /// The workflow's name.
    pub workflow: Option<String>,
    /// The job's name, or its key where it has none, if it told of a job.
    pub job: Option<String>,
    /// GitHub's word for how the run ended.
    pub conclusion: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The run's key.
    pub run: Option<String>,
    /// The run's page, an `https` or `http` URL.
    pub url: Option<String>,
}

impl Delivered {
    /// A delivery of which nothing is known but when it came.
    pub(crate) const fn at(at: Timestamp) -> Self {
        Self {
            at,
            guid: None,
            outcome: Outcome::Ignored,
            way: Way::Delivered,
            reason: None,
            repository: None,
            workflow: None,
            job: None,
            conclusion: None,
            duration_ms: None,
            run: None,
            url: None,
        }
    }
}

/// An answer of Datadog, or that there was none.
#[derive(Debug, Clone, Serialize)]
pub struct Answered {
    /// When it came.
    pub at: Timestamp,
    /// `series` for a push, `validate` for a question about the time.
    pub request: &'static str,
    /// What it means.
    pub verdict: &'static str,
    /// Its status; `None` where there was no answer.
    pub status: Option<u16>,
    /// Its beginning, or why there was none.
    pub text: String,
    /// How many runs were pushed.
    pub runs: usize,
    /// How many points were pushed.
    pub points: usize,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What has come of the runs so far, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Runs taken by Datadog, or logged by a dry run.
    pub pushed: u64,
    /// Runs that go again although an earlier try may have been taken.
    pub in_doubt: u64,
    /// Runs that Datadog refused for good.
    pub rejected: u64,
}

/// What has been noticed up to now.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// The last deliveries, the latest first.
    pub deliveries: VecDeque<Delivered>,
    /// When GitHub last brought a delivery that was understood.
    pub delivered_at: Option<Timestamp>,
    /// When it last brought one that was accepted.
    pub accepted_at: Option<Timestamp>,
    /// Datadog's last answers, the latest first.
    pub answers: VecDeque<Answered>,
    /// How many pushes there were of each verdict.
    pub pushes: Vec<(&'static str, u64)>,
    /// When a push was last taken.
    pub taken_at: Option<Timestamp>,
    /// Since when requests of this kind fail, if they do: a push until one is taken, a question until one is answered.
    pub failing: Option<(&'static str, Timestamp)>,
    /// Points that were taken.
    pub points: u64,
    /// How far Datadog's clock is ahead of ours, in seconds.
    pub clock_apart_s: Option<i64>,
    /// What has come of the runs.
    pub totals: Totals,
    /// When a run was last found to be in doubt.
    pub in_doubt_at: Option<Timestamp>,
    /// When a run was last rejected.
    pub rejected_at: Option<Timestamp>,
    /// Why nothing can be recorded of what was pushed.
    pub blocked: Option<String>,
    /// What was found in GitHub's delivery logs, if they are looked at.
    pub recovery: Option<Recovery>,
    history: History,
}

impl Notes {
    /// Runs and durations of the last day, oldest first.
    #[must_use]
    pub fn history(&self, now: Timestamp) -> Vec<Span> {
        self.history.spans(now)
    }
}

/// What the rooms notice, for whoever asks.
#[derive(Debug)]
pub struct Vitals {
    counts: Counts,
    restamped: AtomicU64,
    odd_times: AtomicU64,
    accept_seconds: Histogram,
    push_seconds: Histogram,
    group_runs: Histogram,
    sync_seconds: Histogram,
    notes: Mutex<Notes>,
}

impl Default for Vitals {
    fn default() -> Self {
        // From a fraction of a fast disk's sync up to GitHub's patience.
        let quick =
            [0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let slow = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
        let sizes = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
        let accept = "From the head of a delivery to its answer, for runs that were accepted";
        Self {
            counts: Counts::default(),
            restamped: AtomicU64::new(0),
            odd_times: AtomicU64::new(0),
            accept_seconds: histogram("runhound_accept_duration_seconds", accept, &quick),
            push_seconds: histogram("runhound_push_duration_seconds", "From a push to Datadog's answer", &slow),
            group_runs: histogram("runhound_journal_group_runs", "Runs that shared one sync of the journal", &sizes),
            sync_seconds: histogram(
                "runhound_journal_sync_duration_seconds",
                "A write and sync of the journal",
                &quick,
            ),
            notes: Mutex::default(),
        }
    }
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    match Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("name and buckets are well-formed: {error}"),
    }
}

impl Vitals {
    /// Deliveries by what became of them.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Runs whose points have another second than their end.
    #[must_use]
    pub fn restamped(&self) -> u64 {
        self.restamped.load(Ordering::Relaxed)
    }

    /// Times of accepted runs that GitHub told and that cannot be.
    #[must_use]
    pub fn odd_times(&self) -> u64 {
        self.odd_times.load(Ordering::Relaxed)
    }

    /// The distributions: latencies and sizes.
    #[must_use]
    pub fn histograms(&self) -> [&Histogram; 4] {
        [&self.accept_seconds, &self.group_runs, &self.sync_seconds, &self.push_seconds]
    }

    /// A copy of what has been noticed up to now.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.note().clone()
    }

    fn note(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request to the webhook was answered.
    pub(crate) fn answered(&self, outcome: Outcome, took: Duration) {
        self.counts.count(outcome);
        if outcome == Outcome::Accepted {
            self.accept_seconds.observe(took.as_secs_f64());
        }
    }

    /// A signed delivery was understood.
    pub(crate) fn delivered(&self, mut delivered: Delivered) {
        let texts = [
            &mut delivered.guid,
            &mut delivered.reason,
            &mut delivered.repository,
            &mut delivered.workflow,
            &mut delivered.job,
            &mut delivered.conclusion,
        ];
        for text in texts.into_iter().flatten() {
            shorten(text);
        }
        // A page that is cut is another page.
        delivered.url = delivered.url.filter(|url| url.len() <= TEXT_MAX_CHARS);
        let mut notes = self.note();
        // What was fetched is no sign that GitHub delivers.
        let came_at = (delivered.way == Way::Delivered).then_some(delivered.at);
        notes.delivered_at = came_at.or(notes.delivered_at);
        if delivered.outcome == Outcome::Accepted {
            notes.accepted_at = came_at.or(notes.accepted_at);
            if delivered.job.is_none() {
                notes.history.add(delivered.at, delivered.conclusion.as_deref(), delivered.duration_ms);
            }
        }
        keep(&mut notes.deliveries, delivered, DELIVERIES_KEPT);
    }

    /// Datadog has answered, or has not.
    pub(crate) fn datadog(&self, mut answered: Answered, is_fine: bool) {
        shorten(&mut answered.text);
        let mut notes = self.note();
        if answered.request == "series" {
            self.push_seconds.observe(Duration::from_millis(answered.took_ms).as_secs_f64());
            match notes.pushes.iter_mut().find(|(verdict, _)| *verdict == answered.verdict) {
                Some((_, count)) => *count += 1,
                None => notes.pushes.push((answered.verdict, 1)),
            }
            if is_fine {
                notes.taken_at = Some(answered.at);
            }
        }
        notes.failing = match notes.failing {
            // An answer to a question does not tell that a push would be taken.
            Some(("series", since)) if answered.request != "series" || !is_fine => Some(("series", since)),
            Some((_, since)) if !is_fine => Some((answered.request, since)),
            _ => (!is_fine).then_some((answered.request, answered.at)),
        };
        keep(&mut notes.answers, answered, ANSWERS_KEPT);
    }

    /// So many points were taken for good.
    pub(crate) fn taken(&self, points: usize) {
        self.note().points += points as u64;
    }

    /// How far Datadog's clock is ahead of ours.
    pub(crate) fn clock_apart(&self, seconds: i64) {
        self.note().clock_apart_s = Some(seconds);
    }

    /// What has come of the runs up to now.
    pub(crate) fn totals(&self, totals: Totals, now: impl FnOnce() -> Timestamp) {
        let mut notes = self.note();
        if notes.totals == totals {
            return;
        }
        let now = now();
        if totals.in_doubt > notes.totals.in_doubt {
            notes.in_doubt_at = Some(now);
        }
        if totals.rejected > notes.totals.rejected {
            notes.rejected_at = Some(now);
        }
        notes.totals = totals;
    }

    /// Nothing can be recorded of what was pushed, or it can again.
    pub(crate) fn blocked(&self, why: Option<String>) {
        self.note().blocked = why;
    }

    /// Another replica delivers: what was the matter between this one and Datadog is no longer its matter.
    pub(crate) fn deposed(&self) {
        let mut notes = self.note();
        (notes.blocked, notes.failing, notes.clock_apart_s) = (None, None, None);
        if let Some(recovery) = &mut notes.recovery {
            (recovery.failing_since, recovery.error) = (None, None);
        }
    }

    /// GitHub's delivery logs are looked at from now on.
    pub(crate) fn recovers(&self) {
        self.note().recovery = Some(Recovery::default());
    }

    /// They were looked at, or could not be.
    pub(crate) fn swept(&self, at: Timestamp, error: Option<String>, limits: Option<Limits>) {
        let error = error.map(|mut error| {
            shorten(&mut error);
            error
        });
        self.note().recovery.get_or_insert_default().swept(at, error, limits);
    }

    /// GitHub's rate limit is waited for.
    pub(crate) fn waits_for_github(&self, until: Timestamp) {
        let mut notes = self.note();
        let recovery = notes.recovery.get_or_insert_default();
        (recovery.waiting_until, recovery.requests_remaining) = (Some(until), Some(0));
    }

    /// A run that no delivery had brought was found, or was taken in.
    pub(crate) fn holes(&self, found: u64, filled: u64) {
        let mut notes = self.note();
        let recovery = notes.recovery.get_or_insert_default();
        recovery.holes_found += found;
        recovery.holes_filled += filled;
    }

    /// A group of so many runs was written to the journal and synced.
    pub(crate) fn synced(&self, runs: usize, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
        if runs > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a group has some thousand runs at the most")]
            self.group_runs.observe(runs as f64);
        }
    }

    /// So many runs were sealed at another second than their end.
    pub(crate) fn restamp(&self, runs: usize) {
        self.restamped.fetch_add(runs as u64, Ordering::Relaxed);
    }

    /// So many times of an accepted run cannot be.
    pub(crate) fn note_odd_times(&self, times: usize) {
        self.odd_times.fetch_add(times as u64, Ordering::Relaxed);
    }
}

fn shorten(text: &mut String) {
    let kept_bytes = explain::cut(text, TEXT_MAX_CHARS).len();
    text.truncate(kept_bytes);
}

fn keep<T>(kept: &mut VecDeque<T>, latest: T, max: usize) {
    kept.push_front(latest);
    kept.truncate(max);
}

#[cfg(test)]
mod tests;
