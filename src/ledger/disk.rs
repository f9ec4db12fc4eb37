//! The few operations that the ledger's files need, as a seam: real files here, faults in tests.
//!
//! Invariant: a write is not durable before `sync` has returned, a create or rename not before `sync_dir` has.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    ops::Range,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Which file this is and whether it was changed: it is the same one, unchanged, while its stamp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Device and inode.
    pub file: (u64, u64),
    /// Length in bytes.
    pub len: u64,
    /// Time of the last change, in seconds and nanoseconds.
    pub modified: (i64, i64),
}

/// A folder of files, as far as the ledger needs one.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Creates a folder and those above it, if missing, durably.
    ///
    /// # Errors
    /// As the file system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The whole of a file, or `None` if there is none.
    ///
    /// # Errors
    /// As the file system says.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// A new, empty file, readable by its owner alone, where there is none.
    ///
    /// # Errors
    /// As the file system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Stored>>;

    /// Takes a name away, if it is there.
    ///
    /// # Errors
    /// As the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// A file that exists, or `None` if there is none.
    ///
    /// # Errors
    /// As the file system says.
    fn open(&self, path: &Path) -> io::Result<Option<Box<dyn Stored>>>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    /// As the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes creates and renames in a folder durable.
    ///
    /// # Errors
    /// As the file system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// What now has this name, or `None`.
    ///
    /// # Errors
    /// As the file system says.
    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>>;
}

/// An open file.
pub trait Stored: fmt::Debug + Send {
    /// Writes at an offset; may write less than asked.
    ///
    /// # Errors
    /// As the file system says.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads at an offset; 0 at the end.
    ///
    /// # Errors
    /// As the file system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As the file system says. What was written since the last success may then be lost or not.
    fn sync(&mut self) -> io::Result<()>;

    /// Which file this is.
    ///
    /// # Errors
    /// As the file system says.
    fn stamp(&self) -> io::Result<Stamp>;

    /// Takes the file's exclusive lock, which goes when the file is closed; false if somebody else has it.
    ///
    /// # Errors
    /// As the file system says.
    fn try_lock(&self) -> io::Result<bool>;

    /// Takes the file's exclusive lock, waiting for as long as somebody else has it.
    ///
    /// # Errors
    /// As the file system says.
    fn lock(&self) -> io::Result<()>;
}

/// The folder that a path is in; of a bare name, the working directory.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_all_at(file: &mut dyn Stored, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The first `len` bytes of a file.
pub(super) fn read_prefix(file: &dyn Stored, len: u64) -> io::Result<Vec<u8>> {
    read_range(file, 0..len)
}

/// These bytes of a file.
pub(super) fn read_range(file: &dyn Stored, range: Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, range.start + at as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Puts a whole new file in the place of `path`: written beside it, synced, renamed, the folder synced.
/// The name has the old content or the new one at every moment.
pub(super) fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn Stored>> {
    replace_by(storage, path, |file| write_all_at(file, bytes, 0))
}

/// As `replace`, where `write_to` writes what the new file holds.
pub(super) fn replace_by(
    storage: &dyn Storage,
    path: &Path,
    write_to: impl FnOnce(&mut dyn Stored) -> io::Result<()>,
) -> io::Result<Box<dyn Stored>> {
    let dir = folder_of(path);
    storage.create_dir(dir)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // What an earlier try has left may be a file whose sync failed: it is never written again.
    storage.remove(beside)?;
    let write = || -> io::Result<_> {
        let mut file = storage.create(beside)?;
        write_to(file.as_mut())?;
        file.sync()?;
        storage.rename(beside, path)?;
        Ok(file)
    };
    let file = write().inspect_err(|_| {
        // Where the disk is full, its room is needed. If it stays, the next try removes it.
        drop(storage.remove(beside));
    })?;
    storage.sync_dir(dir)?;
    Ok(file)
}

/// Files as the operating system has them.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

fn if_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl From<fs::Metadata> for Stamp {
    fn from(metadata: fs::Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Storage for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let parent = folder_of(dir);
        if dir.as_os_str().is_empty() {
            return Ok(());
        }
        if dir.is_dir() {
            // Whoever made it may have ended before its name was durable. Of a folder above that is not ours we may not know.
            if let Err(error) = self.sync_dir(parent) {
                log::debug!("{}: {error}", parent.display());
            }
            return Ok(());
        }
        self.create_dir(parent)?;
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => Err(error),
            _ => self.sync_dir(parent),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        if_found(fs::read(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Stored>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if_found(fs::remove_file(path)).map(|_| ())
    }

    fn open(&self, path: &Path) -> io::Result<Option<Box<dyn Stored>>> {
        let file = if_found(OpenOptions::new().read(true).write(true).open(path))?;
        Ok(file.map(|file| Box::new(file) as Box<dyn Stored>))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        let found = if_found(fs::metadata(path))?;
        if found.is_none() && fs::symlink_metadata(path).is_ok() {
            return Err(io::Error::other("a link that leads nowhere"));
        }
        Ok(found.map(Stamp::from))
    }
}

impl Stored for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn stamp(&self) -> io::Result<Stamp> {
        self.metadata().map(Stamp::from)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match Self::try_lock(self) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock(&self) -> io::Result<()> {
        Self::lock(self)
    }
}
