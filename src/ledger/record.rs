//! The records of a ledger, a JSON line each: the journal's lines, and what a database keeps of runs and of the open batch.

use crate::{
    event::Key,
    metrics::{Run, TagSet},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The version of the journal's format that this code writes, and the only one it reads.
pub(super) const FORMAT: u32 = 1;

/// Most records are of a run, and about as long as this.
const USUAL_BYTES: usize = 512;

/// One fact. The state of the ledger is these, applied in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The first record of every journal. No second before `birth` is ever used for a point.
    Journal { format: u32, birth: i64 },
    /// A tag set's last used second, carried over by compaction.
    Last { tag_set: Arc<TagSet>, second: i64 },
    /// A run was accepted.
    Accept(Arc<Run>),
    /// A batch was sealed at the second `at`, when the cache held `sent` keys. The batch before it is settled.
    Seal { at: i64, sent: usize, slots: Vec<SealedSlot> },
    /// These runs of the open batch wait again.
    Unseal { keys: Vec<Key>, in_doubt: bool },
    /// These runs are settled without having been sent.
    Reject { keys: Vec<Key> },
}

/// The runs that share a tag set and a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealedSlot {
    pub(super) second: i64,
    pub(super) keys: Vec<Key>,
}

impl Record {
    /// The record as a line, with its line feed.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(USUAL_BYTES);
        match serde_json::to_writer(&mut line, self) {
            Ok(()) => {
                line.push(b'\n');
                line
            }
            Err(error) => unreachable!("plain data always serialises: {error}"),
        }
    }
}
