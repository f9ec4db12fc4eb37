//! The ledger in a PostgreSQL database: any number of replicas take runs in, and one at a time delivers them.
//!
//! Invariant: the database alone knows what was accepted, sealed and sent. A replica keeps nothing that another one would miss,
//! and answers after the commit. What is journaled in files stands here in tables, and which runs make a batch on which seconds
//! is decided by the same state. See docs/durability.md.

mod accept;
mod ask;
mod database;
mod inspect;
mod lead;
mod reign;
mod schema;
mod series;
mod session;
mod statements;
mod transfer;

use super::{
    FileError, OpenError, Options, Standing, Storage, Unavailable, guard,
    keeper::{Command, Keeper, answer},
    lines::{self, Lines},
};
use crate::{
    explain::explain,
    metrics::{SeriesCount, SeriesGuard},
};
use accept::{Acceptor, Waiting};
use ask::Asker;
pub use database::{AddressError, Database, DatabaseError};
pub use inspect::{inspect, unknown};
use lead::Leader;
use session::Session;
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc as channel, watch},
    time::Instant,
};
use tokio_postgres::error::SqlState;
pub use transfer::{Copied, TransferError, export, import};

/// How often it is said that the database fails.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The wait between two tries to reach it at the start.
const START_WAIT: Duration = Duration::from_secs(1);

/// Why something was not done, as far as that matters for what is done next.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    why: String,
    /// Whether another try can be of use.
    may_pass: bool,
    /// Whether the session can be used as if nothing had happened.
    leaves_session: bool,
    /// Whether nothing was heard in time.
    is_silence: bool,
}

impl Failure {
    fn of(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_pass: true, leaves_session: false, is_silence: false }
    }

    /// Another replica delivers.
    fn deposed() -> Self {
        Self::of("this replica has lost its lease: another one may deliver")
    }

    /// It is committed, but not as it must be. Another try would find it there.
    fn warned(warning: &str) -> Self {
        Self { may_pass: false, ..Self::of(format!("the database warned of its commit: {warning}")) }
    }

    fn unreadable(what: &str) -> Self {
        Self { may_pass: false, ..Self::of(format!("the database holds what this version cannot read: {what}")) }
    }

    fn unavailable(&self) -> Unavailable {
        Unavailable(self.why.clone())
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        let is_silence = matches!(error, DatabaseError::Silent { .. });
        Self { may_pass: error.may_pass(), is_silence, ..Self::of(explain(&error)) }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let leaves_session = error
            .code()
            .is_some_and(|code| [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code));
        Self { leaves_session, ..Self::of(format!("the database: {}", explain(&error))) }
    }
}

/// What all parts of a replica share.
#[derive(Debug)]
pub(super) struct Common {
    database: Database,
    /// What others see of who leads.
    name: String,
    series: Mutex<SeriesGuard>,
    /// When it was last said that the database fails, if it does.
    said_at: Mutex<Option<Instant>>,
}

impl Common {
    fn new(database: Database, series: SeriesGuard) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = format!("{host}:{}", std::process::id());
        Self { database, name, series: Mutex::new(series), said_at: Mutex::default() }
    }

    fn series(&self) -> MutexGuard<'_, SeriesGuard> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, now: i64) -> SeriesCount {
        let mut series = self.series();
        guard::forget(&mut series, now);
        series.count(now)
    }

    /// The session that is kept, or a new one.
    async fn session<'s>(&self, kept: &'s mut Option<Session>) -> Result<&'s Session, Failure> {
        if kept.as_ref().is_some_and(|session| session.client.is_closed()) {
            *kept = None;
        }
        match kept {
            Some(session) => Ok(session),
            None => Ok(kept.insert(self.database.connect().await?)),
        }
    }

    fn silent(&self, after: Duration) -> Failure {
        self.database.silent(after).into()
    }

    /// What comes of some work with the database within a time.
    async fn within<T>(&self, time: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(self.silent(time)))
    }

    /// Says what is the matter: at once, and then once a minute, whoever of this process finds what.
    fn note(&self, failure: &Failure) {
        let mut said_at = self.said_at.lock().unwrap_or_else(PoisonError::into_inner);
        if said_at.is_none_or(|at| at.elapsed() >= SAID_EVERY) {
            log::error!("{}", failure.why);
            *said_at = Some(Instant::now());
        } else {
            log::debug!("{}", failure.why);
        }
    }

    /// It works again.
    fn note_success(&self) {
        let mut said_at = self.said_at.lock().unwrap_or_else(PoisonError::into_inner);
        if said_at.take().is_some() {
            log::info!("{} answers again", self.database);
        }
    }
}

/// A replica's part of the ledger.
#[derive(Debug)]
pub(super) struct Postgres {
    acceptor: channel::UnboundedSender<Waiting>,
    leader: channel::UnboundedSender<Command>,
    asker: channel::UnboundedSender<(Instant, Command)>,
    /// The thread that talks to the database.
    parts: JoinHandle<()>,
    payloads: Lines,
    storage: Arc<dyn Storage>,
    standing: Standing,
}

