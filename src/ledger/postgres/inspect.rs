//! A look at the database that changes nothing.

use super::{
    database::{Database, DatabaseError},
    schema, statements,
};
use crate::{event::Key, ledger::Reruns};
use tokio_postgres::Error;

/// Looks at the server and at the ledger: a line about each, or what is wrong.
///
/// # Errors
/// The database cannot be used, or holds what this version does not know.
pub async fn inspect(database: &Database) -> Result<Vec<String>, DatabaseError> {
    let session = database.connect().await?;
    let failed = |source: Error| database.failed(source);
    let server = "SELECT current_setting('server_version'), current_user::text, current_setting('synchronous_commit'), \
        current_setting('synchronous_standby_names'), \
        CASE WHEN to_regnamespace($1) IS NULL THEN has_database_privilege(current_database(), 'CREATE') \
            ELSE has_schema_privilege($1, 'CREATE') END";
    let row = session.client.query_one(server, &[&database.schema]).await.map_err(failed)?;
    let (version, user, commit, standbys): (String, String, String, String) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let standbys =
        if standbys.is_empty() { "no synchronous standby".to_owned() } else { format!("standbys {standbys}") };
    let server = format!("{database}: PostgreSQL {version} as {user}, synchronous_commit {commit}, {standbys}");
    let schema = database.schema;
    let Some(found) = schema::format(schema, &session.client).await.map_err(failed)? else {
        if !row.get::<_, bool>(4) {
            let what = format!("there is no ledger, and {user} may not make one in a schema {schema}");
            return Err(DatabaseError::Unfit { database: database.to_string(), what });
        }
        return Ok(vec![server, format!("schema {schema}: a ledger will be made in it")]);
    };
    schema::refuse_unknown(database, found)?;
    let overview = statements::overview(&session.client).await.map_err(failed)?;
    let standing = overview.standing;
    let leader = overview.leadership.and_then(|leadership| leadership.leader);
    let leader = leader.map_or_else(|| "no replica delivers".to_owned(), |leader| format!("{leader} delivers"));
    Ok(vec![
        server,
        format!("schema {schema}: {} IDs sent, {} runs pending; {leader}", standing.known, standing.pending),
    ])
}

/// Those of these attempts that would be new, as far as the ledger knows now. Without a ledger all are.
///
/// # Errors
/// The database cannot be used, or holds what this version does not know.
pub async fn unknown(database: &Database, keys: Vec<Key>, reruns: Reruns) -> Result<Vec<Key>, DatabaseError> {
    let session = database.connect().await?;
    let failed = |source: Error| database.failed(source);
    let Some(found) = schema::format(database.schema, &session.client).await.map_err(failed)? else {
        return Ok(keys);
    };
    schema::refuse_unknown(database, found)?;
    statements::unknown(&session.client, &keys, reruns).await.map_err(failed)
}
