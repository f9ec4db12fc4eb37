//! How long to wait after a failure.

use std::{fmt, time::Duration};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Where randomness comes from: given a longest wait, one between nothing and that.
pub type Jitter = Box<dyn FnMut(Duration) -> Duration + Send>;

/// Exponential backoff with full jitter: after the nth failure in a row, between nothing and 2^(n-1) seconds, 60 at most.
pub struct Backoff {
    jitter: Jitter,
    failures: u32,
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff").field("failures", &self.failures).finish_non_exhaustive()
    }
}

impl Backoff {
    /// A backoff without failures.
    #[must_use]
    pub fn new(jitter: Jitter) -> Self {
        Self { jitter, failures: 0 }
    }

    /// Full jitter from the operating system's randomness.
    #[must_use]
    pub fn full_jitter() -> Jitter {
        Box::new(|longest| longest.mul_f64(fastrand::f64()))
    }

    pub(super) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.after(self.failures)
    }

    /// The wait after the nth failure of something that is counted elsewhere.
    pub(super) fn after(&mut self, failures: u32) -> Duration {
        let doublings = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        (self.jitter)(FIRST.saturating_mul(doublings).min(LONGEST))
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_doubles_from_1_to_60_seconds_and_starts_again_after_a_success() {
        let mut backoff = Backoff::new(Box::new(|longest| longest));
        let waits: Vec<u64> = (0..8).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        for _ in 0..100 {
            assert_eq!(backoff.next(), LONGEST);
        }
        backoff.reset();
        assert_eq!(backoff.next(), FIRST);
    }

    #[test]
    fn jitter_is_full() {
        let mut jitter = Backoff::full_jitter();
        let waits: Vec<Duration> = (0..1000).map(|_| jitter(LONGEST)).collect();
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits.iter().any(|wait| *wait < LONGEST / 4) && waits.iter().any(|wait| *wait > LONGEST * 3 / 4));
    }
}