impl Postgres {
    /// Makes the schema what it must be, and begins. Where the database does not answer it is waited for.
    pub(super) fn open(
        options: Options,
        database: Database,
        news: &Arc<Notify>,
        leading: watch::Sender<Option<i64>>,
    ) -> Result<Self, OpenError> {
        let failed = |source| FileError::io(Path::new("database thread"), source);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let common = Arc::new(Common::new(database, SeriesGuard::new(options.max_series)));
        let mut series = series::Exchange::default();
        let standing = runtime.block_on(begin(&common, &mut series, options.birth, options.lock_patience))?;
        let (acceptor, runs) = channel::unbounded_channel();
        let (asker, questions) = channel::unbounded_channel();
        let (leader, orders) = channel::unbounded_channel();
        let (reruns, vitals) = (options.reruns, options.vitals);
        let (common, news) = (|| Arc::clone(&common), || Arc::clone(news));
        let asks = Asker { common: common(), inbox: questions, reruns, leading: leading.subscribe(), standing, series };
        let accepts = Acceptor { common: common(), inbox: runs, reruns, news: news(), vitals: Arc::clone(&vitals) };
        let leads =
            Leader { common: common(), inbox: orders, leading, news: news(), vitals, is_wanted: false, has_led: false };
        let parts = move || {
            runtime.block_on(async { tokio::join!(asks.run(), accepts.run(), leads.run()) });
        };
        let thread = std::thread::Builder::new().name("database".to_owned());
        let parts = thread.spawn(parts).map_err(failed)?;
        let payloads = Lines::new(&options.files.payloads, lines::MAX_BYTES);
        Ok(Self { parts, acceptor, leader, asker, payloads, storage: options.storage, standing })
    }
}

/// What is there at the start.
async fn begin(
    common: &Common,
    series: &mut series::Exchange,
    birth: i64,
    patience: Duration,
) -> Result<Standing, DatabaseError> {
    let database = &common.database;
    let due = Instant::now() + patience;
    loop {
        let begun = async {
            let mut session = database.connect().await?;
            schema::migrate(database, &mut session, birth).await?;
            let learned = series.begin(&session.client, common, birth).await;
            learned.map_err(|source| database.failed(source))?;
            let overview = statements::overview(&session.client).await;
            Ok(overview.map_err(|source| database.failed(source))?.standing)
        };
        match begun.await {
            Err(error) if DatabaseError::may_pass(&error) && Instant::now() + START_WAIT < due => {
                log::warn!("{}: trying again", explain(&error));
                tokio::time::sleep(START_WAIT).await;
            }
            begun => return begun,
        }
    }
}

impl Keeper for Postgres {
    fn standing(&self) -> Standing {
        self.standing
    }

    /// Hands each command to the part that does it.
    fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        while let Ok(command) = inbox.recv() {
            // A part that cannot be told has failed, and with it this ledger.
            let is_there = match command {
                Command::Accept { run, line, now, reply } => {
                    self.acceptor.send(Waiting::run(run, line, now, reply)).is_ok()
                }
                Command::Ready { reply } => self.acceptor.send(Waiting::question(reply)).is_ok(),
                Command::Lead { .. }
                | Command::Seal { .. }
                | Command::Unseal { .. }
                | Command::Reject { .. }
                | Command::Mark { .. } => self.leader.send(command).is_ok(),
                Command::SetAside { .. }
                | Command::Unknown { .. }
                | Command::Standing { .. }
                | Command::Overview { .. }
                | Command::CountSeries { .. } => self.asker.send((Instant::now(), command)).is_ok(),
                Command::LogPayload { line, reply } => {
                    answer(reply, self.log_payload(&line));
                    true
                }
            };
            if !is_there {
                break;
            }
        }
        drop((self.acceptor, self.asker, self.leader));
        if self.parts.join().is_err() {
            log::error!("the thread that talks to the database has failed");
        }
    }
}

impl Postgres {
    /// Payloads are for people, and stay where they are sent from.
    fn log_payload(&mut self, line: &str) -> Result<(), Unavailable> {
        let folder = self.payloads.path().parent().filter(|folder| !folder.as_os_str().is_empty());
        let made = folder.map_or(Ok(()), |folder| self.storage.create_dir(folder));
        let logged = made.and_then(|()| self.payloads.append(self.storage.as_ref(), line.as_bytes()).map(drop));
        logged.map_err(|error| Unavailable(format!("{}: {error}", self.payloads.path().display())))
    }
}

/// A line of ours as text.
fn text(line: Vec<u8>) -> String {
    match String::from_utf8(line) {
        Ok(mut text) => {
            text.truncate(text.trim_end().len());
            text
        }
        Err(error) => unreachable!("JSON is UTF-8: {error}"),
    }
}
