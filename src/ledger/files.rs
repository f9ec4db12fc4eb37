//! The ledger in files: one thread owns the journal and the cache. Here are the paths of its files, and what can be wrong with one.
//!
//! Invariant: one process has them, and what is answered is synced.

mod arrivals;
mod borrowed;
mod cache;
mod count;
mod inspect;
mod journal;
mod keys;
mod layout;
mod lock;
mod owner;
mod recover;
mod repair;
mod weight;

use super::Mode;
use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use borrowed::Borrowed;
pub use cache::WorkflowCache;
pub(super) use cache::sent_ids;
pub use count::inspect as inspect_series;
pub(super) use count::read as read_series;
pub use inspect::{Known, holder, inspect};
pub(super) use journal::Journal;
pub(super) use lock::Lock;
pub use lock::LockError;
pub(crate) use owner::Owner;
pub(super) use recover::{Recovered, recover};
pub use repair::{Doubts, Entries, Repaired, repair};

/// The paths of one mode's files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The directory they are in.
    pub dir: PathBuf,
    /// IDs already sent.
    pub cache: PathBuf,
    /// Accepted runs and sealed batches.
    pub journal: PathBuf,
    /// The lock.
    pub lock: PathBuf,
    /// What Datadog refused for good, and deliveries that could not be understood.
    pub rejected: PathBuf,
    /// The payloads of a dry run, or those that a live one logs.
    pub payloads: PathBuf,
    /// Which series the last 30 days made: a statistic.
    pub series: PathBuf,
}

impl Files {
    /// The files of `mode` in `dir`.
    #[must_use]
    pub fn new(dir: &Path, mode: Mode) -> Self {
        let suffix = match mode {
            Mode::Live => "",
            Mode::DryRun => "-dry-run",
        };
        let file = |stem: &str, extension: &str| dir.join(format!("{stem}{suffix}{extension}"));
        Self {
            dir: dir.to_owned(),
            cache: file("sent-workflows", ".json"),
            journal: file("journal", ".jsonl"),
            lock: file("lock", ""),
            rejected: file("rejected", ".jsonl"),
            payloads: file("payloads", ".jsonl"),
            series: file("series", ".json"),
        }
    }

    /// The files that there are: what each is, where, and how many bytes it has.
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, &Path, u64)> {
        let files = [
            ("journal", &self.journal),
            ("cache", &self.cache),
            ("rejected", &self.rejected),
            ("payloads", &self.payloads),
            ("series", &self.series),
        ];
        let size = |file: &Path| file.metadata().ok().map(|metadata| metadata.len());
        files.into_iter().filter_map(|(kind, file)| Some((kind, file.as_path(), size(file)?))).collect()
    }
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Its content is not what such a file holds. It was left as it is.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first byte that is not as it should be.
        offset: usize,
        /// What is wrong there.
        what: String,
    },
    /// It was written in a format of another version. It was left as it is.
    #[error("{} has the format {found}, which this version of runhound does not know", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it says it has.
        found: u64,
    },
    /// The system failed us.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn damaged(path: &Path, offset: usize, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what: what.into() }
    }
}

#[cfg(test)]
mod tests;
