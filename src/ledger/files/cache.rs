//! `WorkflowCache`: the file of IDs already sent, as the plan's class keeps it.
//!
//! ```text
//! {
//!   "sent": [
//!     "30433642",
//!     "30433642/attempts/2"
//!   ]
//! }
//! ```
//!
//! Appending costs the new IDs and not the file: the closing brackets are overwritten in place, so the file is
//! valid JSON whenever no write is under way.
//!
//! Invariant: IDs that `mark_as_sent` has returned `Ok` for are on disk. A file that cannot be understood is never
//! taken as empty and never overwritten.

use super::{
    FileError,
    keys::{KeySet, Loading},
    layout::{self, Document, Flaw, Tail, Torn},
};
use crate::{
    event::Key,
    ledger::disk::{self, RealDisk, Stamp, Storage, Stored},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where the plan's class keeps its files, below the working directory.
const DEFAULT_DIR: &str = "cache";

/// As long as the line of an ID usually is, at the most.
const ID_LINE_BYTES: u64 = 48;

/// The file of workflow IDs already sent. It takes no lock: whoever shares a file with others locks by other means.
#[derive(Debug)]
pub struct WorkflowCache {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    keys: KeySet,
    /// The file as it was after our last look or write.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: Box<dyn Stored>,
    stamp: Stamp,
    layout: Layout,
}

/// How the open file is laid out, and so what an append has to do.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// As we write it: append in place.
    Ours(Tail),
    /// Valid, but laid out otherwise, or perhaps not on disk yet: write a new file.
    Foreign,
    /// A write to it failed: what stands before the tail was synced, all else proves nothing. Write a new file.
    Failed(Tail),
}

impl WorkflowCache {
    /// Opens `filename` below `./cache`, creating folder and file if missing. An absolute path stands for itself.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read or made. It is left as it is.
    pub fn new(filename: impl AsRef<Path>) -> Result<Self, FileError> {
        Self::open(Arc::new(RealDisk), &Path::new(DEFAULT_DIR).join(filename))
    }

    pub(in crate::ledger) fn open(storage: Arc<dyn Storage>, path: &Path) -> Result<Self, FileError> {
        let mut cache = Self { storage, path: path.to_owned(), keys: KeySet::default(), open: None };
        if cache.storage.stamp(path).map_err(|source| cache.io(source))?.is_none() {
            cache.put(&Document::default())?;
        } else {
            cache.load()?;
        }
        Ok(cache)
    }

    /// Whether this ID has been marked as sent, here or by the file's content when it was last read.
    #[must_use]
    pub fn has_been_sent(&self, workflow_id: &str) -> bool {
        self.keys.contains(workflow_id)
    }

