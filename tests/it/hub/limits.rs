//! The rate limit, as GitHub tells it and keeps it.
//!
//! Invariant: an answer costs one, except a 304 and `/rate_limit` itself; what is exhausted answers nothing else until its
//! reset.

use super::reply::Reply;
use serde_json::{Value, json};

const HOUR_S: i64 = 3600;

/// What may still be asked until the reset.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) limit: u64,
    pub(super) used: u64,
    /// In seconds since 1970; 0 until the first request.
    pub(super) resets_at: i64,
    /// What answers when nothing remains: 403 or 429.
    pub(super) refusal: u16,
}

impl Default for Budget {
    fn default() -> Self {
        Self { limit: 5000, used: 0, resets_at: 0, refusal: 403 }
    }
}

impl Budget {
    pub(super) fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Begins a new hour if the last one is over.
    pub(super) fn turn(&mut self, clock: i64) {
        if clock >= self.resets_at {
            self.used = 0;
            self.resets_at = clock + HOUR_S;
        }
    }

    /// The refusal, if nothing remains.
    pub(super) fn refused(&self) -> Option<Reply> {
        let message = "API rate limit exceeded for user ID 4017001.";
        (self.remaining() == 0).then(|| Reply::error(self.refusal, message))
    }

    pub(super) fn headers(&self) -> [(&'static str, String); 5] {
        [
            ("X-RateLimit-Limit", self.limit.to_string()),
            ("X-RateLimit-Remaining", self.remaining().to_string()),
            ("X-RateLimit-Used", self.used.to_string()),
            ("X-RateLimit-Reset", self.resets_at.to_string()),
            ("X-RateLimit-Resource", "core".to_owned()),
        ]
    }

    /// The body of `/rate_limit`.
    pub(super) fn overview(&self) -> Value {
        let core = json!({
            "limit": self.limit, "used": self.used, "remaining": self.remaining(), "reset": self.resets_at,
        });
        let search = json!({ "limit": 30, "used": 0, "remaining": 30, "reset": self.resets_at });
        json!({ "resources": { "core": core, "search": search }, "rate": core })
    }
}
