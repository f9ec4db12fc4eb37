//! Datadog's metric intake: how a payload is encoded and sent, and what an answer means.
//!
//! Invariant: one call is one request; nothing here retries. The API key is in no log and no error.

mod client;
mod key;
mod submit;
mod verdict;

use crate::metrics::MetricPayload;

pub use crate::outgoing::ClientError;
pub use client::{Answer, Client, Endpoint};
pub use key::ApiKey;
pub use submit::{DatadogService, SubmitError, SubmitOptions, Submitted};
pub use verdict::{Verdict, verdict};

/// The most bytes of a payload before compression: the limit at which a batch is sealed. It lies within
/// Datadog's own (512,000 B sent, 5,242,880 B unpacked) even where compression gains nothing.
/// Source: Datadog's API reference, "Submit metrics".
pub const PAYLOAD_MAX_BYTES: usize = 500_000;

/// Who takes payloads. Each call is one try.
pub trait Intake {
    /// Sends a payload.
    fn push(&self, payload: &MetricPayload) -> impl Future<Output = Answer>;

    /// Asks whether the key is valid: it is if the verdict is `Taken`. Whatever the answer, it tells the time.
    fn validate(&self) -> impl Future<Output = Answer>;
}
