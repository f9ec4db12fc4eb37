//! From files to the database and back: the whole ledger, as it stands.
//!
//! Invariant: whoever copies leads on the side of the database and holds the lock of the files, so nothing moves meanwhile. What
//! is read is left as it is. A copy that breaks off is begun again and goes on; before its end nobody can take it for a whole one:
//! in the database what is pending comes last, and a directory has its name last.

use super::{
    Common, Failure,
    database::{Database, DatabaseError, Session},
    lead::{apply, family_text, record},
    schema,
    series::Exchange,
    statements, text,
};
use crate::{
    event::Key,
    explain::explain,
    ledger::{
        FileError, Files, Lock, LockError, RealDisk, Storage, WorkflowCache, count,
        disk::{self, folder_of},
        journal::Journal,
        layout,
        record::Record,
        recover::{self, Recovered},
        state::State,
    },
    metrics::SeriesGuard,
};
use futures_util::{TryStreamExt, pin_mut};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_postgres::{Client, Transaction, types::Type};

/// How many keys are copied at a time.
const CHUNK: usize = 10_000;

/// No key of ours is longer. An index takes no more than about this.
const KEY_MAX_BYTES: usize = 2_000;

/// The copy could not be made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A service has the files.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is nothing to copy.
    #[error("{}: there is no ledger in it", .0.display())]
    NoFiles(PathBuf),
    /// There is nothing to copy.
    #[error("{0}: there is no ledger in it")]
    NoLedger(String),
    /// A replica delivers.
    #[error("{database}: a replica delivers: {leader}")]
    Led {
        /// Which database.
        database: String,
        /// Who.
        leader: String,
    },
    /// The other side is in the middle of something else.
    #[error("{0}: another batch is under way in it")]
    OtherBatch(String),
    /// An ID that no database takes.
    #[error("{}: an ID of {} bytes: {}…", path.display(), .id.len(), id.chars().take(40).collect::<String>())]
    LongId {
        /// The file.
        path: PathBuf,
        /// The ID.
        id: String,
    },
    /// The directory is there already.
    #[error("{}: is there already", .0.display())]
    Exists(PathBuf),
    /// What is there cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl TransferError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File(_) => {
                "see that the directory is the right one, and that this user can read and write there; `runhound check` with \
                 the same --cache-dir says more of its files"
            }
            Self::Lock(_) => "stop the service that has these files: they are copied as they stand",
            Self::Database(error) => error.hint(),
            Self::NoFiles(_) => {
                "name the directory of the service with --cache-dir, and --dry-run for the files of a dry run"
            }
            Self::NoLedger(_) => "name the database with --ledger, and --dry-run for the ledger of a dry run",
            Self::Led { .. } => "stop all replicas: the ledger is copied as it stands",
            Self::OtherBatch(_) => "let a replica deliver what it has, stop it, and begin again",
            Self::LongId { .. } => "take it out of the file: GitHub has no such ID",
            Self::Exists(_) => "name a directory with --cache-dir that is not there yet",
            Self::Unreadable(_) => "run the version of runhound that wrote it, or a later one",
        }
    }

    fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| FileError::io(path, source).into()
    }
}

impl From<Failure> for TransferError {
    fn from(failure: Failure) -> Self {
        Self::Unreadable(failure.why)
    }
}

/// What a copy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// IDs of runs that were sent.
    pub sent: usize,
    /// Those of them that were not there before.
    pub new: usize,
    /// Runs that are pending.
    pub pending: usize,
    /// Those of them in the open batch.
    pub sealed: usize,
    /// Lines about what was rejected.
    pub rejected: usize,
}

/// The side of the database, on which nobody else delivers.
struct Held {
    session: Session,
    common: Common,
    term: i64,
    batch: Option<String>,
    birth: i64,
}

impl Held {
    async fn new(database: &Database, session: Session, series: SeriesGuard) -> Result<Self, TransferError> {
        let common = Common::new(database.clone(), series);
        // A copy takes as long as it takes.
        let patient = session.client.batch_execute("SET statement_timeout TO 0").await;
        patient.map_err(|source| database.failed(source))?;
        let begun = statements::lead(&session.client, &common.name).await;
        let Some(begun) = begun.map_err(|source| database.failed(source))? else {
            let overview = statements::overview(&session.client).await.map_err(|source| database.failed(source))?;
            let leader = overview.leadership.and_then(|leadership| leadership.leader);
            return Err(TransferError::Led {
                database: database.to_string(),
                leader: leader.unwrap_or_else(|| "just now".to_owned()),
            });
        };
        let (term, batch, birth) = (begun.term, begun.batch, begun.birth);
        Ok(Self { session, common, term, batch, birth })
    }

