//! What came of it, for people.

use super::{HealingError, Pushes};
use crate::{explain::escaped, github::Github, inlet::Answered};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
};

/// How many things that could not be taken in are named.
const FAILED_SHOWN: usize = 20;

/// What became of all that was missing.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) taken: usize,
    pub(super) known: usize,
    pub(super) skipped: usize,
    /// What GitHub no longer has.
    pub(super) gone: usize,
    ignored: BTreeMap<String, usize>,
    pub(super) failed: Vec<(String, String)>,
}

impl Tally {
    /// Counts what a receiver said of `what`.
    pub(super) fn count(&mut self, what: impl FnOnce() -> String, answered: Answered) {
        match answered {
            Answered::Accepted => self.taken += 1,
            Answered::Duplicate => self.known += 1,
            Answered::Ignored(reason) => *self.ignored.entry(reason).or_default() += 1,
            Answered::Refused(error) => self.failed.push((what(), error)),
        }
    }

    /// What could not be looked at, printed; an error if there is something.
    ///
    /// # Errors
    /// There is.
    pub(super) fn complete(&self) -> Result<(), HealingError> {
        let failed = self.failed.len();
        if failed == 0 {
            return Ok(());
        }
        write!(io::stdout().lock(), "{}", Failed(&self.failed))?;
        Err(HealingError::NotAllDone { failed, pending: 0, rejected: 0 })
    }

    /// Prints it with what came of the pushes and what it cost at GitHub; an error if not all is done.
    pub(super) fn print(&self, pushes: Option<Pushes>, github: &Github) -> Result<(), HealingError> {
        let mut out = io::stdout().lock();
        write!(out, "{self}")?;
        if let Some(Pushes { pushed, pending, rejected }) = pushes {
            writeln!(out, "  pushed    {pushed:>6}\n  pending   {pending:>6}")?;
            if rejected > 0 {
                writeln!(out, "  rejected  {rejected:>6}")?;
            }
        }
        let limits = github.limits().map(|limits| format!(", {limits}")).unwrap_or_default();
        writeln!(out, "GitHub: {} requests{limits}", github.requests())?;
        let Pushes { pending, rejected, .. } = pushes.unwrap_or_default();
        let failed = self.failed.len();
        if failed + pending > 0 || rejected > 0 {
            return Err(HealingError::NotAllDone { failed, pending, rejected });
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ignored: usize = self.ignored.values().sum();
        writeln!(f, "  taken in  {:>6}", self.taken)?;
        writeln!(f, "  known     {:>6}", self.known)?;
        for (what, count) in [("left out", self.skipped), ("gone", self.gone)] {
            if count > 0 {
                writeln!(f, "  {what:<9} {count:>6}")?;
            }
        }
        writeln!(f, "  ignored   {ignored:>6}")?;
        for (reason, count) in &self.ignored {
            writeln!(f, "    {count} × {}", escaped(reason))?;
        }
        Failed(&self.failed).fmt(f)
    }
}

/// What failed, and why.
struct Failed<'f>(&'f [(String, String)]);

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  failed    {:>6}", self.0.len())?;
        for (what, error) in self.0.iter().take(FAILED_SHOWN) {
            writeln!(f, "    {what}: {}", escaped(error))?;
        }
        if let Some(more) = self.0.len().checked_sub(FAILED_SHOWN).filter(|more| *more > 0) {
            writeln!(f, "    and {more} more")?;
        }
        Ok(())
    }
}
