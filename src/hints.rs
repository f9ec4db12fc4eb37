//! An error with its causes, and what to do about it, said under it.

use crate::{config::ConfigError, ledger::OpenError, replay::ReplayError, serve::ServeError};
use std::error::Error;

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
        let serve = error.downcast_ref::<ServeError>().and_then(ServeError::hint);
        let replay = || error.downcast_ref::<ReplayError>().and_then(ReplayError::hint);
        let config = || error.downcast_ref::<ConfigError>().map(ConfigError::hint);
        let open = || error.downcast_ref::<OpenError>().map(OpenError::hint);
        serve.or_else(replay).or_else(config).or_else(open)
    })
}
