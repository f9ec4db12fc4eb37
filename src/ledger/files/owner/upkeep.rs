//! The journal's upkeep: a new file in place of one that failed or holds much that is settled, room, the end.

use super::{Group, Owner, cannot_write};
use crate::{
    explain::explain,
    ledger::{
        Unavailable,
        files::{journal::Journal, lock::LockError},
        record::Record,
    },
};
use std::{
    io,
    time::{Duration, Instant},
};

/// A journal that failed is not made anew more often, however often somebody asks whether it can be.
const READY_EVERY: Duration = Duration::from_secs(5);

impl Owner {
    pub(super) fn ready(&mut self) -> Result<(), Unavailable> {
        if let Some(lost) = &self.lost {
            return Err(Unavailable(lost.clone()));
        }
        if self.journal.is_usable() {
            self.unready = None;
            let is_full = self.refused_bytes > 0;
            return if is_full { self.find_room(0, &Group::default()) } else { Ok(()) };
        }
        if let Some((at, why)) = &self.unready
            && at.elapsed() < READY_EVERY
        {
            return Err(why.clone());
        }
        let made = self.take_new_journal().map_err(|error| cannot_write(&error));
        self.unready = made.clone().err().map(|why| (Instant::now(), why));
        made
    }

    /// Whether the journal may grow by a new run, once it is compacted if that makes room. While one was refused, there is room
    /// only if there is room for that one too. What settles runs is always written.
    pub(super) fn find_room(&mut self, bytes: usize, group: &Group) -> Result<(), Unavailable> {
        let wanted = self.refused_bytes.max(bytes as u64);
        let more = group.lines.len() as u64 + wanted;
        let has_room = |journal: &Journal, max_bytes: u64| journal.len() + more <= max_bytes;
        let pending = self.state.pending_len();
        if !has_room(&self.journal, self.max_journal_bytes) && self.journal.len() * 2 > self.max_journal_bytes {
            // Each time costs as much as all that is pending takes.
            let settled_bytes = self.weight.settled_bytes(pending, self.journal.len());
            if pending == 0 || settled_bytes * 4 >= self.journal.len() {
                self.compact();
            }
        }
        let was_full = self.refused_bytes > 0;
        if has_room(&self.journal, self.max_journal_bytes) {
            if was_full {
                log::info!("the journal has room again for new runs");
            }
            self.refused_bytes = 0;
            return Ok(());
        }
        if !was_full {
            let mib = self.max_journal_bytes >> 20;
            log::error!(
                "the journal has reached --max-journal-mib {mib}: nothing new until some of {pending} runs are sent"
            );
        }
        self.refused_bytes = wanted;
        Err(Unavailable("the journal has reached --max-journal-mib".to_owned()))
    }

    /// A file whose write or sync failed is never used again: the next group goes to a new one, made from what
    /// was synced before.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if !self.journal.is_usable() {
            self.take_new_journal()?;
        }
        self.journal.append(lines)
    }

    /// What the old file held, and what can no longer be trusted to be in it, is in memory.
    fn take_new_journal(&mut self) -> io::Result<()> {
        self.keep_lock()?;
        self.rewrite_journal()?;
        log::warn!("going on with a new journal file");
        Ok(())
    }

    /// A new journal no longer tells what is settled, so the cache must be there to tell it.
    pub(super) fn rewrite_journal(&mut self) -> io::Result<()> {
        self.cache.notice_changes().map_err(|error| io::Error::other(explain(&error)))?;
        self.weight = self.journal.rewrite(|| self.state.records(self.now, self.cache.len()))?;
        self.state.forget_old(self.now);
        // A settled run in a slot that is sent whole is needed too.
        self.weight.keep_all(self.state.pending_len(), self.journal.len());
        self.is_last_batch_bare = self.state.batch().is_some();
        Ok(())
    }

    /// Compacts a journal that is large and of which more than half is no longer needed: settled runs, and what was said of
    /// batches.
    pub(super) fn compact_if_due(&mut self) {
        let (pending, bytes) = (self.state.pending_len(), self.journal.len());
        if bytes > self.compact_at_bytes && self.weight.is_mostly_settled(pending, bytes) {
            self.compact();
        }
    }

    /// A failure is no loss: the next group meets it.
    fn compact(&mut self) {
        let (pending, bytes) = (self.state.pending_len(), self.journal.len());
        if let Err(error) = self.rewrite_journal() {
            log::error!("the journal cannot be compacted: {error}");
            // Not again before as much has come in: the journal as it is does its work.
            self.weight.keep_all(pending, bytes);
        }
    }

    /// Leaves a journal that says by itself that its last batch is settled, should the cache be lost. One that somebody else
    /// has changed or removed is written anew: what it held is in memory alone.
    pub(crate) fn close(&mut self) {
        let closed = if !self.journal.is_usable() {
            self.take_new_journal()
        } else if self.is_last_batch_bare && self.state.batch().is_none() {
            let record = Record::Seal { at: self.now.unwrap_or(0), sent: self.cache.len(), slots: Vec::new() };
            self.write(&record.line())
        } else {
            Ok(())
        };
        if let Err(error) = closed {
            let pending = self.state.pending_len();
            log::error!(
                "the journal cannot be closed: {error}; {pending} runs are pending, and not all of them may be on disk"
            );
        }
        self.series.save(self.storage.as_ref());
    }

    /// Nothing is written by whoever has lost the lock, now or later.
    pub(super) fn keep_lock(&mut self) -> io::Result<()> {
        if let Some(lost) = &self.lost {
            return Err(io::Error::other(lost.clone()));
        }
        let kept = self.lock.keep(self.storage.as_ref());
        if let Err(error @ (LockError::Lost { .. } | LockError::Held { .. })) = &kept {
            self.lost = Some(error.to_string());
        }
        kept.map_err(|error| io::Error::other(explain(&error)))
    }
}
