//! From files to the database and back: the whole ledger, as it stands.
//!
//! Invariant: whoever copies leads on the side of the database and holds the lock of the files, so nothing moves meanwhile. What
//! is read is left as it is. A copy that breaks off is begun again and goes on; before its end nobody can take it for a whole one:
//! in the database what is pending comes last, and a directory has its name last.

mod export;
mod import;

use super::{
    Common, Failure,
    database::{Database, DatabaseError},
    session::Session,
    statements,
};
use crate::{
    ledger::{FileError, LockError},
    metrics::SeriesGuard,
};
use std::{
    io,
    path::{Path, PathBuf},
};

pub use export::export;
pub use import::import;

/// How many keys are copied at a time.
const CHUNK: usize = 10_000;

/// The copy could not be made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A service has the files.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is nothing to copy.
    #[error("{}: there is no ledger in it", .0.display())]
    NoFiles(PathBuf),
    /// There is nothing to copy.
    #[error("{0}: there is no ledger in it")]
    NoLedger(String),
    /// A replica delivers.
    #[error("{database}: a replica delivers: {leader}")]
    Led {
        /// Which database.
        database: String,
        /// Who.
        leader: String,
    },
    /// The other side is in the middle of something else.
    #[error("{0}: another batch is under way in it")]
    OtherBatch(String),
    /// An ID that no database takes.
    #[error("{}: an ID of {} bytes that the database cannot take: {:?}…", path.display(), .id.len(), id.chars().take(40).collect::<String>())]
    OddId {
        /// The file.
        path: PathBuf,
        /// The ID.
        id: String,
    },
    /// The directory is there already.
    #[error("{}: is there already", .0.display())]
    Exists(PathBuf),
    /// What is there cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl TransferError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File(_) => {
                "see that the directory is the right one, and that this user can read and write there; `runhound check` with \
                 the same --cache-dir says more of its files"
            }
            Self::Lock(_) => "stop the service that has these files: they are copied as they stand",
            Self::Database(error) => error.hint(),
            Self::NoFiles(_) => {
                "name the directory of the service with --cache-dir, and --dry-run for the files of a dry run"
            }
            Self::NoLedger(_) => "name the database with --ledger, and --dry-run for the ledger of a dry run",
            Self::Led { .. } => "stop all replicas: the ledger is copied as it stands",
            Self::OtherBatch(_) => "let a replica deliver what it has, stop it, and begin again",
            Self::OddId { .. } => "take it out of the file: GitHub has no such ID",
            Self::Exists(_) => "name a directory with --cache-dir that is not there yet",
            Self::Unreadable(_) => "run the version of runhound that wrote it, or a later one",
        }
    }

    fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| FileError::io(path, source).into()
    }
}

impl From<Failure> for TransferError {
    fn from(failure: Failure) -> Self {
        Self::Unreadable(failure.why)
    }
}

/// What a copy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// IDs of runs that were sent.
    pub sent: usize,
    /// Those of them that were not there before.
    pub new: usize,
    /// Runs that are pending.
    pub pending: usize,
    /// Those of them in the open batch.
    pub sealed: usize,
    /// Lines about what was rejected.
    pub rejected: usize,
}

/// The side of the database, on which nobody else delivers.
struct Held {
    session: Session,
    common: Common,
    term: i64,
    batch: Option<String>,
    birth: i64,
}

impl Held {
    async fn new(database: &Database, session: Session, series: SeriesGuard) -> Result<Self, TransferError> {
        let common = Common::new(database.clone(), series);
        // A copy takes as long as it takes.
        let patient = session.client.batch_execute("SET statement_timeout TO 0").await;
        patient.map_err(|source| database.failed(source))?;
        let begun = statements::lead(&session.client, &common.name).await;
        let Some(begun) = begun.map_err(|source| database.failed(source))? else {
            let overview = statements::overview(&session.client).await.map_err(|source| database.failed(source))?;
            let leader = overview.leadership.and_then(|leadership| leadership.leader);
            return Err(TransferError::Led {
                database: database.to_string(),
                leader: leader.unwrap_or_else(|| "just now".to_owned()),
            });
        };
        let (term, batch, birth) = (begun.term, begun.batch, begun.birth);
        Ok(Self { session, common, term, batch, birth })
    }

    async fn release(&self) -> Result<(), tokio_postgres::Error> {
        statements::resign(&self.session.client, self.term).await
    }
}
