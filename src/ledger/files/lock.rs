//! The exclusive lock on a cache directory, for one mode: held by a service for its life, and by
//! `submit_metrics` for one call.
//!
//! Invariant: the lock file is never renamed or removed by us, so that everybody locks the same one. If somebody else
//! removes it, its holder notices before it makes a new file.

use crate::ledger::disk::{self, Storage, Stored};
use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

/// The lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is held by {holder}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What its holder wrote into it.
        holder: String,
    },
    /// We had it; its file was removed, and another process has had it since.
    #[error("{} was removed, and taken by {holder}: only a new start can go on", path.display())]
    Lost {
        /// The lock file.
        path: PathBuf,
        /// What that process wrote into it.
        holder: String,
    },
    /// The lock file cannot be used.
    #[error("{}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A held lock; dropping it, or the end of the process however it comes, gives it back.
#[derive(Debug)]
pub(in crate::ledger) struct Lock {
    path: PathBuf,
    file: Box<dyn Stored>,
}

impl Lock {
    /// Takes the lock at `path`, waiting up to `patience` for a holder to go.
    pub(in crate::ledger) fn take(storage: &dyn Storage, path: &Path, patience: Duration) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let begun = Instant::now();
        loop {
            let mut file = match storage.open(path).map_err(io)? {
                Some(file) => file,
                None => match storage.create(path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    created => created.map_err(io)?,
                },
            };
            if !file.try_lock().map_err(io)? {
                let waited = wait(file, patience.saturating_sub(begun.elapsed())).map_err(io)?;
                file =
                    waited.ok_or_else(|| LockError::Held { path: path.to_owned(), holder: holder(storage, path) })?;
            }
            let mut lock = Self { path: path.to_owned(), file };
            // While we waited, the file may have been removed and made anew by somebody else.
            if lock.is_named(storage).map_err(io)? {
                lock.sign();
                return Ok(lock);
            }
        }
    }

    /// Makes sure that the lock is still the one that others meet: one whose file was removed is taken anew. Where somebody
    /// else has made that file meanwhile it is lost, even if they have gone: they may have accepted what we do not know of.
    pub(super) fn keep(&mut self, storage: &dyn Storage) -> Result<(), LockError> {
        let io = |source| LockError::Io { path: self.path.clone(), source };
        if self.is_named(storage).map_err(io)? {
            return Ok(());
        }
        if storage.stamp(&self.path).map_err(io)?.is_some() {
            return Err(LockError::Lost { path: self.path.clone(), holder: holder(storage, &self.path) });
        }
        log::warn!("{} was removed: taking it anew", self.path.display());
        storage.create_dir(disk::folder_of(&self.path)).map_err(io)?;
        *self = Self::take(storage, &self.path, Duration::ZERO)?;
        Ok(())
    }

    fn is_named(&self, storage: &dyn Storage) -> io::Result<bool> {
        let ours = self.file.stamp()?.file;
        Ok(storage.stamp(&self.path)?.is_some_and(|stamp| stamp.file == ours))
    }

    /// Names us in the file. What an earlier holder left after the first line is not read.
    fn sign(&mut self) {
        let text = format!("process {} since {:.0}\n", std::process::id(), jiff::Timestamp::now());
        if let Err(error) = disk::write_all_at(self.file.as_mut(), text.as_bytes(), 0) {
            log::warn!("{}: {error}: the lock is held, but does not name us", self.path.display());
        }
    }
}

/// Waits for the lock on a thread of its own, for the system has no lock with a deadline. When the
/// deadline has passed nobody listens any more, and a lock that comes later is dropped at once.
fn wait(file: Box<dyn Stored>, patience: Duration) -> io::Result<Option<Box<dyn Stored>>> {
    if patience.is_zero() {
        return Ok(None);
    }
    log::info!("waiting up to {:.0} s for another process to give the cache directory back", patience.as_secs_f64());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = file.lock();
        drop(sender.send(locked.map(|()| file)));
    });
    receiver.recv_timeout(patience).ok().transpose()
}

pub(super) fn holder(storage: &dyn Storage, path: &Path) -> String {
    let text = storage.read(path).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match text.lines().next().map(str::trim) {
        Some(signed) if !signed.is_empty() => signed.chars().take(200).collect(),
        _ => "a process that left no name".to_owned(),
    }
}
