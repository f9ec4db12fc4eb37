//! An error with its causes, and what to do about it, said under it.

use crate::{
    config::ConfigError,
    ledger::{CacheError, LockError, OpenError},
    replay::ReplayError,
    serve::ServeError,
};
use std::error::Error;

const DAMAGED: &str = "it was left as it is: restore it from a copy, or move it away, knowing that runs it records may be counted again or lost";

/// An error, its cause, the cause of that, and so on.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'e (dyn Error + 'static) = *error;
        error.source()
    })
}

/// An error and its causes in one line: `WHAT: CAUSE`.
#[must_use]
pub fn explain(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What to do about `error`, where something can be said.
#[must_use]
pub fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    chain(error).find_map(|error| {
        error
            .downcast_ref::<ConfigError>()
            .map(ConfigError::hint)
            .or_else(|| error.downcast_ref::<OpenError>().map(open_hint))
            .or_else(|| error.downcast_ref::<ServeError>().and_then(ServeError::hint))
            .or_else(|| error.downcast_ref::<ReplayError>().map(ReplayError::hint))
    })
}

const fn open_hint(error: &OpenError) -> &'static str {
    match error {
        OpenError::Lock(LockError::Held { .. }) => {
            "stop that process, or give this one a directory of its own with --cache-dir"
        }
        OpenError::Lock(LockError::Io { .. }) | OpenError::Io { .. } | OpenError::Cache(CacheError::Io { .. }) => {
            "the cache directory must exist or be creatable, and be writable by this user"
        }
        OpenError::Cache(CacheError::Damaged { .. }) | OpenError::DamagedJournal { .. } => DAMAGED,
    }
}
