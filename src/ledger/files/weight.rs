//! What the bytes of the journal are for: how much of it a new one would hold too.
//!
//! Invariant: it is reckoned as the journal grows; nothing is read or written for it.

use crate::ledger::record::Record;

/// What a journal holds, in bytes of lines.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Weight {
    /// The runs in it, settled ones with them.
    runs: u64,
    /// Of their acceptance.
    run_bytes: u64,
    /// Of what it began with beside runs, and a new one would begin with too.
    base_bytes: u64,
}

impl Weight {
    /// Counts one record. What seals, unseals or rejects is left out of a new journal.
    pub(super) fn count(&mut self, record: &Record, bytes: usize) {
        let bytes = bytes as u64;
        match record {
            Record::Accept(_) => {
                self.runs += 1;
                self.run_bytes += bytes;
            }
            Record::Journal { .. } | Record::Last { .. } => self.base_bytes += bytes,
            Record::Seal { .. } | Record::Unseal { .. } | Record::Reject { .. } => {}
        }
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.runs += more.runs;
        self.run_bytes += more.run_bytes;
        self.base_bytes += more.base_bytes;
    }

    /// Whether a new journal would be less than half of these `bytes`, with so many runs pending. A rewrite that keeps
    /// much is therefore not made again before as much has come in that can be left out.
    pub(super) fn is_mostly_settled(&self, pending: usize, bytes: u64) -> bool {
        self.settled_bytes(pending, bytes) > bytes / 2
    }

    /// Takes all that could be left out now for something that must be kept.
    pub(super) fn keep_all(&mut self, pending: usize, bytes: u64) {
        self.base_bytes += self.settled_bytes(pending, bytes);
    }

    /// What a new journal would leave out. One run is taken to be as long as another.
    pub(super) fn settled_bytes(&self, pending: usize, bytes: u64) -> u64 {
        let run_bytes = self.run_bytes.checked_div(self.runs).unwrap_or(0);
        bytes.saturating_sub(self.base_bytes).saturating_sub(run_bytes.saturating_mul(pending as u64))
    }
}
