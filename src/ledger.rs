//! What has been accepted and what has been sent: one thread that owns the journal and the cache.
//!
//! Invariant: only this room knows that there are files. Everything is answered after the sync that makes it so:
//! `accept` returns `Accepted::New` for a run that is on disk, and a duplicate of a run that is not yet on disk
//! waits for the same sync and shares its outcome. Requests that wait at the same moment share one sync.

mod arrivals;
mod borrowed;
mod cache;
mod count;
mod disk;
mod files;
mod inspect;
mod journal;
mod keys;
mod layout;
mod lines;
mod lock;
mod owner;
mod record;
mod recover;
mod repair;
mod state;
mod weight;

use crate::{
    event::{Attempt, Key},
    metrics::{DEFAULT_MAX_SERIES, Run, SeriesCount, Slot},
    vitals::Vitals,
};
use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

pub(crate) use borrowed::Borrowed;
pub use cache::WorkflowCache;
pub use count::inspect as inspect_series;
pub use disk::{RealDisk, Stamp, Storage, Stored};
pub use files::{FileError, Files, Mode, OpenError};
pub use inspect::{Known, holder, inspect};
use lock::Lock;
pub use lock::LockError;
pub(crate) use owner::{Command, Owner};
pub use repair::{Doubts, Entries, Repaired, repair};
pub use state::{Batch, Choice};

/// What a re-run of a run that is recorded already counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Reruns {
    /// News: each attempt is counted
    #[default]
    Push,
    /// Seen before, if any attempt of the run is recorded
    Drop,
}

impl Reruns {
    /// Whether jobs of this attempt of a run count as nothing. Of runs the ledger knows that by their keys; a job that runs again
    /// has another ID.
    #[must_use]
    pub fn drops_jobs_of(self, attempt: Attempt) -> bool {
        self == Self::Drop && attempt > Attempt::FIRST
    }
}

/// How to open a ledger.
#[derive(Debug)]
pub struct Options {
    /// Where its files are.
    pub files: Files,
    /// What a re-run counts as.
    pub reruns: Reruns,
    /// How long to wait for another process to give the directory back.
    pub lock_patience: Duration,
    /// The second that a new journal carries: now, by the local clock.
    pub birth: i64,
    /// Where the journal is compacted, if more than half of it is no longer needed.
    pub compact_at_bytes: u64,
    /// The size of the journal from which no new run is accepted, until settled ones have made room.
    pub max_journal_bytes: u64,
    /// The limit on distinct series in 30 days, after which new values of tags become `other`.
    pub max_series: usize,
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// What is noticed on the way, by the ledger and by those who work with it.
    pub vitals: Arc<Vitals>,
}

impl Options {
    /// The options of a service on real files.
    #[must_use]
    pub fn new(files: Files, reruns: Reruns, birth: i64) -> Self {
        Self {
            files,
            reruns,
            lock_patience: Duration::from_secs(30),
            birth,
            compact_at_bytes: 8 << 20,
            max_journal_bytes: 1 << 30,
            max_series: DEFAULT_MAX_SERIES,
            storage: Arc::new(RealDisk),
            vitals: Arc::default(),
        }
    }
}

/// What became of a run that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is new, and on disk now.
    New,
    /// It was seen before, and is on disk.
    Duplicate,
}

/// The ledger cannot write at the moment. Nothing of what was asked for counts; ask again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

/// What there is to send.
#[derive(Debug)]
pub enum Sealed {
    /// The open batch: just sealed, or one that was open already.
    Batch(Batch),
    /// Runs wait, but none can be sealed in this second.
    Later,
    /// No run waits.
    Nothing,
}

/// The ledger in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// IDs in the cache.
    pub known: usize,
    /// Runs accepted and not settled.
    pub pending: usize,
}

/// What an operator asks of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// IDs in the cache, and runs pending.
    pub standing: Standing,
    /// Since when the oldest of those waits, in seconds since 1970 by the local clock: when it was accepted, to ten seconds,
    /// or when it ended, if an earlier process accepted it.
    pub oldest_since: Option<i64>,
    /// Keys of tags whose new values are sent as `other`.
    pub capped: Vec<&'static str>,
}

/// A handle on the ledger. Its clones share one owning thread.
#[derive(Debug, Clone)]
pub struct Ledger {
    commands: mpsc::Sender<Command>,
    news: Arc<Notify>,
    vitals: Arc<Vitals>,
}

/// What opening a ledger gives: the handle, and the thread that ends when the last handle is dropped.
#[derive(Debug)]
pub struct Opened {
    /// The first handle.
    pub ledger: Ledger,
    /// The owner of the files.
    pub owner: JoinHandle<()>,
    /// What was found.
    pub standing: Standing,
    /// The batch that was open when the ledger was last used, as it was sealed.
    pub open_batch: Option<Batch>,
    /// Done when the owner has ended, which it does by itself only if it has failed, or has lost the directory.
    pub ended: oneshot::Receiver<()>,
}

