//! The exclusive lock on a cache directory, for one mode: held by a service for its life, and by
//! `submit_metrics` for one call.
//!
//! Invariant: the lock file is never renamed or removed, so that everybody locks the same one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
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
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes the lock at `path`, waiting up to `patience` for a holder to go.
    pub(crate) fn take(path: &Path, patience: Duration) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(io)?;
        let file = match file.try_lock() {
            Ok(()) => file,
            Err(TryLockError::Error(source)) => return Err(io(source)),
            Err(TryLockError::WouldBlock) => wait(file, patience).map_err(|unlocked| match unlocked {
                Some(source) => io(source),
                None => LockError::Held { path: path.to_owned(), holder: holder(path) },
            })?,
        };
        if let Err(error) = sign(&file) {
            log::warn!("{}: {error}: the lock is held, but does not name us", path.display());
        }
        Ok(Self(file))
    }
}

/// Waits for the lock on a thread of its own, for the system has no lock with a deadline. When the
/// deadline has passed nobody listens any more, and a lock that comes later is dropped at once.
fn wait(file: File, patience: Duration) -> Result<File, Option<io::Error>> {
    if patience.is_zero() {
        return Err(None);
    }
    log::info!("waiting up to {} s for another process to give the cache directory back", patience.as_secs());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = file.lock();
        drop(sender.send(locked.map(|()| file)));
    });
    match receiver.recv_timeout(patience) {
        Ok(locked) => locked.map_err(Some),
        Err(_) => Err(None),
    }
}

fn sign(mut file: &File) -> io::Result<()> {
    let since = jiff::Timestamp::now();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} since {since:.0}", std::process::id())
}

fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(200).read_to_string(&mut text));
    match (read, text.trim()) {
        (Ok(_), signed) if !signed.is_empty() => signed.to_owned(),
        _ => "a process that left no name".to_owned(),
    }
}
