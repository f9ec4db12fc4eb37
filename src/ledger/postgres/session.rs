//! A session with one server: what it states at its beginning, what the server warns of, and its end.
//!
//! Invariant: what a session commits is on disk: `synchronous_commit` is at least `on` in each, and a server without `fsync` is
//! refused.

use crate::explain::explain;
use rustls::ClientConfig;
use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long the server works on one statement.
const STATEMENT_TIMEOUT_S: u32 = 5;

/// What warns where somebody cancels a commit that waits for a standby: it then stands on the primary alone, and succeeds.
/// Source: PostgreSQL's `syncrep.c`.
const UNSAFE_COMMIT: &str = "SyncRepWaitForLSN";

/// The first version that ends sessions that are idle, which makes the lease.
const VERSION_MIN: i32 = 14;

/// Begins a session with one host. If something about it breaks a guarantee, that is told too.
pub(super) async fn begin(
    config: Config,
    tls: Option<ClientConfig>,
    schema: &str,
) -> Result<(Session, Option<String>), Error> {
    let session = match tls {
        Some(tls) => Session::new(config.connect(MakeRustlsConnect::new(tls)).await?),
        None => Session::new(config.connect(NoTls).await?),
    };
    let unfit = state(&session.client, schema).await?;
    Ok((session, unfit))
}

/// States what a session relies on, whatever server, database or role say; and what cannot be stated is looked at.
async fn state(client: &Client, schema: &str) -> Result<Option<String>, Error> {
    // Functions that must use an index say so by a price on all else, for which each of their statements would be compiled.
    let stated = format!(
        "SET search_path TO {schema}; SET default_transaction_isolation TO 'read committed'; SET TimeZone TO 'UTC'; \
             SET jit TO off; \
         SET statement_timeout TO '{STATEMENT_TIMEOUT_S}s'; SET lock_timeout TO '{STATEMENT_TIMEOUT_S}s'; \
         SET client_min_messages TO warning; \
         SELECT set_config('synchronous_commit', 'on', false) \
            WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
    );
    client.batch_execute(&stated).await?;
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int / 10000, current_setting('fsync', true), \
                current_setting('synchronous_commit'), current_setting('server_encoding')",
            &[],
        )
        .await?;
    let (version, fsync): (i32, Option<String>) = (row.get(0), row.get(1));
    let (commit, encoding): (String, String) = (row.get(2), row.get(3));
    Ok(if version < VERSION_MIN {
        Some(format!("PostgreSQL {version} is too old: {VERSION_MIN} or later is needed"))
    } else if fsync.as_deref() == Some("off") {
        Some("fsync is off: what it commits may be lost".to_owned())
    } else if encoding != "UTF8" {
        Some(format!(
            "its encoding is {encoding}, and names on GitHub are UTF-8: make one with `createdb -T template0 -E UTF8`"
        ))
    } else if !["on", "remote_apply"].contains(&commit.as_str()) {
        Some(format!("synchronous_commit is {commit}, and cannot be set to on"))
    } else {
        None
    })
}

/// A session, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    connection: JoinHandle<()>,
    warning: Arc<Mutex<Option<String>>>,
}

impl Session {
    fn new<S, T>((client, mut connection): (Client, Connection<S, T>)) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let warning = Arc::new(Mutex::default());
        let noted = Arc::clone(&warning);
        let connection = tokio::spawn(async move {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        log::warn!("the database: {notice}");
                        if notice.routine() == Some(UNSAFE_COMMIT) {
                            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(notice.to_string());
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return log::debug!("a session ended: {}", explain(&error)),
                    None => return,
                }
            }
        });
        Self { client, connection, warning }
    }

    /// What the server has warned of a commit.
    pub(super) fn take_warning(&self) -> Option<String> {
        self.warning.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Done when the connection is gone.
    pub(super) async fn ended(&mut self) {
        drop((&mut self.connection).await);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A server that hangs would never take the end of the session.
        self.connection.abort();
    }
}
