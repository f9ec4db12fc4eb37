//! Which second it is for Datadog: the `Date` of its last answer, and the time that has passed since.

use crate::ledger::Mode;
use std::{
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

/// Further apart than this from the local clock is worth a warning.
pub(crate) const APART_MAX_S: i64 = 60;

/// One reading of the local clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time since some fixed moment; it never steps.
    pub monotonic: Duration,
    /// Seconds since 1970, as far as this machine knows.
    pub unix: i64,
}

impl Moment {
    pub(crate) fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.unix).unwrap_or_default()
    }
}

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// A clock of one's own.
    pub fn new(read: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        let start = Instant::now();
        Self::new(move || Moment { monotonic: start.elapsed(), unix: jiff::Timestamp::now().as_second() })
    }
}

impl Deref for Clock {
    type Target = dyn Fn() -> Moment + Send + Sync;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What is known of Datadog's clock.
#[derive(Debug)]
pub(super) struct Now {
    mode: Mode,
    learned: Option<Learned>,
    /// Whether nothing is sealed before the next answer.
    is_awaited: bool,
    was_apart: bool,
    was_dateless: bool,
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    date: i64,
    at: Duration,
    /// Whether an answer told it. Until one does, the local clock stands in.
    is_told: bool,
}

impl Now {
    pub(super) const fn new(mode: Mode) -> Self {
        Self { mode, learned: None, is_awaited: true, was_apart: false, was_dateless: false }
    }

    /// The second it is; `None` before Datadog has answered. A dry run asks nobody and uses the local clock.
    pub(super) fn at(&self, moment: Moment) -> Option<i64> {
        match self.mode {
            Mode::DryRun => Some(moment.unix),
            Mode::Live => self.learned.filter(|_| !self.is_awaited).map(|learned| {
                let since = moment.monotonic.saturating_sub(learned.at).as_secs();
                learned.date.saturating_add_unsigned(since)
            }),
        }
    }

    /// Takes the clock over from an answer that came at `moment`. One without a date changes nothing of what was told before.
    pub(super) fn learn(&mut self, date: Option<i64>, moment: Moment) {
        self.is_awaited = false;
        let is_told = self.learned.is_some_and(|learned| learned.is_told);
        if date.is_none() && !self.was_dateless {
            let clock = if is_told { "going on from the last one that had" } else { "using the local clock" };
            log::warn!("Datadog's answer has no date: {clock}");
        }
        self.was_dateless = date.is_none();
        if date.is_none() && is_told {
            return;
        }
        let second = date.unwrap_or(moment.unix);
        let apart = second - moment.unix;
        let is_apart = apart.abs() > APART_MAX_S;
        if is_apart && !self.was_apart {
            log::warn!("the local clock is {apart} s apart from Datadog's: check the time of this machine");
        }
        self.was_apart = is_apart;
        self.learned = Some(Learned { date: second, at: moment.monotonic, is_told: date.is_some() });
    }

    /// Waits for the next answer before anything is sealed.
    pub(super) const fn wait_for_an_answer(&mut self) {
        self.is_awaited = true;
    }

    /// How long until the next second begins.
    pub(super) fn next_second(&self, moment: Moment) -> Duration {
        let since = match (self.mode, self.learned) {
            (Mode::Live, Some(learned)) => moment.monotonic.saturating_sub(learned.at),
            _ => moment.monotonic,
        };
        Duration::from_secs(1).saturating_sub(Duration::from_nanos(since.subsec_nanos().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(ms: u64, unix: i64) -> Moment {
        Moment { monotonic: Duration::from_millis(ms), unix }
    }

    #[test]
    fn now_is_the_last_date_and_the_time_since_whatever_the_local_clock_does() {
        let mut now = Now::new(Mode::Live);
        assert_eq!(now.at(moment(0, 500)), None);
        now.learn(Some(1_000), moment(2_500, 500));
        assert_eq!(now.at(moment(2_500, 500)), Some(1_000));
        assert_eq!(now.at(moment(4_499, 9_999)), Some(1_001));
        assert_eq!(now.next_second(moment(4_300, 0)), Duration::from_millis(200));
        now.wait_for_an_answer();
        assert_eq!(now.at(moment(5_000, 500)), None);
    }

    #[test]
    fn an_answer_without_a_date_keeps_the_clock_that_was_told() {
        let mut now = Now::new(Mode::Live);
        now.learn(Some(1_000), moment(0, 500));
        now.learn(None, moment(3_000, 503));
        assert_eq!(now.at(moment(4_000, 504)), Some(1_004));
        now.wait_for_an_answer();
        assert_eq!(now.at(moment(5_000, 505)), None);
        now.learn(None, moment(6_000, 506));
        assert_eq!(now.at(moment(6_000, 506)), Some(1_006));
    }

    #[test]
    fn without_a_date_and_in_a_dry_run_the_local_clock_counts() {
        let mut now = Now::new(Mode::Live);
        now.learn(None, moment(0, 500));
        assert_eq!(now.at(moment(3_000, 0)), Some(503));
        now.learn(None, moment(4_000, 900));
        assert_eq!(now.at(moment(4_000, 900)), Some(900), "nobody has told another");
        assert_eq!(Now::new(Mode::DryRun).at(moment(0, 700)), Some(700));
    }
}
