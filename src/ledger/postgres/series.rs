//! Which series all replicas make: each tells what it has seen, and learns what the others have.
//!
//! Invariant: it is a statistic. Between two exchanges the limit holds for what each replica knows.

use super::{Common, reign::digested};
use crate::metrics::{REMEMBERED_S, SavedTagSet, Seen};
use tokio_postgres::{Client, Error, types::Type};

/// How many tag sets are told at a time.
const CHUNK: usize = 2_000;

/// How often it is told and learned, in seconds.
const EVERY_S: u64 = 60;

/// When it was last done.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    done_at: Option<i64>,
    /// Up to when what others told has been read, in microseconds by the database's clock.
    read_up_to: i64,
}

impl Exchange {
    pub(super) fn is_due(&self, now: i64) -> bool {
        self.done_at.is_none_or(|at| at.abs_diff(now) >= EVERY_S)
    }

    /// Tells what was seen since the last time, and learns what others have told since.
    pub(super) async fn turn(&mut self, client: &Client, common: &Common, now: i64) -> Result<(), Error> {
        let seen = common.series().seen_since(self.done_at.unwrap_or(i64::MIN));
        for told in seen.chunks(CHUNK) {
            tell(client, told).await?;
        }
        self.learn(client, common, now).await?;
        self.done_at = Some(now);
        Ok(())
    }

    /// What a replica begins with: nothing of it needs to be told.
    pub(super) async fn begin(&mut self, client: &Client, common: &Common, now: i64) -> Result<(), Error> {
        self.learn(client, common, now).await?;
        self.done_at = Some(now);
        Ok(())
    }

    /// What was told in the minute before the last reading is read again: it may have been committed later.
    pub(super) async fn learn(&mut self, client: &Client, common: &Common, now: i64) -> Result<(), Error> {
        let learn = "SELECT tag_set, seen, timed, queued, (extract(epoch FROM told_at) * 1000000)::bigint FROM series \
            WHERE told_at >= to_timestamp($1::bigint / 1000000.0) - interval '1 minute' AND seen >= $2";
        let since = now.saturating_sub(REMEMBERED_S);
        let rows = client.query_typed(learn, &[(&self.read_up_to, Type::INT8), (&since, Type::INT8)]).await?;
        let mut guard = common.series();
        for row in rows {
            let seen = Seen { any: row.get(1), timed: row.get(2), queued: row.get(3) };
            match serde_json::from_str(row.get(0)) {
                Ok(tag_set) => guard.learn(&SavedTagSet { tag_set, seen }),
                Err(error) => log::warn!("a tag set of the series cannot be read: {error}"),
            }
            self.read_up_to = self.read_up_to.max(row.get(4));
        }
        Ok(())
    }
}

async fn tell(client: &Client, told: &[SavedTagSet]) -> Result<(), Error> {
    let (digests, texts): (Vec<Vec<u8>>, Vec<String>) = told.iter().map(|told| digested(&told.tag_set)).unzip();
    let seen: Vec<i64> = told.iter().map(|told| told.seen.any).collect();
    let timed: Vec<Option<i64>> = told.iter().map(|told| told.seen.timed).collect();
    let queued: Vec<Option<i64>> = told.iter().map(|told| told.seen.queued).collect();
    let tell = "INSERT INTO series AS s (digest, tag_set, seen, timed, queued) \
                SELECT * FROM unnest($1, $2, $3, $4, $5) AS t (digest, tag_set, seen, timed, queued) ORDER BY digest \
            ON CONFLICT (digest) DO UPDATE SET seen = greatest(s.seen, excluded.seen), told_at = now(), \
                timed = greatest(s.timed, excluded.timed), queued = greatest(s.queued, excluded.queued)";
    client
        .execute_typed(
            tell,
            &[
                (&digests, Type::BYTEA_ARRAY),
                (&texts, Type::TEXT_ARRAY),
                (&seen, Type::INT8_ARRAY),
                (&timed, Type::INT8_ARRAY),
                (&queued, Type::INT8_ARRAY),
            ],
        )
        .await?;
    Ok(())
}
