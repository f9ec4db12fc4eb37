//! What has been accepted and what has been sent, kept in files or in a database.
//!
//! Invariant: only this room knows that there are files, or a database. Everything is answered after the sync, or the commit,
//! that makes it so: `accept` returns `Accepted::New` for a run that is recorded by then, and a duplicate of a run that is
//! not yet recorded waits and shares its outcome. Requests that wait at the same moment share one sync.

mod disk;
mod files;
mod guard;
mod keeper;
mod lines;
mod options;
mod postgres;
mod record;
mod state;

use crate::{
    event::Key,
    metrics::{Run, SeriesCount, Slot},
    vitals::Vitals,
};
use std::{
    collections::HashSet,
    io,
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};
use tokio::sync::{Notify, oneshot, watch};

pub use disk::{RealDisk, Stamp, Storage, Stored};
pub(crate) use files::{Borrowed, Owner};
pub use files::{
    Doubts, Entries, FileError, Files, Known, LockError, Repaired, WorkflowCache, holder, inspect, inspect_series,
    repair,
};
pub(crate) use keeper::{Command, Keeper};
pub use options::{Mode, OpenError, Options, Reruns};
pub use postgres::{
    AddressError, Copied, Database, DatabaseError, TransferError, export, import, inspect as inspect_database,
    unknown as unknown_in_database,
};
pub use state::{Batch, Choice};

/// The term of whoever has the files: nobody else can have them.
const ONLY_TERM: i64 = 0;

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

/// A replica's time of delivering.
#[derive(Debug)]
pub struct Term {
    /// Its number; no two have the same.
    pub number: i64,
    /// The batch that was open when it began, as it was sealed.
    pub open_batch: Option<Batch>,
}

/// Which replica delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// Whether this one does.
    pub leads: bool,
    /// The name of the one that does, if any.
    pub leader: Option<String>,
    /// Since when, in seconds since 1970.
    pub since: Option<i64>,
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
    /// Which replica delivers, where there can be several.
    pub leadership: Option<Leadership>,
}

/// A handle on the ledger. Its clones share one owning thread.
#[derive(Debug, Clone)]
pub struct Ledger {
    commands: mpsc::Sender<Command>,
    news: Arc<Notify>,
    /// The term, while this process delivers.
    leading: watch::Receiver<Option<i64>>,
    vitals: Arc<Vitals>,
}

/// What opening a ledger gives: the handle, and the thread that ends when the last handle is dropped.
#[derive(Debug)]
pub struct Opened {
    /// The first handle.
    pub ledger: Ledger,
    /// Who keeps it.
    pub owner: JoinHandle<()>,
    /// What was found.
    pub standing: Standing,
    /// Done when the owner has ended, which it does by itself only if it has failed, or has lost the directory.
    pub ended: oneshot::Receiver<()>,
}

impl Ledger {
    /// Takes the lock, reads the files and starts the owning thread; or does the like with the database. May wait for either.
    ///
    /// # Errors
    /// Another process has the directory, a file is damaged, the database cannot be used, or the system failed us. Damaged files
    /// are left as they are.
    pub fn open(options: Options) -> Result<Opened, OpenError> {
        let vitals = Arc::clone(&options.vitals);
        let (leads, leading) = watch::channel(None);
        let (ledger, inbox) = Self::new(vitals, leading);
        let news = Arc::clone(&ledger.news);
        match options.database.clone() {
            Some(database) => ledger.kept_by(inbox, move || postgres::Postgres::open(options, database, &news, leads)),
            None => ledger.kept_by(inbox, move || {
                leads.send_replace(Some(ONLY_TERM));
                Owner::open(options, news)
            }),
        }
    }

    fn new(vitals: Arc<Vitals>, leading: watch::Receiver<Option<i64>>) -> (Self, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel();
        (Self { commands, news: Arc::default(), leading, vitals }, inbox)
    }

    /// Opens on the thread that works from then on, and waits until it has.
    fn kept_by<K: Keeper>(
        self,
        inbox: mpsc::Receiver<Command>,
        open: impl FnOnce() -> Result<K, OpenError> + Send + 'static,
    ) -> Result<Opened, OpenError> {
        let failed = |source| FileError::io(Path::new("ledger thread"), source);
        let (ends, ended) = oneshot::channel();
        let (opens, opened) = mpsc::channel();
        let thread = std::thread::Builder::new().name("ledger".to_owned());
        let owner = thread.spawn(move || {
            let _dropped_with_the_thread: oneshot::Sender<()> = ends;
            let told = match open() {
                Ok(keeper) => opens.send(Ok(keeper.standing())).map(|()| keeper),
                Err(error) => return drop(opens.send(Err(error))),
            };
            drop(opens);
            // Whoever opened it waits for it.
            if let Ok(keeper) = told {
                keeper.run(&inbox);
            }
        });
        let owner = owner.map_err(failed)?;
        let standing = opened.recv().map_err(|error| failed(io::Error::other(error)))??;
        Ok(Opened { ledger: self, owner, standing, ended })
    }

    /// The first handle, its inbox, and the owner that nobody has set to work yet.
    #[cfg(test)]
    pub(crate) fn with_owner(options: Options) -> Result<(Self, mpsc::Receiver<Command>, Owner), OpenError> {
        let (_, leading) = watch::channel(Some(ONLY_TERM));
        let (ledger, inbox) = Self::new(Arc::clone(&options.vitals), leading);
        let owner = Owner::open(options, Arc::clone(&ledger.news))?;
        Ok((ledger, inbox, owner))
    }

    /// Begins to deliver, if that is for this process to do now. What is sealed, unsealed, rejected and marked from then on is so
    /// in this term.
    ///
    /// # Errors
    /// The owning thread is gone.
    pub async fn lead(&self) -> Result<Option<Term>, Unavailable> {
        self.ask(|reply| Command::Lead { reply }).await
    }

    /// Whether this process still delivers, in this term.
    #[must_use]
    pub fn leads(&self, term: i64) -> bool {
        *self.leading.borrow() == Some(term)
    }

    /// Whether this process is the one to deliver.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.leading.borrow().is_some()
    }

    /// Done when this process is the one to deliver.
    pub async fn until_leading(&self) {
        if self.leading.clone().wait_for(Option::is_some).await.is_err() {
            // Nobody ever will be again.
            std::future::pending::<()>().await;
        }
    }

    /// Done when the term is over.
    pub async fn deposed(&self, term: i64) {
        let mut leading = self.leading.clone();
        if leading.wait_for(|present| *present != Some(term)).await.is_err() {
            // Nobody will ever say that it is.
            std::future::pending::<()>().await;
        }
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
