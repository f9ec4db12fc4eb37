//! A Datadog in memory: it keeps the last value of each metric, tag set and second, throws away what is outside its window while
//! it says 202, and goes wrong in every way that an intake and the network before it can.

use super::disk::crash;
use crate::{
    datadog::{Answer, Intake},
    metrics::MetricPayload,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

/// A point further behind or ahead is dropped.
const BEHIND_MAX_S: i64 = 3600;
const AHEAD_MAX_S: i64 = 600;

/// The tag of runs that it refuses.
pub(super) const POISON: &str = "workflow_name:poison";

/// The counts that every run or job has one of.
pub(super) const TOTALS: [&str; 2] = ["github.actions.workflow_run.total", "github.actions.job.total"];

/// What becomes of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// By the rules.
    Take,
    /// Not stored, and answered so.
    Status(u16),
    /// There was no connection.
    NoConnection,
    /// Not stored, and no answer.
    Silence,
    /// Stored, and no answer.
    TakenInSilence,
    /// Stored, and answered so.
    TakenBut(u16),
    /// No answer; stored when it lands.
    Late,
    /// Not stored, or stored, and then whoever sent it loses power.
    Crash { is_stored: bool },
}

impl Fate {
    /// Whether a try may be stored of which nobody is told.
    fn is_doubtful(self) -> bool {
        matches!(self, Self::TakenInSilence | Self::TakenBut(_) | Self::Late | Self::Crash { is_stored: true })
    }
}

/// The intake. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct SimIntake(Rc<RefCell<State>>);

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Its own clock.
    pub(super) now: i64,
    /// What becomes of the next tries; then all go by the rules.
    pub(super) fates: VecDeque<Fate>,
    /// Whether it refuses runs with [`POISON`].
    pub(super) is_poisonable: bool,
    /// The largest payload that whatever stands between lets through.
    pub(super) payload_max_bytes: Option<usize>,
    stored: BTreeMap<(String, Vec<String>, i64), f64>,
    late: Vec<MetricPayload>,
    /// Series-seconds that were written with two values.
    pub(super) overwritten: Vec<String>,
    /// Counts that may be stored without an answer that says so, each series-second once.
    doubtful: BTreeMap<(String, Vec<String>, i64), f64>,
    pub(super) tries: usize,
    /// What was tried since the sender last had nothing to do.
    recent: Vec<MetricPayload>,
}

impl SimIntake {
    pub(super) fn of(state: State) -> Self {
        Self(Rc::new(RefCell::new(state)))
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.borrow_mut())
    }

    fn answer(&self, status: u16) -> Answer {
        let date = jiff::Timestamp::from_second(self.0.borrow().now).unwrap();
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
        Answer::new(status, |name| (name == "date").then_some(date.as_str()), b"")
    }
}

impl Intake for SimIntake {
    async fn push(&self, payload: &MetricPayload) -> Answer {
        let (fate, refusal) = self.with(|state| {
            state.tries += 1;
            state.recent.push(payload.clone());
            let fate = state.fates.pop_front().unwrap_or(Fate::Take);
            (fate, state.refusal(payload))
        });
        self.with(|state| {
            if refusal.is_none() && fate.is_doubtful() {
                state.doubt(payload, |_| true);
            }
            match fate {
                Fate::Late if refusal.is_none() => state.late.push(payload.clone()),
                Fate::Take | Fate::TakenInSilence | Fate::TakenBut(_) | Fate::Crash { is_stored: true }
                    if refusal.is_none() =>
                {
                    state.store(payload);
                }
                _ => {}
            }
        });
        match (fate, refusal) {
            (Fate::Take | Fate::TakenBut(_), Some(refusal)) => self.answer(refusal),
            (Fate::Take, None) => self.answer(202),
            (Fate::TakenBut(status), None) | (Fate::Status(status), _) => self.answer(status),
            (Fate::NoConnection, _) => Answer::none(true, "no connection"),
            (Fate::Silence | Fate::TakenInSilence | Fate::Late, _) => Answer::none(false, "silence"),
            (Fate::Crash { .. }, _) => crash(),
        }
    }