    async fn release(self) -> Result<(), tokio_postgres::Error> {
        statements::resign(&self.session.client, self.term).await
    }
}

/// Copies the ledger of files into the database. The files are left as they are.
///
/// # Errors
/// Either side is in use or cannot be used. What was copied is there, and is not copied again.
pub async fn import(files: &Files, database: &Database, bar: &ProgressBar) -> Result<Copied, TransferError> {
    if !files.cache.exists() && !files.journal.exists() {
        return Err(TransferError::NoFiles(files.dir.clone()));
    }
    let storage: Arc<dyn Storage> = Arc::new(RealDisk);
    let _lock = Lock::take(storage.as_ref(), &files.lock, Duration::ZERO)?;
    let now = jiff::Timestamp::now().as_second();
    let Recovered { state, .. } = recover::recover(&storage, files, now)?;
    let bytes = fs::read(&files.cache).map_err(TransferError::file(&files.cache))?;
    let mut ids = Vec::new();
    let read = layout::read(&bytes, |id| ids.push(id.to_owned()));
    read.map_err(|flaw| FileError::damaged(&files.cache, flaw.offset, flaw.what))?;
    if let Some(id) = ids.iter().find(|id| id.len() > KEY_MAX_BYTES) {
        return Err(TransferError::LongId { path: files.cache.clone(), id: id.clone() });
    }
    bar.set_length((ids.len() + state.pending_len()) as u64);
    let series = count::read(storage.as_ref(), &files.series, usize::MAX).unwrap_or_else(|error| {
        log::warn!("{}: series are counted anew", explain(&error));
        SeriesGuard::new(usize::MAX)
    });
    let mut session = database.connect().await?;
    schema::migrate(database, &mut session, state.birth()).await?;
    let mut held = Held::new(database, session, series).await?;
    let sealed = state.batch().map(|batch| text(batch.record(0).line()));
    if held.batch.is_some() && held.batch != sealed {
        return Err(TransferError::OtherBatch(database.to_string()));
    }
    let rejected = rejected_lines(files)?;
    let copied = async {
        let new = import_sent(&mut held.session.client, &ids, bar).await?;
        import_pending(&mut held, &state, bar).await?;
        let missing = "INSERT INTO rejected (line) SELECT line FROM unnest($1) AS t (line) \
            WHERE NOT EXISTS (SELECT FROM rejected r WHERE r.line = t.line)";
        held.session.client.execute_typed(missing, &[(&rejected, Type::TEXT_ARRAY)]).await?;
        Exchange::default().turn(&held.session.client, &held.common, now).await?;
        let sealed = state.batch().map_or(0, |batch| batch.slots.iter().map(|slot| slot.runs.len()).sum());
        let copied = Copied { sent: ids.len(), new, pending: state.pending_len(), sealed, rejected: rejected.len() };
        held.release().await.map(|()| copied)
    };
    copied.await.map_err(|source| database.failed(source).into())
}

/// How many of these were not there.
async fn import_sent(client: &mut Client, ids: &[String], bar: &ProgressBar) -> Result<usize, tokio_postgres::Error> {
    let mut new = 0;
    for chunk in ids.chunks(CHUNK) {
        let transaction = client.transaction().await?;
        // As in `accept`: keys are looked up by their index, whatever the planner knows.
        let by_index =
            "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off";
        transaction.batch_execute(by_index).await?;
        let missing = "INSERT INTO sent (key) \
            SELECT t.key FROM unnest($1) WITH ORDINALITY AS t (key, place) \
            WHERE NOT EXISTS (SELECT FROM sent WHERE sent.key = t.key) GROUP BY t.key ORDER BY min(t.place)";
        let inserted = transaction.execute_typed(missing, &[(&chunk, Type::TEXT_ARRAY)]).await?;
        let counted = i64::try_from(inserted).unwrap_or(0);
        transaction.execute_typed("UPDATE ledger SET sent = sent + $1", &[(&counted, Type::INT8)]).await?;
        transaction.commit().await?;
        new += usize::try_from(inserted).unwrap_or(0);
        bar.inc(chunk.len() as u64);
    }
    Ok(new)
}

