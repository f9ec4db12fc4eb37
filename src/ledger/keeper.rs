//! What is asked of a ledger, and who keeps it: files, or a database.

use super::{Accepted, Choice, Overview, Sealed, Standing, Term, Unavailable};
use crate::{
    event::Key,
    metrics::{Run, SeriesCount},
};
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Unavailable>>;

/// What is asked, and where the answer goes. [`Ledger`](super::Ledger) says what each of them means.
#[derive(Debug)]
pub(crate) enum Command {
    Accept { run: Arc<Run>, line: Vec<u8>, now: i64, reply: Reply<Accepted> },
    Lead { reply: Reply<Option<Term>> },
    Seal { now: i64, limit: usize, choice: Choice, reply: Reply<Sealed> },
    Unseal { keys: Vec<Key>, in_doubt: bool, reply: Reply<()> },
    Reject { keys: Vec<Key>, reply: Reply<()> },
    SetAside { lines: String, reply: Reply<()> },
    Mark { keys: Vec<Key>, reply: Reply<()> },
    LogPayload { line: String, reply: Reply<()> },
    Unknown { keys: Vec<Key>, reply: Reply<Vec<Key>> },
    Standing { reply: Reply<Standing> },
    Overview { reply: Reply<Overview> },
    Ready { reply: Reply<()> },
    CountSeries { now: i64, reply: Reply<SeriesCount> },
}

/// Who does what is asked, and answers each command after what makes the answer true: a sync, or a commit.
pub(crate) trait Keeper {
    /// What is kept at the start.
    fn standing(&self) -> Standing;

    /// Works until the last handle is dropped, and leaves things as at a clean stop.
    fn run(self, inbox: &mpsc::Receiver<Command>);
}

/// Whoever asked may have gone meanwhile; what they asked for stands all the same.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, Unavailable>) {
    drop(reply.send(result));
}