    async fn validate(&self) -> Answer {
        match self.with(|state| state.fates.front().copied()) {
            Some(Fate::NoConnection) => {
                self.with(|state| state.fates.pop_front());
                Answer::none(true, "no connection")
            }
            _ => self.answer(200),
        }
    }
}

impl State {
    fn refusal(&self, payload: &MetricPayload) -> Option<u16> {
        let is_poisoned = payload.series.iter().any(|series| series.tags.iter().any(|tag| tag == POISON));
        if self.payload_max_bytes.is_some_and(|most| payload.line().len() > most) {
            Some(413)
        } else if is_poisoned && self.is_poisonable {
            Some(400)
        } else {
            None
        }
    }

    fn store(&mut self, payload: &MetricPayload) {
        let now = self.now;
        let window = now - BEHIND_MAX_S..=now + AHEAD_MAX_S;
        for series in &payload.series {
            let mut tags = series.tags.clone();
            tags.sort();
            for point in series.points.iter().filter(|point| window.contains(&point.timestamp)) {
                let key = (series.metric.clone(), tags.clone(), point.timestamp);
                let shown = format!("{key:?}");
                if let Some(before) = self.stored.insert(key, point.value).filter(|before| *before != point.value) {
                    self.overwritten.push(format!("{shown}: {before} by {}", point.value));
                }
            }
        }
        // Taken and perhaps thrown away: whoever sent it goes by the answer's date, and is a little stricter.
        self.doubt(payload, |second| second < now - BEHIND_MAX_S + 180 || second > now + AHEAD_MAX_S - 120);
    }

    fn doubt(&mut self, payload: &MetricPayload, which: impl Fn(i64) -> bool) {
        for series in payload.series.iter().filter(|series| TOTALS.contains(&series.metric.as_str())) {
            for point in series.points.iter().filter(|point| which(point.timestamp)) {
                self.doubtful.insert((series.metric.clone(), series.tags.clone(), point.timestamp), point.value);
            }
        }
    }

    /// The sender has nothing to do: it knows how its tries ended.
    pub(super) fn forget_recent(&mut self) {
        self.recent.clear();
    }

    /// The sender has crashed, and does not know how its tries ended.
    pub(super) fn doubt_recent(&mut self) {
        for payload in std::mem::take(&mut self.recent) {
            self.doubt(&payload, |_| true);
        }
    }

    /// What was on its way lands, in an order of its own.
    pub(super) fn land_late(&mut self, random: &mut fastrand::Rng) {
        let mut late = std::mem::take(&mut self.late);
        random.shuffle(&mut late);
        for payload in late {
            self.store(&payload);
        }
    }

    /// The sum of metrics over all seconds, for tag sets with this tag.
    pub(super) fn sum(&self, metrics: &[&str], tag: &str) -> f64 {
        let is_it = |name: &str, tags: &[String]| metrics.contains(&name) && tags.iter().any(|known| known == tag);
        self.stored.iter().filter(|((name, tags, _), _)| is_it(name, tags)).map(|(_, value)| value).sum()
    }

    /// The sum of metrics over all tag sets and seconds.
    pub(super) fn sum_of_all(&self, metrics: &[&str]) -> f64 {
        self.stored.iter().filter(|((name, ..), _)| metrics.contains(&name.as_str())).map(|(_, value)| value).sum()
    }

    /// How many runs with this tag may be stored without an answer that says so.
    pub(super) fn doubtful(&self, tag: &str) -> f64 {
        let doubtful = self.doubtful.iter().filter(|((_, tags, _), _)| tags.iter().any(|known| known == tag));
        doubtful.map(|(_, value)| value).sum()
    }
}
