//! What is said to the database, a statement each.
//!
//! Invariant: each is one transaction, and costs the same however much was ever sent; what is said for a run that is accepted, for
//! a seal and for a mark is one round trip.

use super::Failure;
use crate::{
    event::Key,
    ledger::{Choice, Leadership, Overview, Reruns, Standing},
};
use std::collections::HashSet;
use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};

pub(super) type Parameters<'p> = &'p [(&'p (dyn ToSql + Sync), Type)];

/// The one row of an answer.
async fn one(client: &Client, statement: &str, parameters: Parameters<'_>) -> Result<Option<Row>, Error> {
    Ok(client.query_typed(statement, parameters).await?.into_iter().next())
}

fn texts<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Vec<String> {
    keys.into_iter().map(ToString::to_string).collect()
}

/// Those of these keys that the rows name.
fn named(keys: &[Key], rows: &[Row]) -> Vec<Key> {
    let named: HashSet<&str> = rows.iter().map(|row| row.get(0)).collect();
    keys.iter().filter(|key| named.contains(key.to_string().as_str())).copied().collect()
}

/// Takes these runs in; the keys of those that are new.
pub(super) async fn accept(
    client: &Client,
    keys: &[String],
    runs: &[String],
    reruns: Reruns,
) -> Result<HashSet<String>, Failure> {
    let drops = reruns == Reruns::Drop;
    let parameters: Parameters = &[(&keys, Type::TEXT_ARRAY), (&runs, Type::TEXT_ARRAY), (&drops, Type::BOOL)];
    let new = client.query_typed("SELECT accept($1, $2, $3)", parameters).await?;
    Ok(new.iter().map(|row| row.get(0)).collect())
}

/// What whoever leads begins with.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) term: i64,
    pub(super) birth: i64,
    pub(super) batch: Option<String>,
}

/// Begins a term, if nobody leads.
pub(super) async fn lead(client: &Client, name: &str) -> Result<Option<Begun>, Error> {
    let free = "SELECT pg_try_advisory_lock(hashtext('runhound ' || current_schema()), 1)";
    if !one(client, free, &[]).await?.is_some_and(|row| row.get(0)) {
        return Ok(None);
    }
    let begin = "UPDATE ledger SET term = term + 1, leader = $1, since = now() RETURNING term, birth, batch";
    let row = one(client, begin, &[(&name, Type::TEXT)]).await?;
    Ok(row.map(|row| Begun { term: row.get(0), birth: row.get(1), batch: row.get(2) }))
}

/// Whether a term is still the present one: `None` if not, else whether runs are pending.
pub(super) async fn beat(client: &Client, term: i64) -> Result<Option<bool>, Error> {
    let beat = "SELECT EXISTS (SELECT FROM pending) FROM ledger WHERE term = $1";
    Ok(one(client, beat, &[(&term, Type::INT8)]).await?.map(|row| row.get(0)))
}

/// Ends a term. The session that has it must end too.
pub(super) async fn resign(client: &Client, term: i64) -> Result<(), Error> {
    let resign = "UPDATE ledger SET leader = NULL, since = NULL WHERE term = $1";
    one(client, resign, &[(&term, Type::INT8)]).await.map(drop)
}

/// Runs that wait, in the order of their acceptance, up to a window of them.
pub(super) async fn waiting(client: &Client, choice: &Choice, window: usize) -> Result<Vec<String>, Error> {
    let window = i64::try_from(window).unwrap_or(i64::MAX);
    let (condition, keys) = match choice {
        Choice::Except(keys) => ("NOT EXISTS (SELECT FROM unnest($1) AS t (key) WHERE t.key = pending.key)", keys),
        Choice::Only(keys) => ("key = ANY ($1)", keys),
    };
    let keys = texts(keys);
    let statement = format!("SELECT run FROM pending WHERE {condition} ORDER BY number LIMIT $2");
    let rows = client.query_typed(&statement, &[(&keys, Type::TEXT_ARRAY), (&window, Type::INT8)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Runs by their keys, in the order of their acceptance.
pub(super) async fn runs(client: &Client, keys: &[Key]) -> Result<Vec<String>, Error> {
    let statement = "SELECT run FROM pending WHERE key = ANY ($1) ORDER BY number";
    let rows = client.query_typed(statement, &[(&texts(keys), Type::TEXT_ARRAY)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Those of these keys that were sent.
pub(super) async fn sent_of(client: &Client, keys: &[Key]) -> Result<Vec<Key>, Error> {
    let statement = "SELECT key FROM sent WHERE key = ANY ($1)";
    let rows = client.query_typed(statement, &[(&texts(keys), Type::TEXT_ARRAY)]).await?;
    Ok(named(keys, &rows))
}

/// The last used second of a family of tag sets.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) digest: Vec<u8>,
    pub(super) family: String,
    pub(super) second: i64,
    pub(super) is_historical: bool,
}

/// Those of these digests that are known, with their last used seconds.
pub(super) async fn last_seconds(client: &Client, digests: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, i64)>, Error> {
    let statement = "SELECT digest, second FROM last_second WHERE digest = ANY ($1)";
    let rows = client.query_typed(statement, &[(&digests, Type::BYTEA_ARRAY)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Opens a batch. False if the term is over.
pub(super) async fn seal(client: &Client, term: i64, batch: &str, last: &[Last]) -> Result<bool, Error> {
    let digests: Vec<&[u8]> = last.iter().map(|last| last.digest.as_slice()).collect();
    let families: Vec<&str> = last.iter().map(|last| last.family.as_str()).collect();
    let seconds: Vec<i64> = last.iter().map(|last| last.second).collect();
    let historical: Vec<bool> = last.iter().map(|last| last.is_historical).collect();
    let parameters: Parameters = &[
        (&term, Type::INT8),
        (&batch, Type::TEXT),
        (&digests, Type::BYTEA_ARRAY),
        (&families, Type::TEXT_ARRAY),
        (&seconds, Type::INT8_ARRAY),
        (&historical, Type::BOOL_ARRAY),
    ];
    let row = one(client, "SELECT seal($1, $2, $3, $4, $5, $6)", parameters).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Takes runs out of the open batch, of which `rest` is left. False if the term is over.
pub(super) async fn settle(
    client: &Client,
    term: i64,
    rest: Option<&str>,
    taken: &[Key],
    refused: &[Key],
) -> Result<bool, Error> {
    let (taken, refused) = (texts(taken), texts(refused));
    let parameters: Parameters =
        &[(&term, Type::INT8), (&rest, Type::TEXT), (&taken, Type::TEXT_ARRAY), (&refused, Type::TEXT_ARRAY)];
    let row = one(client, "SELECT settle($1, $2, $3, $4)", parameters).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Those of these keys that would be new.
pub(super) async fn unknown(client: &Client, keys: &[Key], reruns: Reruns) -> Result<Vec<Key>, Error> {
    let statement =
        "SELECT t.key FROM unnest($1) AS t (key) WHERE NOT is_pending(t.key, $2) AND NOT is_sent(t.key, $2)";
    let drops = reruns == Reruns::Drop;
    let rows = client.query_typed(statement, &[(&texts(keys), Type::TEXT_ARRAY), (&drops, Type::BOOL)]).await?;
    Ok(named(keys, &rows))
}

/// Sets lines aside for people.
pub(super) async fn set_aside(client: &Client, lines: &[&str]) -> Result<(), Error> {
    let statement = "INSERT INTO rejected (line) SELECT unnest($1)";
    client.execute_typed(statement, &[(&lines, Type::TEXT_ARRAY)]).await.map(drop)
}

/// What an operator asks. Which tags are capped is known elsewhere.
pub(super) async fn overview(client: &Client) -> Result<Overview, Error> {
    let statement = "SELECT sent, leader, extract(epoch FROM since)::bigint, (SELECT count(*) FROM pending), \
            (SELECT extract(epoch FROM accepted_at)::bigint FROM pending ORDER BY number LIMIT 1), \
            EXISTS ( \
                SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 1 AND objsubid = 2 \
                    AND classid::bigint = hashtext('runhound ' || current_schema())::bigint & 4294967295 \
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
            ) \
        FROM ledger";
    let Some(row) = one(client, statement, &[]).await? else {
        let standing = Standing { known: 0, pending: 0 };
        return Ok(Overview { standing, oldest_since: None, capped: Vec::new(), leadership: None });
    };
    let count = |column| usize::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    Ok(Overview {
        standing: Standing { known: count(0), pending: count(3) },
        oldest_since: row.get(4),
        capped: Vec::new(),
        // One that was killed has said nothing.
        leadership: Some(if row.get(5) {
            Leadership { leads: false, leader: row.get(1), since: row.get(2) }
        } else {
            Leadership { leads: false, leader: None, since: None }
        }),
    })
}