    /// Those of `workflow_ids` that have not been sent, in their order.
    pub fn filter_new_workflows<'a, S: AsRef<str>>(&self, workflow_ids: &'a [S]) -> Vec<&'a str> {
        workflow_ids.iter().map(AsRef::as_ref).filter(|id| !self.has_been_sent(id)).collect()
    }

    /// Appends the IDs that are not in the file yet, in their order, and makes them durable.
    ///
    /// A file that was changed or replaced by someone else since is read again first; one that was deleted is
    /// made anew with all that it held.
    ///
    /// # Errors
    /// The IDs may not be on disk: call again with them. A file that somebody damaged meanwhile is left as it is.
    pub fn mark_as_sent<S: AsRef<str>>(&mut self, workflow_ids: &[S]) -> Result<(), FileError> {
        self.notice_changes()?;
        let mut added = KeySet::default();
        let new: Vec<&str> =
            self.filter_new_workflows(workflow_ids).into_iter().filter(|id| added.insert(id)).collect();
        let is_ours = matches!(&self.open, Some(Open { layout: Layout::Ours(_), .. }));
        if new.is_empty() && is_ours {
            return Ok(());
        }
        if !self.append(&new) {
            self.rewrite(&new)?;
        }
        for id in new {
            self.keys.insert(id);
        }
        Ok(())
    }

    /// Makes the file anew with IDs that it has lost. It has the old content or the new one at every moment, so that a
    /// crash in between leaves nothing torn.
    pub(super) fn put_back(&mut self, ids: &[String]) -> Result<(), FileError> {
        self.rewrite(&ids.iter().map(String::as_str).collect::<Vec<_>>())?;
        for id in ids {
            self.keys.insert(id);
        }
        Ok(())
    }

    /// How many IDs are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no ID is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(in crate::ledger) fn contains_key(&self, key: Key) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn contains_any_attempt(&self, key: Key) -> bool {
        self.keys.contains_any_attempt(key)
    }

    fn io(&self, source: io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }

    fn damaged(&self, flaw: Flaw) -> FileError {
        FileError::Damaged { path: self.path.clone(), offset: flaw.offset, what: flaw.what }
    }

    /// Reads the file that is there now.
    fn load(&mut self) -> Result<(), FileError> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let file = self.storage.open(&self.path).and_then(|file| file.ok_or_else(missing));
        let mut file = file.map_err(|source| self.io(source))?;
        // What is read, and the name it is read by, may be in the page cache alone: whoever wrote it may have ended before
        // the sync, or it was we, and our sync failed.
        file.sync().map_err(|source| self.io(source))?;
        self.storage.sync_dir(disk::folder_of(&self.path)).map_err(|source| self.io(source))?;
        let stamp = file.stamp().map_err(|source| self.io(source))?;
        let bytes = disk::read_prefix(file.as_ref(), stamp.len).map_err(|source| self.io(source))?;
        let mut keys = Loading::with_room(layout::most_ids(&bytes));
        let read = layout::read(&bytes, |id| keys.take(id)).map_err(|flaw| self.damaged(flaw))?;
        self.keys = keys.done();
        self.open = Some(Open { file, stamp, layout: read.tail.map_or(Layout::Foreign, Layout::Ours) });
        Ok(())
    }

    /// Writes the last IDs once more, as they stand, and makes them durable.
    ///
    /// What was read may be in the page cache alone, where the process before us ended after a sync that failed: the next
    /// sync would not tell. Only its last mark can be among that.
    pub(super) fn write_last_again(&mut self, ids: usize) -> Result<(), FileError> {
        let Some(Open { file, stamp, layout: Layout::Ours(_) }) = &mut self.open else {
            return Ok(());
        };
        let mut write = || {
            // They stand at the end, so no more of the file is read than holds them.
            let mut guess = ID_LINE_BYTES * (ids as u64 + 2);
            let (from, last) = loop {
                let start = stamp.len.saturating_sub(guess);
                let tail = disk::read_range(file.as_ref(), start..stamp.len)?;
                let at = layout::start_of_last(&tail, ids);
                if at > 0 || start == 0 {
                    break (start + at as u64, tail.get(at..).unwrap_or_default().to_vec());
                }
                guess *= 2;
            };
            disk::write_all_at(file.as_mut(), &last, from)?;
            file.sync()?;
            *stamp = file.stamp()?;
            Ok(())
        };
        let written: io::Result<()> = write();
        written.map_err(|source| self.io(source))
    }

    /// Takes over what someone else made of the file since our last write.
    pub(super) fn notice_changes(&mut self) -> Result<(), FileError> {
        let Some(open) = &self.open else {
            return self.load();
        };
        let named = self.storage.stamp(&self.path).map_err(|source| self.io(source))?;
        let is_as_we_left_it = |stamp: Stamp| match open.layout {
            Layout::Failed(_) => stamp.file == open.stamp.file,
            Layout::Ours(_) | Layout::Foreign => stamp == open.stamp,
        };
        match named {
            Some(stamp) if is_as_we_left_it(stamp) => Ok(()),
            Some(_) => {
                log::warn!("{} was changed by someone else: reading it again", self.path.display());
                self.load()?;
                if let Some(open) = &mut self.open {
                    open.layout = Layout::Foreign;
                }
                Ok(())
            }
            None => {
                log::warn!("{} was deleted: making it anew", self.path.display());
                let document = self.document(open)?;
                self.put(&document)
            }
        }
    }

    /// Appends in place; false if that is not possible, or failed, and the file must be rewritten.
    fn append(&mut self, new: &[&str]) -> bool {
        let Some(Open { file, stamp, layout }) = &mut self.open else {
            return false;
        };
        let Layout::Ours(tail) = *layout else {
            return false;
        };
        let (text, next) = tail.append(new);
        let written = disk::write_all_at(file.as_mut(), &text, tail.offset)
            .and_then(|()| file.sync())
            .and_then(|()| file.stamp());
        match written {
            Ok(after) => {
                *stamp = after;
                *layout = Layout::Ours(next);
                true
            }
            Err(error) => {
                log::error!("{}: {error}: going on with a new file", self.path.display());
                *layout = Layout::Failed(tail);
                false
            }
        }
    }

    /// Writes a new file in our layout: what was in the old one, and the new IDs.
    fn rewrite(&mut self, new: &[&str]) -> Result<(), FileError> {
        let Some(open) = &self.open else {
            return Err(self.io(io::ErrorKind::NotFound.into()));
        };
        let mut document = self.document(open)?;
        for id in new {
            document.push(id);
        }
        self.put(&document)
    }

    /// What the open file held when it was last whole.
    fn document(&self, open: &Open) -> Result<Document, FileError> {
        let bytes = match open.layout {
            Layout::Ours(_) | Layout::Foreign => disk::read_prefix(open.file.as_ref(), open.stamp.len),
            Layout::Failed(tail) => disk::read_prefix(open.file.as_ref(), tail.offset).map(|mut bytes| {
                bytes.extend_from_slice(tail.closing());
                bytes
            }),
        };
        let bytes = bytes.map_err(|source| self.io(source))?;
        let mut document = Document::default();
        let read = layout::read(&bytes, |id| document.push(id)).map_err(|flaw| self.damaged(flaw))?;
        document.others = read.others;
        Ok(document)
    }

    fn put(&mut self, document: &Document) -> Result<(), FileError> {
        let (text, tail) = document.text();
        let put = disk::replace(self.storage.as_ref(), &self.path, &text).and_then(|file| Ok((file.stamp()?, file)));
        let (stamp, file) = put.map_err(|source| self.io(source))?;
        self.open = Some(Open { file, stamp, layout: Layout::Ours(tail) });
        Ok(())
    }

    /// Makes a file anew whose last write was torn by a crash: of the IDs before the tear.
    pub(super) fn up_to_the_tear(storage: Arc<dyn Storage>, path: &Path, torn: &Torn) -> Result<Self, FileError> {
        let mut cache = Self { storage, path: path.to_owned(), keys: KeySet::default(), open: None };
        let mut document = Document::default();
        document.others.clone_from(&torn.others);
        for id in &torn.ids {
            if cache.keys.insert(id) {
                document.push(id);
            }
        }
        cache.put(&document)?;
        Ok(cache)
    }
}

/// The IDs that a file of sent ones holds, in its order.
pub(in crate::ledger) fn sent_ids(path: &Path) -> Result<Vec<String>, FileError> {
    let bytes = fs::read(path).map_err(|source| FileError::io(path, source))?;
    let mut ids = Vec::new();
    let read = layout::read(&bytes, |id| ids.push(id.to_owned()));
    read.map(|_| ids).map_err(|flaw| FileError::damaged(path, flaw.offset, flaw.what))
}

#[cfg(test)]
mod tests;
