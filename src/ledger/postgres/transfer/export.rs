//! From the database into files.

use super::{CHUNK, Copied, Held, TransferError};
use crate::{
    event::Key,
    ledger::{
        Files, RealDisk, Storage, WorkflowCache,
        disk::{self, folder_of},
        files::{Journal, Lock},
        postgres::{
            database::Database,
            reign::{apply, record},
            schema,
            series::Exchange,
            statements,
        },
        record::Record,
        state::State,
    },
    metrics::SeriesGuard,
};
use futures_util::{TryStreamExt, pin_mut};
use indicatif::ProgressBar;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_postgres::Client;

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
    let Some(found) = schema::format(database.schema, &session.client).await.map_err(failed)? else {
        return Err(TransferError::NoLedger(database.to_string()));
    };
    schema::refuse_unknown(database, found)?;
    let mut held = Held::new(database, session, SeriesGuard::new(usize::MAX)).await?;
    let copied = export_all(&mut held, database, (dir, &part_of(dir)), files_in, bar).await;
    // Whatever came of it: nobody delivers here any more.
    let released = held.release().await;
    let copied = copied?;
    released.map(|()| copied).map_err(failed)
}

async fn export_all(
    held: &mut Held,
    database: &Database,
    (dir, part): (&Path, &Path),
    files_in: impl Fn(&Path) -> Files,
    bar: &ProgressBar,
) -> Result<Copied, TransferError> {
    let failed = |source| TransferError::from(database.failed(source));
    // A replica that is still there takes nothing in meanwhile.
    let alone = "BEGIN; LOCK TABLE pending IN SHARE MODE";
    held.session.client.batch_execute(alone).await.map_err(failed)?;
    let standing = statements::overview(&held.session.client).await.map_err(failed)?.standing;
    bar.set_length((standing.known + standing.pending) as u64);
    let files = files_in(part);
    let storage: Arc<dyn Storage> = Arc::new(RealDisk);
    storage.create_dir(part).map_err(TransferError::file(part))?;
    let lock = Lock::take(storage.as_ref(), &files.lock, Duration::ZERO)?;
    let mut cache = WorkflowCache::open(Arc::clone(&storage), &files.cache)?;
    let before = cache.len();
    export_sent(&mut held.session.client, database, &mut cache, bar).await?;
    let mut state = export_state(held, database, bar).await?;
    let settled: Vec<Key> = state.pending_keys().filter(|key| cache.contains_key(*key)).collect();
    state.settle(&settled);
    let sealed = state.batch().map_or(0, |batch| batch.keys().filter(|key| state.is_pending(*key)).count());
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
    fs::rename(part, dir).map_err(TransferError::file(dir))?;
    storage.sync_dir(folder_of(dir)).map_err(TransferError::file(dir))?;
    held.session.client.batch_execute("COMMIT").await.map_err(failed)?;
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
    // Without a slash at its end.
    let mut part = dir.components().collect::<PathBuf>().into_os_string();
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
