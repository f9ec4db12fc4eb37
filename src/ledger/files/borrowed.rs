//! The ledger's files for one call, by a program that is no service.

use super::{FileError, Files, cache::WorkflowCache, lock::Lock};
use crate::ledger::{
    OpenError,
    disk::{RealDisk, Storage},
    lines::{self, Lines},
};
use std::{sync::Arc, time::Duration};

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
    pub(crate) fn new(files: &Files) -> Result<Self, OpenError> {
        let storage: Arc<dyn Storage> = Arc::new(RealDisk);
        storage.create_dir(&files.dir).map_err(|source| FileError::io(&files.dir, source))?;
        let lock = Lock::take(storage.as_ref(), &files.lock, Duration::ZERO)?;
        let cache = WorkflowCache::open(Arc::clone(&storage), &files.cache)?;
        let payloads = Lines::new(&files.payloads, lines::MAX_BYTES);
        Ok(Self { cache, payloads, storage, _lock: lock })
    }

    /// Appends a payload to the file of payloads.
    pub(crate) fn log_payload(&mut self, line: &str) -> Result<(), OpenError> {
        let logged = self.payloads.append(self.storage.as_ref(), line.as_bytes());
        Ok(logged.map_err(|source| FileError::io(self.payloads.path(), source))?)
    }
}
