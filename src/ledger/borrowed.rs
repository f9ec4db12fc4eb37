//! The ledger's files for one call, by a program that is no service.

use super::{
    CacheError, Files, Lock, LockError, WorkflowCache,
    disk::{RealDisk, Storage},
    lines::{self, Lines},
};
use std::{io, path::PathBuf, sync::Arc, time::Duration};

/// The files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BorrowError {
    /// A service holds the directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file of sent IDs cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The system failed us.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The lock, and under it the file of sent IDs as it is now.
#[derive(Debug)]
pub(crate) struct Borrowed {
    pub(crate) cache: WorkflowCache,
    payloads: Lines,
    storage: Arc<dyn Storage>,
    _lock: Lock,
}

impl Borrowed {
    /// Takes the lock if it is free, and reads the file.
    pub(crate) fn new(files: &Files) -> Result<Self, BorrowError> {
        let storage: Arc<dyn Storage> = Arc::new(RealDisk);
        storage.create_dir(&files.dir).map_err(|source| BorrowError::Io { path: files.dir.clone(), source })?;
        let lock = Lock::take(&files.lock, Duration::ZERO)?;
        let cache = WorkflowCache::open(Arc::clone(&storage), &files.cache)?;
        let payloads = Lines::new(&files.payloads, lines::MAX_BYTES);
        Ok(Self { cache, payloads, storage, _lock: lock })
    }

    /// Appends a payload to the file of payloads.
    pub(crate) fn log_payload(&self, line: &str) -> Result<(), BorrowError> {
        let path = self.payloads.path();
        let logged = self.payloads.append(self.storage.as_ref(), line.as_bytes());
        logged.map_err(|source| BorrowError::Io { path: path.to_owned(), source })
    }
}
