//! When runs were accepted, as far as an operator asks: to ten seconds, and by this process alone.
//!
//! Invariant: an entry each ten seconds at the most, and none of before the oldest run that is pending. It is in no file.

use std::collections::VecDeque;

/// What came in within so many seconds came in together.
const STEP_S: i64 = 10;

/// Places in the order of acceptance, each with the second at which it was taken.
#[derive(Debug, Default)]
pub(super) struct Arrivals(VecDeque<(u64, i64)>);

impl Arrivals {
    /// The runs from `place` on are accepted at the second `now`. None before `oldest` is pending any more.
    pub(super) fn note(&mut self, place: u64, now: i64, oldest: u64) {
        while self.0.get(1).is_some_and(|(next, _)| *next <= oldest) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(_, last)| (now - last).abs() >= STEP_S) {
            self.0.push_back((place, now));
        }
    }

    /// When the run at this place was accepted; `None` for one that an earlier process accepted.
    pub(super) fn of(&self, place: u64) -> Option<i64> {
        let after = self.0.partition_point(|(first, _)| *first <= place);
        self.0.get(after.checked_sub(1)?).map(|(_, second)| *second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_time_of_those_that_came_with_it_and_one_of_before_has_none() {
        let mut arrivals = Arrivals::default();
        for (place, now) in [(5, 100), (6, 109), (7, 110), (9, 125)] {
            arrivals.note(place, now, 0);
        }
        let times: Vec<Option<i64>> = [4, 5, 6, 7, 8, 9, 50].map(|place| arrivals.of(place)).into();
        assert_eq!(times, [None, Some(100), Some(100), Some(110), Some(110), Some(125), Some(125)]);
    }

    #[test]
    fn what_is_no_longer_pending_is_forgotten() {
        let mut arrivals = Arrivals::default();
        for place in 0..100_000 {
            arrivals.note(place, i64::try_from(place).unwrap() * STEP_S, place.saturating_sub(2));
        }
        assert!(arrivals.0.len() <= 4, "{}", arrivals.0.len());
        assert_eq!(arrivals.of(99_998), Some(999_980));
    }
}
