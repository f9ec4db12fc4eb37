//! What was found in GitHub's delivery logs, where a service looks at them.

use crate::github::Limits;
use jiff::Timestamp;
use serde::Serialize;

/// Looks at GitHub's logs, since the start of the process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Recovery {
    /// Looks that were made to their end.
    pub sweeps: u64,
    /// Looks that GitHub did not allow, or did not answer.
    pub failed_sweeps: u64,
    /// When one was last made to its end.
    pub last_sweep_at: Option<Timestamp>,
    /// Since when they fail, if they do.
    pub failing_since: Option<Timestamp>,
    /// Why.
    pub error: Option<String>,
    /// Deliveries that failed, and whose runs were not recorded.
    pub holes_found: u64,
    /// Those of them whose runs were taken in.
    pub holes_filled: u64,
    /// Until when GitHub's rate limit is waited for, if it is.
    pub waiting_until: Option<Timestamp>,
    /// Requests that are left of GitHub's primary limit.
    pub requests_remaining: Option<u64>,
}

impl Recovery {
    pub(super) fn swept(&mut self, at: Timestamp, error: Option<String>, limits: Option<Limits>) {
        self.waiting_until = None;
        self.requests_remaining = limits.map(|limits| limits.remaining).or(self.requests_remaining);
        self.failing_since = error.as_ref().map(|_| self.failing_since.unwrap_or(at));
        if error.is_some() {
            self.failed_sweeps += 1;
        } else {
            self.sweeps += 1;
            self.last_sweep_at = Some(at);
        }
        self.error = error;
    }
}
