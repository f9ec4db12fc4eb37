//! The ledger in files: one thread that owns the journal and the cache. Here are their paths, and what can be wrong with one.

mod arrivals;
mod borrowed;
mod cache;
pub(super) mod count;
pub(super) mod disk;
mod inspect;
pub(super) mod journal;
mod keys;
pub(super) mod layout;
pub(super) mod lines;
mod lock;
mod owner;
pub(super) mod recover;
mod repair;
mod weight;

use super::postgres::DatabaseError;
use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use borrowed::Borrowed;
pub use cache::WorkflowCache;
pub use count::inspect as inspect_series;
pub use disk::{RealDisk, Stamp, Storage, Stored};
pub use inspect::{Known, holder, inspect};
pub(super) use lock::Lock;
pub use lock::LockError;
pub(crate) use owner::Owner;
pub use repair::{Doubts, Entries, Repaired, repair};

/// Which set of files: a dry run has its own, so that both can share a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Runs are pushed to Datadog.
    Live,
    /// Everything but the push.
    DryRun,
}

impl Mode {
    /// A dry run, or not.
    #[must_use]
    pub const fn of(is_dry_run: bool) -> Self {
        if is_dry_run { Self::DryRun } else { Self::Live }
    }
}

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

/// The files, or the database, cannot be had. They were left as they are.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Lock(LockError::Held { .. } | LockError::Lost { .. }) => {
                "stop that process, or give this one a directory of its own with --cache-dir"
            }
            Self::Lock(LockError::Io { source, .. }) | Self::File(FileError::Io { source, .. })
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                "make room on that disk; what is recorded is still there"
            }
            Self::Lock(LockError::Io { .. }) | Self::File(FileError::Io { .. }) => {
                "the cache directory must exist or be creatable, and this user must be able to write there"
            }
            Self::File(FileError::Damaged { .. }) => {
                "it was left as it is; `runhound check --repair`, with the same --cache-dir, and --dry-run for a dry run's \
                 files, sets it aside and makes a new one of all that can be read in it"
            }
            Self::Database(error) => error.hint(),
            Self::File(FileError::Format { .. }) => "it was left as it is: use the version of runhound that wrote it",
        }
    }
}

#[cfg(test)]
mod tests;
