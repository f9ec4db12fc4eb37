//! The schema: made at the first start, and brought up to date at later ones, by one process at a time.
//!
//! Invariant: a change of the schema is one transaction. What a later version made is left as it is.

use super::{
    database::{Database, DatabaseError},
    session::Session,
};
use tokio_postgres::{Error, GenericClient};

/// The formats, in their order, each as what makes it of the one before.
const STEPS: [&str; 1] = [include_str!("schema.sql")];

/// The format that this version works with.
fn newest() -> i32 {
    i32::try_from(STEPS.len()).unwrap_or(i32::MAX)
}

/// What a later version made is not for this one.
pub(super) fn refuse_unknown(database: &Database, found: i32) -> Result<(), DatabaseError> {
    if found <= newest() {
        return Ok(());
    }
    Err(DatabaseError::Format { database: database.to_string(), schema: database.schema, found })
}

/// Makes the schema what this version works with. `birth` is the second that a new ledger carries.
pub(super) async fn migrate(database: &Database, session: &mut Session, birth: i64) -> Result<(), DatabaseError> {
    let found = bring_up(database.schema, session, birth).await.map_err(|source| database.failed(source))?;
    refuse_unknown(database, found)
}

/// The format of the ledger in the schema, if there is one.
pub(super) async fn format(schema: &str, client: &impl GenericClient) -> Result<Option<i32>, Error> {
    let exists = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("{schema}.ledger")]).await?;
    if !exists.get::<_, bool>(0) {
        return Ok(None);
    }
    client.query_opt("SELECT format FROM ledger", &[]).await.map(|row| row.map(|row| row.get(0)))
}

/// The format that is there then. That of a later version is left as it is.
async fn bring_up(schema: &str, session: &mut Session, birth: i64) -> Result<i32, Error> {
    let newest = newest();
    match format(schema, &session.client).await? {
        // Nothing is locked where nothing is to be done: replicas start while others work.
        Some(found) if found == newest => {
            return session.client.batch_execute("SELECT make_partitions()").await.map(|()| found);
        }
        Some(found) if found > newest => return Ok(found),
        _ => {}
    }
    let transaction = session.client.transaction().await?;
    transaction.query_one("SELECT pg_advisory_xact_lock(hashtext('runhound ' || $1), 0)", &[&schema]).await?;
    if !transaction.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&schema]).await?.get::<_, bool>(0) {
        transaction.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    // Another process may have made it meanwhile.
    let found = format(schema, &transaction).await?.unwrap_or(0);
    if found > newest {
        return Ok(found);
    }
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        log::info!("making the schema {schema}");
        transaction.batch_execute(step).await?;
    }
    let written = "INSERT INTO ledger (format, birth) VALUES ($1, $2) ON CONFLICT (is_only) DO UPDATE SET format = $1";
    transaction.execute(written, &[&newest, &birth]).await?;
    transaction.batch_execute("SELECT make_partitions()").await?;
    transaction.commit().await.map(|()| newest)
}