/// All that is not settled, in one transaction: seconds, runs in the order of their acceptance, the open batch.
async fn import_pending(held: &mut Held, state: &State, bar: &ProgressBar) -> Result<(), tokio_postgres::Error> {
    let term = held.term;
    let in_batch: HashSet<Key> = state.batch().map(crate::ledger::Batch::keys).into_iter().flatten().collect();
    let transaction = held.session.client.transaction().await?;
    // What a replica has taken in meanwhile, and was sent long ago. It could not be sent: nobody leads but we.
    let known = "LOCK TABLE pending IN SHARE ROW EXCLUSIVE MODE; DELETE FROM pending WHERE is_sent(key, false)";
    transaction.batch_execute(known).await?;
    let (mut keys, mut runs) = (Vec::new(), Vec::new());
    for record in state.records(None, 0) {
        match &record {
            Record::Journal { birth, .. } => {
                let later = "UPDATE ledger SET birth = greatest(birth, $1)";
                transaction.execute_typed(later, &[(birth, Type::INT8)]).await?;
            }
            Record::Last { tag_set, second } => {
                let family = family_text(tag_set);
                let digest = Sha256::digest(&family).to_vec();
                let later = "INSERT INTO last_second AS l VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (digest) DO UPDATE SET second = greatest(l.second, excluded.second)";
                let is_historical = tag_set.is_historical();
                transaction.execute(later, &[&digest, &family, second, &is_historical]).await?;
            }
            Record::Accept(run) => {
                // A slot that is sent whole may hold what was sent before.
                keys.push((run.key.to_string(), in_batch.contains(&run.key)));
                runs.push(text(record.line()));
            }
            Record::Seal { .. } => {
                let batch = text(record.line());
                let open = "UPDATE ledger SET batch = $1 WHERE term = $2";
                transaction.execute_typed(open, &[(&batch, Type::TEXT), (&term, Type::INT8)]).await?;
            }
            Record::Unseal { .. } | Record::Reject { .. } => {}
        }
        if keys.len() >= CHUNK {
            insert_pending(&transaction, &mut keys, &mut runs, bar).await?;
        }
    }
    insert_pending(&transaction, &mut keys, &mut runs, bar).await?;
    transaction.commit().await
}

async fn insert_pending(
    transaction: &Transaction<'_>,
    keys: &mut Vec<(String, bool)>,
    runs: &mut Vec<String>,
    bar: &ProgressBar,
) -> Result<(), tokio_postgres::Error> {
    bar.inc(keys.len() as u64);
    let (keys, sealed): (Vec<String>, Vec<bool>) = keys.drain(..).unzip();
    let runs = std::mem::take(runs);
    let missing = "INSERT INTO pending (key, run) \
        SELECT t.key, t.run FROM unnest($1, $2, $3) WITH ORDINALITY AS t (key, run, is_sealed, place) \
        WHERE t.is_sealed OR NOT is_sent(t.key, false) ORDER BY t.place ON CONFLICT (key) DO NOTHING";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&keys, Type::TEXT_ARRAY), (&runs, Type::TEXT_ARRAY), (&sealed, Type::BOOL_ARRAY)];
    transaction.execute_typed(missing, &parameters).await.map(drop)
}

/// The lines that are set aside for people, the oldest first.
fn rejected_lines(files: &Files) -> Result<Vec<String>, TransferError> {
    let mut lines = Vec::new();
    for path in [files.rejected.with_extension("jsonl.1"), files.rejected.clone()] {
        match fs::read_to_string(&path) {
            Ok(text) => lines.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(TransferError::file(&path)(error)),
        }
    }
    Ok(lines)
}

