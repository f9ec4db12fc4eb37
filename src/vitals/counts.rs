//! How many deliveries came in, by what became of them.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a request to the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
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

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Duplicate, Self::Ignored, Self::NotSigned, Self::Malformed, Self::Unavailable];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::NotSigned => "not_signed",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; Outcome::ALL.len()]);

impl Counts {
    /// Counts one more.
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
