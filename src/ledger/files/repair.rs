//! Damaged files are set aside, and new ones are made of every record that can be read in them.
//!
//! Invariant: nothing is thrown away: a damaged file is copied under a new name, and the copy is on disk before a new file
//! takes its place. Where nobody can tell any more how a run ended, it goes again: it may be counted twice, not lost.

use super::{
    FileError, Files,
    journal::{self, Journal, Part},
    layout::{self, Document},
    lock::Lock,
    recover,
};
use crate::{
    event::Key,
    ledger::{
        OpenError,
        disk::{self, Storage},
        record::{FORMAT, Record, SealedSlot},
        state::State,
    },
    metrics::Slot,
};
use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A file that was damaged, and what has come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The file, which is a new one now.
    pub path: PathBuf,
    /// Where the damaged one is.
    pub set_aside: PathBuf,
    /// What it holds.
    pub what: Entries,
    /// How many of those could be read.
    pub kept: usize,
    /// What could not be read, or not with certainty.
    pub doubts: Doubts,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// IDs that were sent.
    Ids,
    /// Records of the journal.
    Records,
}

impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ids => "IDs",
            Self::Records => "records",
        })
    }
}

/// What nobody can tell for sure after a damage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Runs that go again although they may have been taken.
    pub in_doubt: Vec<Key>,
    /// Runs from groups with a wrong checksum: what can be read there is perhaps not what was written.
    pub unsure: Vec<Key>,
    /// Runs that are named, but cannot be read.
    pub lost: Vec<Key>,
    /// How many bytes cannot be read. Nobody can tell what they named.
    pub unreadable_bytes: usize,
}

/// Sets damaged files aside and makes new ones of what can be read in them; no point will be given a second before `now`.
/// Files without damage stay as they are, and so does a torn end, which a start mends.
///
/// # Errors
/// Another process has the directory, a file is of a format that this version does not know, or the system failed us.
pub fn repair(storage: &Arc<dyn Storage>, files: &Files, now: i64) -> Result<Vec<Repaired>, OpenError> {
    let _lock = Lock::take(storage.as_ref(), &files.lock, Duration::ZERO)?;
    let read = |path: &Path| storage.read(path).map_err(|source| FileError::io(path, source));
    let (journal, cache) = (read(&files.journal)?, read(&files.cache)?);
    let sent: HashSet<Key> =
        cache.iter().flat_map(|bytes| layout::readable_ids(bytes)).flat_map(|id| id.parse()).collect();
    let state = match journal
        .as_deref()
        .map(|bytes| recover::inspect_journal(&files.journal, bytes, |key| sent.contains(&key)))
    {
        None => Ok(State::default()),
        Some(Err(error @ FileError::Format { .. })) => return Err(error.into()),
        Some(read) => read.map(|(state, ..)| state),
    };
    let mut repaired = Vec::new();
    if let Some(bytes) = &cache
        && layout::read(bytes, |_| ()).is_err()
        && !state.as_ref().is_ok_and(|state| recover::torn(bytes, state).is_some())
    {
        repaired.push(repair_cache(storage.as_ref(), &files.cache, bytes, now)?);
    }
    if let (Some(bytes), Err(_)) = (&journal, state) {
        repaired.push(repair_journal(storage, &files.journal, bytes, now, &sent)?);
    }
    Ok(repaired)
}

fn repair_cache(storage: &dyn Storage, path: &Path, bytes: &[u8], now: i64) -> Result<Repaired, FileError> {
    let set_aside = set_aside(storage, path, bytes, now)?;
    let mut document = Document::default();
    document.others = layout::salvage(bytes).map(|torn| torn.others).unwrap_or_default();
    let mut known = HashSet::new();
    for id in layout::readable_ids(bytes) {
        if known.insert(id.clone()) {
            document.push(&id);
        }
    }
    let text = document.text().0;
    disk::replace(storage, path, &text).map_err(|source| FileError::io(path, source))?;
    let doubts = Doubts { unreadable_bytes: bytes.len().saturating_sub(text.len()), ..Doubts::default() };
    Ok(Repaired { path: path.to_owned(), set_aside, what: Entries::Ids, kept: known.len(), doubts })
}

fn repair_journal(
    storage: &Arc<dyn Storage>,
    path: &Path,
    bytes: &[u8],
    now: i64,
    sent: &HashSet<Key>,
) -> Result<Repaired, FileError> {
    let set_aside = set_aside(storage.as_ref(), path, bytes, now)?;
    let mut readable = Readable::new(sent, now);
    for part in journal::parts(bytes) {
        readable.take(part);
    }
    let (records, doubts) = readable.born();
    let mut journal = Journal::new(Arc::clone(storage), path);
    journal.rewrite(|| records.iter()).map_err(|source| FileError::io(path, source))?;
    Ok(Repaired { path: path.to_owned(), set_aside, what: Entries::Records, kept: records.len() - 1, doubts })
}