impl Ledger {
    /// Takes the lock, reads the files and starts the owning thread. May wait for the lock.
    ///
    /// # Errors
    /// Another process has the directory, a file is damaged, or the system failed us. Damaged files are left
    /// as they are.
    pub fn open(options: Options) -> Result<Opened, OpenError> {
        let (ledger, inbox, owner) = Self::with_owner(options)?;
        let standing = owner.standing();
        let open_batch = owner.open_batch();
        let (ends, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("ledger".to_owned());
        let owner = thread
            .spawn(move || {
                let _dropped_with_the_thread = ends;
                owner.run(&inbox);
            })
            .map_err(|source| FileError::io(Path::new("ledger thread"), source))?;
        Ok(Opened { ledger, owner, standing, open_batch, ended })
    }

    /// The first handle, its inbox, and the owner that nobody has set to work yet.
    pub(crate) fn with_owner(options: Options) -> Result<(Self, mpsc::Receiver<Command>, Owner), OpenError> {
        let (commands, inbox) = mpsc::channel();
        let news = Arc::new(Notify::new());
        let vitals = Arc::clone(&options.vitals);
        let owner = Owner::open(options, Arc::clone(&news))?;
        Ok((Self { commands, news, vitals }, inbox, owner))
    }

    /// Takes a run in, if it is new, in the second `now` by the local clock. Where it would make too many series, it is
    /// recorded with `other` in place of what is new in its tags.
    ///
    /// # Errors
    /// Nothing was accepted.
    pub async fn accept(&self, run: Run, now: i64) -> Result<Accepted, Unavailable> {
        let run = Arc::new(run);
        let line = record::Record::Accept(Arc::clone(&run)).line();
        self.ask(|reply| Command::Accept { run, line, now, reply }).await
    }

    /// Waits until a run has been accepted since the last call returned.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Gives the open batch, sealing one first if there is none: of waiting runs that `choice` takes, by the
    /// rules of the second `now`, up to `limit` bytes of payload. It is on disk then.
    ///
    /// # Errors
    /// Nothing was sealed.
    pub async fn seal(&self, now: i64, limit: usize, choice: Choice) -> Result<Sealed, Unavailable> {
        self.ask(|reply| Command::Seal { now, limit, choice, reply }).await
    }

    /// Lets runs of the open batch wait again.
    ///
    /// # Errors
    /// They are still in the batch.
    pub async fn unseal(&self, keys: Vec<Key>, in_doubt: bool) -> Result<(), Unavailable> {
        self.ask(|reply| Command::Unseal { keys, in_doubt, reply }).await
    }

    /// Settles runs that Datadog refuses for good. They may come again.
    ///
    /// # Errors
    /// They are still pending.
    pub async fn reject(&self, keys: Vec<Key>) -> Result<(), Unavailable> {
        self.ask(|reply| Command::Reject { keys, reply }).await
    }

    /// Sets aside, for people, lines of JSON about what was rejected or could not be understood.
    ///
    /// # Errors
    /// They are not on disk.
    pub async fn set_aside(&self, lines: String) -> Result<(), Unavailable> {
        self.ask(|reply| Command::SetAside { lines, reply }).await
    }

    /// Records runs as sent. They are on disk then, and settled.
    ///
    /// # Errors
    /// They are still pending; call again.
    pub async fn mark(&self, keys: Vec<Key>) -> Result<(), Unavailable> {
        self.ask(|reply| Command::Mark { keys, reply }).await
    }

    /// Appends a payload to the file of payloads.
    ///
    /// # Errors
    /// It is not on disk.
    pub async fn log_payload(&self, line: String) -> Result<(), Unavailable> {
        self.ask(|reply| Command::LogPayload { line, reply }).await
    }

    /// Those of these attempts that would be new.
    ///
    /// # Errors
    /// The owning thread is gone.
    pub async fn unknown(&self, keys: Vec<Key>) -> Result<Vec<Key>, Unavailable> {
        self.ask(|reply| Command::Unknown { keys, reply }).await
    }

    /// The ledger in numbers.
    ///
    /// # Errors
    /// The owning thread is gone.
    pub async fn standing(&self) -> Result<Standing, Unavailable> {
        self.ask(|reply| Command::Standing { reply }).await
    }

    /// What an operator asks for.
    ///
    /// # Errors
    /// The owning thread is gone.
    pub async fn overview(&self) -> Result<Overview, Unavailable> {
        self.ask(|reply| Command::Overview { reply }).await
    }

    /// Whether a run could be recorded now. A journal that failed is made anew first, if that is possible.
    ///
    /// # Errors
    /// It could not, and why.
    pub async fn ready(&self) -> Result<(), Unavailable> {
        self.ask(|reply| Command::Ready { reply }).await
    }

    /// What is noticed on the way.
    #[must_use]
    pub const fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// How many distinct series were made up to the second `now` by the local clock. What is known of them is written to
    /// its file, if that was not done in the last ten minutes; call it now and then.
    ///
    /// # Errors
    /// The owning thread is gone.
    pub async fn count_series(&self, now: i64) -> Result<SeriesCount, Unavailable> {
        self.ask(|reply| Command::CountSeries { now, reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Unavailable>>) -> Command,
    ) -> Result<T, Unavailable> {
        let gone = || Unavailable("the ledger has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// The keys of some slots, as one list.
pub(crate) fn keys_of(slots: &[Slot]) -> Vec<Key> {
    slots.iter().flat_map(Slot::keys).collect()
}

/// All keys of some slots, to choose by.
pub(crate) fn key_set<'a>(keys: impl IntoIterator<Item = &'a Key>) -> HashSet<Key> {
    keys.into_iter().copied().collect()
}

#[cfg(test)]
mod tests;