/// Copies the ledger of the database into files of a new directory. The database is left as it is.
///
/// # Errors
/// Either side is in use or cannot be used. What was copied is in a directory of that name with `.part` behind it.
pub async fn export(
    database: &Database,
    dir: &Path,
    files_in: impl Fn(&Path) -> Files,
    bar: &ProgressBar,
) -> Result<Copied, TransferError> {
    if dir.exists() {
        return Err(TransferError::Exists(dir.to_owned()));
    }
    let failed = |source| TransferError::from(database.failed(source));
    let session = database.connect().await?;
    if schema::format(database.schema, &session).await.map_err(failed)?.is_none() {
        return Err(TransferError::NoLedger(database.to_string()));
    }
    let mut held = Held::new(database, session, SeriesGuard::new(usize::MAX)).await?;
    let standing = statements::overview(&held.session.client).await.map_err(failed)?.standing;
    bar.set_length((standing.known + standing.pending) as u64);
    let part = part_of(dir);
    let files = files_in(&part);
    let storage: Arc<dyn Storage> = Arc::new(RealDisk);
    storage.create_dir(&part).map_err(TransferError::file(&part))?;
    let lock = Lock::take(storage.as_ref(), &files.lock, Duration::ZERO)?;
    let mut cache = WorkflowCache::open(Arc::clone(&storage), &files.cache)?;
    let before = cache.len();
    export_sent(&mut held.session.client, database, &mut cache, bar).await?;
    let mut state = export_state(&held, database, bar).await?;
    let settled: Vec<Key> = state.pending_keys().filter(|key| cache.contains_key(*key)).collect();
    state.settle(&settled);
    let sealed = state.batch().map_or(0, |batch| batch.slots.iter().map(|slot| slot.runs.len()).sum());
    let journal = Journal::new(Arc::clone(&storage), &files.journal).rewrite(|| state.records(None, cache.len()));
    journal.map_err(TransferError::file(&files.journal))?;
    let lines = held.session.client.query("SELECT line FROM rejected ORDER BY number", &[]).await.map_err(failed)?;
    let rejected: String = lines.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
    if !rejected.is_empty() {
        disk::replace(storage.as_ref(), &files.rejected, rejected.as_bytes())
            .map_err(TransferError::file(&files.rejected))?;
    }
    let now = jiff::Timestamp::now().as_second();
    Exchange::default().learn(&held.session.client, &held.common, now).await.map_err(failed)?;
    let series = held.common.series().snapshot().json();
    disk::replace(storage.as_ref(), &files.series, series.as_bytes()).map_err(TransferError::file(&files.series))?;
    drop(lock);
    fs::rename(&part, dir).map_err(TransferError::file(dir))?;
    storage.sync_dir(folder_of(dir)).map_err(TransferError::file(dir))?;
    held.release().await.map_err(failed)?;
    Ok(Copied {
        sent: cache.len(),
        new: cache.len() - before,
        pending: state.pending_len(),
        sealed,
        rejected: lines.len(),
    })
}

/// A directory that is not whole yet.
fn part_of(dir: &Path) -> PathBuf {
    let mut part = dir.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

/// The keys in the order of sending, as they come: they need not all be in memory twice.
async fn export_sent(
    client: &mut Client,
    database: &Database,
    cache: &mut WorkflowCache,
    bar: &ProgressBar,
) -> Result<(), TransferError> {
    let failed = |source| TransferError::from(database.failed(source));
    let keys = client.query_raw("SELECT key FROM sent ORDER BY number", Vec::<i64>::new()).await.map_err(failed)?;
    pin_mut!(keys);
    let mut chunk: Vec<String> = Vec::with_capacity(CHUNK);
    while let Some(row) = keys.try_next().await.map_err(failed)? {
        chunk.push(row.get(0));
        if chunk.len() == CHUNK {
            cache.mark_as_sent(&chunk)?;
            bar.inc(chunk.len() as u64);
            chunk.clear();
        }
    }
    cache.mark_as_sent(&chunk)?;
    bar.inc(chunk.len() as u64);
    Ok(())
}

/// What is not settled.
async fn export_state(held: &Held, database: &Database, bar: &ProgressBar) -> Result<State, TransferError> {
    let failed = |source| TransferError::from(database.failed(source));
    let client = &held.session.client;
    let mut state = State::new(held.birth);
    for row in client.query("SELECT family, second FROM last_second", &[]).await.map_err(failed)? {
        let tag_set = serde_json::from_str(row.get(0));
        let tag_set = tag_set.map_err(|error| TransferError::Unreadable(format!("a family of tag sets: {error}")))?;
        apply(&mut state, Record::Last { tag_set, second: row.get(1) })?;
    }
    let runs = client.query_raw("SELECT run FROM pending ORDER BY number", Vec::<i64>::new()).await.map_err(failed)?;
    pin_mut!(runs);
    while let Some(row) = runs.try_next().await.map_err(failed)? {
        apply(&mut state, record(row.get(0))?)?;
        bar.inc(1);
    }
    if let Some(batch) = &held.batch {
        apply(&mut state, record(batch)?)?;
    }
    Ok(state)
}
