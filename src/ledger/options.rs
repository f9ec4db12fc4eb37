//! How a ledger is opened, and why it cannot be.

use super::{Database, DatabaseError, FileError, Files, LockError, RealDisk, Storage};
use crate::{event::Attempt, metrics::DEFAULT_MAX_SERIES, vitals::Vitals};
use std::{io, sync::Arc, time::Duration};

/// Whether this is a dry run: it has a ledger of its own, so that both can share a directory or a database.
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

/// What a re-run of a run that is recorded already counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Reruns {
    /// News: each attempt is counted
    #[default]
    Push,
    /// Seen before, if any attempt of the run is recorded
    Drop,
}

impl Reruns {
    /// Whether jobs of this attempt of a run count as nothing. Of runs the ledger knows that by their keys; a job that runs again
    /// has another ID.
    #[must_use]
    pub fn drops_jobs_of(self, attempt: Attempt) -> bool {
        self == Self::Drop && attempt > Attempt::FIRST
    }
}

/// How to open a ledger.
#[derive(Debug)]
pub struct Options {
    /// Where its files are. With a database, those that are local all the same: the log of payloads.
    pub files: Files,
    /// The database that takes the place of files.
    pub database: Option<Database>,
    /// What a re-run counts as.
    pub reruns: Reruns,
    /// How long to wait for another process to give the directory back, or for the database to answer.
    pub lock_patience: Duration,
    /// The second that a new journal carries: now, by the local clock.
    pub birth: i64,
    /// Where the journal is compacted, if more than half of it is no longer needed.
    pub compact_at_bytes: u64,
    /// The size of the journal from which no new run is accepted, until settled ones have made room.
    pub max_journal_bytes: u64,
    /// The limit on distinct series in 30 days, after which new values of tags become `other`.
    pub max_series: usize,
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// What is noticed on the way, by the ledger and by those who work with it.
    pub vitals: Arc<Vitals>,
}

impl Options {
    /// The options of a service on real files.
    #[must_use]
    pub fn new(files: Files, reruns: Reruns, birth: i64) -> Self {
        Self {
            files,
            database: None,
            reruns,
            lock_patience: Duration::from_secs(30),
            birth,
            compact_at_bytes: 8 << 20,
            max_journal_bytes: 1 << 30,
            max_series: DEFAULT_MAX_SERIES,
            storage: Arc::new(RealDisk),
            vitals: Arc::default(),
        }
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
