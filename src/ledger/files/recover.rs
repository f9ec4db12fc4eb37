//! Opening the ledger: what the two files say, held against each other, and mended where a crash explains it.
//!
//! Invariant: damage is refused by file and byte, and a file that is damaged is left as it is. What is read is synced before
//! anything is answered on the strength of it: the process before us may have ended between a write and its sync.

use super::{
    FileError, Files,
    cache::WorkflowCache,
    journal::{self, Contents, Journal},
    layout::{self, Torn},
    weight::Weight,
};
use crate::{
    event::Key,
    explain::explain,
    ledger::{disk::Storage, record::Record, state::State},
};
use std::{collections::HashSet, path::Path, sync::Arc};

/// Both files, understood and agreeing.
#[derive(Debug)]
pub(in crate::ledger) struct Recovered {
    pub(in crate::ledger) state: State,
    pub(super) journal: Journal,
    pub(super) cache: WorkflowCache,
    /// What the journal holds, settled runs with the others.
    pub(super) weight: Weight,
    /// Whether the journal ends with a batch that no later record says to be settled.
    pub(super) is_last_batch_bare: bool,
    /// Whether the journal must be written anew before it can be appended to.
    pub(super) must_rewrite: bool,
}

/// Reads journal and cache. `birth` is the second that a new journal carries.
pub(in crate::ledger) fn recover(
    storage: &Arc<dyn Storage>,
    files: &Files,
    birth: i64,
) -> Result<Recovered, FileError> {
    let bytes = storage.read(&files.journal).map_err(|source| FileError::io(&files.journal, source))?;
    let read = bytes.as_deref().map(|bytes| read_journal(&files.journal, bytes)).transpose()?;
    let (mut state, mut contents) = match read {
        Some((state, contents)) => (state, Some(contents)),
        None => (State::new(birth), None),
    };
    let weight = contents.as_mut().map(|contents| std::mem::take(&mut contents.weight)).unwrap_or_default();
    let mut cache = open_cache(storage, &files.cache, &state)?;
    if let (Some(bytes), Some(contents)) = (&bytes, &contents) {
        refuse_a_broken_rest_that_was_whole(&files.journal, bytes, contents, |key| cache.contains_key(key))?;
    }
    // A create or rename of the process before us may not be durable yet.
    storage.sync_dir(&files.dir).map_err(|source| FileError::io(&files.dir, source))?;
    if let Some(last) = state.sealed.last() {
        cache.write_last_again(last.keys.len())?;
    }
    let missing: Vec<String> =
        settled(&state).filter(|key| !cache.contains_key(*key)).map(|key| key.to_string()).collect();
    if !missing.is_empty() {
        log::warn!("{}: {} IDs that were sent are missing: writing them back", files.cache.display(), missing.len());
        cache.put_back(&missing)?;
    }
    let marked: Vec<Key> = state.pending_keys().filter(|key| cache.contains_key(*key)).collect();
    state.settle(&marked);
    // A cache that was made anew holds less than when the batch was sealed, and a torn end is told by how much it held.
    let has_shrunk = state.sealed.iter().any(|batch| batch.sent > cache.len());
    let is_last_batch_bare = state.sealed.last().is_some_and(|batch| !batch.keys.is_empty());
    state.sealed.clear();
    let (journal, must_rewrite) = match (&bytes, &contents) {
        (Some(bytes), Some(contents)) => {
            let journal = Journal::resume(Arc::clone(storage), &files.journal, bytes, contents);
            let is_torn = contents.end < bytes.len();
            if is_torn {
                let path = files.journal.display();
                log::warn!("{path}: cutting off a torn write at byte {}, which was never answered", contents.end);
            }
            (journal.map_err(|source| FileError::io(&files.journal, source))?, is_torn || has_shrunk)
        }
        _ => (Journal::new(Arc::clone(storage), &files.journal), true),
    };
    Ok(Recovered { state, journal, cache, weight, is_last_batch_bare, must_rewrite })
}

fn read_journal(path: &Path, bytes: &[u8]) -> Result<(State, Contents), FileError> {
    let mut state = State::default();
    let contents = journal::parse(bytes, |record| state.apply(record)).map_err(|flaw| match flaw {
        journal::Flaw::Damage { offset, what } => FileError::damaged(path, offset, what),
        journal::Flaw::Format(found) => FileError::Format { path: path.to_owned(), found },
    })?;
    Ok((state, contents))
}

/// Reads a journal and says of it all that a start would, where `is_sent` tells what is in the cache.
pub(super) fn inspect_journal(
    path: &Path,
    bytes: &[u8],
    is_sent: impl Fn(Key) -> bool,
) -> Result<(State, Contents), FileError> {
    let read = read_journal(path, bytes)?;
    refuse_a_broken_rest_that_was_whole(path, bytes, &read.1, is_sent)?;
    Ok(read)
}

/// A torn write was never answered, so nothing in it can have been sent.
fn refuse_a_broken_rest_that_was_whole(
    path: &Path,
    bytes: &[u8],
    contents: &Contents,
    is_sent: impl Fn(Key) -> bool,
) -> Result<(), FileError> {
    let rest = bytes.get(contents.end..).unwrap_or_default();
    let mut keys = journal::quoted_texts(rest).filter_map(|text| text.parse::<Key>().ok());
    match keys.find(|key| is_sent(*key)) {
        Some(key) => Err(FileError::damaged(
            path,
            contents.end,
            format!("a broken group with run {key}, which has been sent since"),
        )),
        None => Ok(()),
    }
}

/// Opens the cache, completing a torn end.
fn open_cache(storage: &Arc<dyn Storage>, path: &Path, state: &State) -> Result<WorkflowCache, FileError> {
    let error = match WorkflowCache::open(Arc::clone(storage), path) {
        Err(error @ FileError::Damaged { .. }) => error,
        opened => return opened,
    };
    let bytes = storage.read(path).ok().flatten().unwrap_or_default();
    let Some(torn) = torn(&bytes, state) else {
        return Err(error);
    };
    log::warn!("{}: a torn write: what follows it is taken from the journal", explain(&error));
    WorkflowCache::up_to_the_tear(Arc::clone(storage), path, &torn)
}

/// What stands before the tear in a cache that is not valid JSON; `None` if it is damaged.
///
/// It is torn if complete IDs come first, and all that can be missing is in batches that the journal knows: in one that
/// was sealed when all that the cache held then is still there, or in those after it.
pub(super) fn torn(bytes: &[u8], state: &State) -> Option<Torn> {
    let torn = layout::salvage(bytes)?;
    let known = torn.ids.iter().collect::<HashSet<_>>().len();
    state.sealed.iter().any(|batch| batch.sent <= known).then_some(torn)
}

/// The runs of batches that are settled. Those of the open batch are pending still: they are sent again. So is one that
/// was accepted anew, after somebody had taken it out of the cache.
fn settled(state: &State) -> impl Iterator<Item = Key> {
    let keys = state.sealed.iter().flat_map(|batch| &batch.keys).copied();
    keys.filter(|key| !state.is_pending(*key))
}

/// Applies and forgets: the journal's own record of a batch serves only this module.
pub(super) fn apply(state: &mut State, records: impl IntoIterator<Item = Record>) {
    for record in records {
        if let Err(error) = state.apply(record) {
            unreachable!("the records were made from this state: {error}");
        }
    }
    state.sealed.clear();
}
