//! What senders may take of this machine, and what the machine lets us have.
//!
//! Invariant: no sender can pass a limit, whatever it sends. There is none that lets nothing through.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

/// Files that are open beside connections: the ledger's, listeners, standard streams, the way to Datadog.
const OTHER_FILES: usize = 100;

/// The limits of the public listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What the bodies of requests with a verified signature may take together.
    pub verified_max_bytes: usize,
    /// What the bodies of all other requests may take together.
    pub unverified_max_bytes: usize,
    /// How many connections may be open at one time.
    pub max_connections: usize,
    /// How long a client may take for a TLS handshake, for a request's head, and for its body: each.
    pub client_timeout: Duration,
    /// How long a stop waits for requests that are under way, in whole seconds.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            verified_max_bytes: 256 << 20,
            unverified_max_bytes: 64 << 20,
            max_connections: 16_000,
            client_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// These limits, with no more connections than `open_files` have room for: where none is left the ledger could not open
    /// its own.
    #[must_use]
    pub fn within(self, open_files: usize) -> Self {
        let room = open_files.saturating_sub(OTHER_FILES).max(1);
        Self { max_connections: self.max_connections.min(room), ..self }
    }
}

/// Lets this process have as many open files as the system allows it, and says how many.
#[must_use]
pub fn raise_open_files() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_ledger_its_files() {
        let limits = Limits::default();
        assert_eq!(limits.within(usize::MAX), limits);
        assert_eq!(limits.within(1_024).max_connections, 924);
        assert_eq!(limits.within(10).max_connections, 1);
    }
}
