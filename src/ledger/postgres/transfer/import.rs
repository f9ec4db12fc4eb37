//! From files into the database.

use super::{CHUNK, Copied, Held, TransferError};
use crate::{
    event::Key,
    explain::explain,
    ledger::{
        Batch, Files, RealDisk, Storage,
        files::{Lock, Recovered, read_series, recover, sent_ids},
        postgres::{
            database::Database,
            reign::digested,
            schema,
            series::Exchange,
            statements::{self, Parameters},
            text,
        },
        record::Record,
        state::State,
    },
    metrics::SeriesGuard,
};
use indicatif::ProgressBar;
use std::{collections::HashSet, fs, io, sync::Arc, time::Duration};
use tokio_postgres::{Client, Transaction, types::Type};

/// No key of ours is longer. An index takes no more than about this.
const KEY_MAX_BYTES: usize = 2_000;

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
    let Recovered { state, .. } = recover(&storage, files, now)?;
    let ids = sent_ids(&files.cache)?;
    if let Some(id) = ids.iter().find(|id| id.len() > KEY_MAX_BYTES || id.contains('\0')) {
        return Err(TransferError::OddId { path: files.cache.clone(), id: id.clone() });
    }
    bar.set_length((ids.len() + state.pending_len()) as u64);
    let series = read_series(storage.as_ref(), &files.series, usize::MAX).unwrap_or_else(|error| {
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
    let copied = import_all(&mut held, &state, (&ids, &rejected), bar, now).await;
    // Whatever came of it: nobody delivers here any more.
    let released = held.release().await;
    let copied = copied.map_err(|source| database.failed(source))?;
    released.map(|()| copied).map_err(|source| database.failed(source).into())
}

async fn import_all(
    held: &mut Held,
    state: &State,
    (ids, rejected): (&[String], &[String]),
    bar: &ProgressBar,
    now: i64,
) -> Result<Copied, tokio_postgres::Error> {
    let before = sent_of_batch(held, state).await?;
    let new = import_sent(&mut held.session.client, ids, bar).await?;
    let open = open_still(state, &before);
    import_pending(held, state, open.as_ref(), bar).await?;
    let missing = "INSERT INTO rejected (line) SELECT line FROM unnest($1) AS t (line) \
        WHERE NOT EXISTS (SELECT FROM rejected r WHERE r.line = t.line)";
    held.session.client.execute_typed(missing, &[(&rejected, Type::TEXT_ARRAY)]).await?;
    Exchange::default().turn(&held.session.client, &held.common, now).await?;
    let sealed = open.map_or(0, |batch| batch.keys().filter(|key| state.is_pending(*key)).count());
    Ok(Copied { sent: ids.len(), new, pending: state.pending_len(), sealed, rejected: rejected.len() })
}

/// Those of the open batch's pending runs that the database knows to be sent: it has had this batch before.
async fn sent_of_batch(held: &Held, state: &State) -> Result<HashSet<Key>, tokio_postgres::Error> {
    let batch = state.batch().map(Batch::keys).into_iter().flatten();
    let pending: Vec<Key> = batch.filter(|key| state.is_pending(*key)).collect();
    Ok(statements::sent_of(&held.session.client, &pending).await?.into_iter().collect())
}

/// The open batch without slots that were sent since.
fn open_still(state: &State, sent: &HashSet<Key>) -> Option<Batch> {
    let mut batch = state.batch()?.clone();
    batch.slots.retain(|slot| slot.keys().any(|key| state.is_pending(key) && !sent.contains(&key)));
    Some(batch).filter(|batch| !batch.slots.is_empty())
}

/// How many of these were not there.
async fn import_sent(client: &mut Client, ids: &[String], bar: &ProgressBar) -> Result<usize, tokio_postgres::Error> {
    let mut new = 0;
    for chunk in ids.chunks(CHUNK) {
        let transaction = client.transaction().await?;
        // As in `settle`: keys are looked up by their index, whatever the planner knows.
        transaction.batch_execute("SET LOCAL enable_seqscan = off").await?;
        let missing = "INSERT INTO sent (key) \
            SELECT t.key FROM unnest($1) WITH ORDINALITY AS t (key, place) \
            WHERE NOT EXISTS (SELECT FROM sent WHERE sent.key = t.key OFFSET 0) GROUP BY t.key ORDER BY min(t.place)";
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
async fn import_pending(
    held: &mut Held,
    state: &State,
    open: Option<&Batch>,
    bar: &ProgressBar,
) -> Result<(), tokio_postgres::Error> {
    let term = held.term;
    let in_batch: HashSet<Key> = open.map(Batch::keys).into_iter().flatten().collect();
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
                let (digest, family) = digested(tag_set);
                let later = "INSERT INTO last_second AS l VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (digest) DO UPDATE SET second = greatest(l.second, excluded.second)";
                let is_historical = tag_set.is_historical();
                let parameters: Parameters = &[
                    (&digest, Type::BYTEA),
                    (&family, Type::TEXT),
                    (second, Type::INT8),
                    (&is_historical, Type::BOOL),
                ];
                transaction.execute_typed(later, parameters).await?;
            }
            Record::Accept(run) => {
                // A slot that is sent whole may hold what was sent before.
                keys.push((run.key.to_string(), in_batch.contains(&run.key)));
                runs.push(text(record.line()));
            }
            Record::Seal { .. } | Record::Unseal { .. } | Record::Reject { .. } => {}
        }
        if keys.len() >= CHUNK {
            insert_pending(&transaction, &mut keys, &mut runs, bar).await?;
        }
    }
    insert_pending(&transaction, &mut keys, &mut runs, bar).await?;
    if let Some(batch) = open {
        let batch = text(batch.record(0).line());
        let open = "UPDATE ledger SET batch = $1 WHERE term = $2";
        transaction.execute_typed(open, &[(&batch, Type::TEXT), (&term, Type::INT8)]).await?;
    }
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
    let parameters: Parameters = &[(&keys, Type::TEXT_ARRAY), (&runs, Type::TEXT_ARRAY), (&sealed, Type::BOOL_ARRAY)];
    transaction.execute_typed(missing, parameters).await.map(drop)
}

/// The lines that are set aside for people, the oldest first.
fn rejected_lines(files: &Files) -> Result<Vec<String>, TransferError> {
    let mut lines = Vec::new();
    for path in [files.rejected.with_extension("jsonl.1"), files.rejected.clone()] {
        match fs::read(&path) {
            // A torn line is for people all the same, without what no text can hold.
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).replace('\0', "");
                lines.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(TransferError::file(&path)(error)),
        }
    }
    Ok(lines)
}