/// Copies a damaged file to a name that nobody has yet.
fn set_aside(storage: &dyn Storage, path: &Path, bytes: &[u8], now: i64) -> Result<PathBuf, FileError> {
    let named = |number: i64| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    let io = |source| FileError::io(path, source);
    let mut number = now;
    while storage.stamp(&named(number)).map_err(io)?.is_some() {
        number += 1;
    }
    disk::replace(storage, &named(number), bytes).map_err(io)?;
    Ok(named(number))
}

/// The records that can be read, made to agree with each other again.
struct Readable<'s> {
    sent: &'s HashSet<Key>,
    state: State,
    records: Vec<Record>,
    doubts: Doubts,
    birth: i64,
}

impl<'s> Readable<'s> {
    fn new(sent: &'s HashSet<Key>, now: i64) -> Self {
        let mut readable =
            Self { sent, state: State::default(), records: Vec::new(), doubts: Doubts::default(), birth: now };
        readable.keep(Record::Journal { format: FORMAT, birth: now });
        readable
    }

    /// Which seconds were used before cannot be told for sure: none of them is used again.
    fn born(mut self) -> (Vec<Record>, Doubts) {
        if let Some(Record::Journal { birth, .. }) = self.records.first_mut() {
            *birth = self.birth;
        }
        (self.records, self.doubts)
    }

    fn keep(&mut self, record: Record) {
        if let Err(error) = self.state.apply(record.clone()) {
            unreachable!("what contradicts the state was left out: {error}");
        }
        self.records.push(record);
    }

    fn take(&mut self, part: Part) {
        if part.is_whole {
            part.records.into_iter().for_each(|record| self.take_record(record));
            return;
        }
        self.doubts.unreadable_bytes += part.unreadable_bytes;
        self.doubt_what_was_sent(&part);
        for record in part.records {
            // What is known of a run is worth keeping; what was done with it cannot be believed.
            if let Record::Accept(run) = record
                && !self.sent.contains(&run.key)
                && !self.state.is_pending(run.key)
            {
                self.doubts.unsure.push(run.key);
                self.keep(Record::Accept(run));
            }
        }
    }

    /// What is broken may have told that runs were sealed, and how the open batch ended.
    fn doubt_what_was_sent(&mut self, part: &Part) {
        let batch = self.state.batch().into_iter().flat_map(|batch| &batch.slots);
        let open: Vec<Key> = batch.flat_map(Slot::keys).filter(|key| !self.sent.contains(key)).collect();
        if !open.is_empty() {
            self.keep(Record::Unseal { keys: open.clone(), in_doubt: true });
        }
        self.doubt(open);
        let is_all_read = part.unreadable_bytes == 0 && !part.records.is_empty();
        if !is_all_read {
            self.doubt(self.state.pending_keys().collect());
        }
        for record in &part.records {
            if let Record::Seal { slots, .. } = record {
                self.use_seconds(slots);
                self.doubt(slots.iter().flat_map(|slot| slot.keys.iter().copied()).collect());
            }
        }
    }

    /// These go again, if they are known, although they may have been taken.
    fn doubt(&mut self, keys: Vec<Key>) {
        for key in keys {
            if !self.sent.contains(&key) && self.is_there(key) && !self.doubts.in_doubt.contains(&key) {
                self.doubts.in_doubt.push(key);
            }
        }
    }

    fn use_seconds(&mut self, slots: &[SealedSlot]) {
        self.birth = slots.iter().map(|slot| slot.second + 1).fold(self.birth, i64::max);
    }

    fn take_record(&mut self, record: Record) {
        match record {
            Record::Journal { .. } => {}
            Record::Accept(_) => self.keep(record),
            Record::Last { second, .. } => {
                self.birth = self.birth.max(second + 1);
                self.keep(record);
            }
            Record::Seal { at, sent, slots } => {
                self.use_seconds(&slots);
                // A slot is repeated whole and unchanged, or not at all.
                let (whole, others): (Vec<SealedSlot>, Vec<SealedSlot>) =
                    slots.into_iter().partition(|slot| self.is_whole(slot));
                self.doubt(others.into_iter().flat_map(|slot| slot.keys).collect());
                self.keep(Record::Seal { at, sent, slots: whole });
            }
            Record::Unseal { mut keys, in_doubt } => {
                keys.retain(|key| self.is_there(*key));
                self.keep(Record::Unseal { keys, in_doubt });
            }
            Record::Reject { mut keys } => {
                keys.retain(|key| self.state.is_pending(*key));
                self.keep(Record::Reject { keys });
            }
        }
    }

    fn is_whole(&self, slot: &SealedSlot) -> bool {
        slot.keys.iter().all(|key| self.state.is_waiting(*key) && !self.doubts.unsure.contains(key))
    }

    /// Whether a run that a record names is pending. If nothing else is known of it, it is lost.
    fn is_there(&mut self, key: Key) -> bool {
        let is_pending = self.state.is_pending(key);
        if !is_pending && !self.sent.contains(&key) && !self.doubts.lost.contains(&key) {
            self.doubts.lost.push(key);
        }
        is_pending
    }
}
