//! How many deliveries came in, by what became of them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a request to the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new run, on disk.
    Accepted,
    /// Seen before.
    Duplicate,
    /// Valid, but nothing to do.
    Ignored,
    /// No signature, or a wrong one.
    NotSigned,
    /// Signed, or claiming to be, but not readable.
    Malformed,
    /// Could not be recorded.
    Unavailable,
}

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; 6]);

impl Counts {
    pub(super) fn count(&self, outcome: Outcome) {
        if let Some(counter) = self.0.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many requests came to this.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0.get(outcome as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}
