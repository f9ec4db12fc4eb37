//! Recorded deliveries on their way into a receiver: into one of this process, or over HTTP to another, signed as GitHub
//! signs.
//!
//! Invariant: whichever way a delivery takes, the receiver's ledger decides whether it is new.

use crate::{
    config::{self, ConfigError},
    event::{Key, Recorded},
    ledger::{self, Accepted, Database, DatabaseError, Files, Known, Ledger, Reruns, Unavailable},
    outgoing::{ClientError, Timeouts, http_client, plain_url},
    receiver::{Receiver, Reception, Refusal},
    signature::Secret,
    vitals::Way,
};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// How long one delivery may take to be answered. GitHub gives up after 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of one delivery.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Accepted,
    Duplicate,
    Ignored(String),
    Refused(String),
}

#[derive(Default, Deserialize)]
struct Body {
    status: Option<String>,
    reason: Option<String>,
    error: Option<String>,
}

impl Answered {
    pub(crate) fn new(status: u16, body: &[u8]) -> Self {
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        match (status, body.status.as_deref()) {
            (202, Some("accepted")) => Self::Accepted,
            (200, Some("duplicate")) => Self::Duplicate,
            (200, Some("ignored")) => Self::Ignored(body.reason.unwrap_or_default()),
            _ => Self::Refused(format!("{status} {}", body.error.unwrap_or_default()).trim_end().to_owned()),
        }
    }
}

/// A receiver cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum InletError {
    /// Its URL is none that could be shown and used.
    #[error("--to: not an http or https URL without query, user and password")]
    BadUrl,
    /// There is no secret to sign with.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It gave no answer.
    #[error("no answer from {url}: {cause}")]
    NoAnswer {
        /// The receiver.
        url: String,
        /// What the client said.
        cause: String,
    },
    /// It is in this process, and cannot record anything.
    #[error("nothing can be recorded: the log says why")]
    NotRecorded,
    /// The ledger has ended.
    #[error(transparent)]
    Ledger(#[from] Unavailable),
    /// The database cannot be looked at.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl InletError {
    /// What to do about it, where something can be said.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BadUrl => Some("name the receiver's webhook: http://127.0.0.1:8080/webhook"),
            Self::Config(error) => Some(error.hint()),
            Self::NoAnswer { .. } => {
                Some("start the receiver, or mend the URL given with --to; what was answered before is recorded")
            }
            Self::NotRecorded => Some(
                "make room on the disk, see to permissions of the cache directory, or to the database; then run it again: what is \
                 recorded stays",
            ),
            Self::Database(error) => Some(error.hint()),
            Self::Client(_) | Self::Ledger(_) => None,
        }
    }
}

/// Where recorded deliveries go in.
#[derive(Debug)]
pub(crate) enum Inlet {
    /// Into a receiver of this process.
    Here(Arc<Receiver>),
    /// To a receiver that listens.
    There(Box<There>),
}

impl Inlet {
    /// Hands one delivery in.
    ///
    /// # Errors
    /// There is no receiver, or it cannot record anything.
    pub(crate) async fn take(&self, recorded: &Recorded) -> Result<Answered, InletError> {
        let receiver = match self {
            Self::There(there) => return there.take(recorded).await,
            Self::Here(receiver) => receiver,
        };
        let (event, guid) = (recorded.event.as_deref(), recorded.guid.as_deref());
        match receiver.take(event, guid, recorded.payload.as_bytes(), Way::Fetched).await {
            Ok(Reception::Recorded(Accepted::New, _)) => Ok(Answered::Accepted),
            Ok(Reception::Recorded(Accepted::Duplicate, _)) => Ok(Answered::Duplicate),
            Ok(Reception::Ignored(reason)) => Ok(Answered::Ignored(reason)),
            Err(Refusal::Unavailable) => Err(InletError::NotRecorded),
            Err(refusal) => Ok(Answered::Refused(refusal.to_string())),
        }
    }
}

/// A receiver that listens.
pub(crate) struct There {
    client: awc::Client,
    url: String,
    secret: Secret,
}

impl std::fmt::Debug for There {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("There").field("url", &self.url).finish_non_exhaustive()
    }
}

impl There {
    /// The receiver at `url`, which takes what `secret` signs. It must be made and used in an actix runtime.
    pub(crate) fn new(url: &str, secret: Secret) -> Result<Self, InletError> {
        plain_url(url).ok_or(InletError::BadUrl)?;
        let client = http_client(Timeouts { whole: ANSWER_TIMEOUT, ..Timeouts::default() })?;
        Ok(Self { client, url: url.to_owned(), secret })
    }

    /// The receiver at `url`, which takes what the secret of the environment signs.
    pub(crate) fn of_environment(url: &str) -> Result<Self, InletError> {
        let secrets = config::secrets(&config::process_environment)?;
        let secret = secrets.current().into_iter().next().ok_or(ConfigError::NoSecret)?;
        Self::new(url, secret)
    }

    pub(crate) async fn take(&self, recorded: &Recorded) -> Result<Answered, InletError> {
        self.send(recorded).await.map_err(|cause| InletError::NoAnswer { url: self.url.clone(), cause })
    }

    async fn send(&self, recorded: &Recorded) -> Result<Answered, String> {
        let body = recorded.body().into_owned();
        let mut request = self
            .client
            .post(&self.url)
            .insert_header(("Content-Type", recorded.content_type()))
            .insert_header(("X-Hub-Signature-256", self.secret.sign(body.as_bytes())));
        for (name, value) in [("X-GitHub-Event", &recorded.event), ("X-GitHub-Delivery", &recorded.guid)] {
            if let Some(value) = value {
                request = request.insert_header((name, value.as_str()));
            }
        }
        let mut response = request.send_body(body).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response.body().await.map_err(|error| error.to_string())?;
        Ok(Answered::new(status, &body))
    }
}

/// What can be known beforehand of what is recorded. It only spares questions: a receiver decides.
#[derive(Debug)]
pub(crate) enum Look {
    /// All of it.
    Ledger(Ledger),
    /// What the files hold.
    Files(Box<Known>, Reruns),
    /// What a database holds.
    Database(Box<Database>, Reruns),
    /// Nothing: the files are elsewhere.
    Nothing,
}

impl Look {
    /// What the database holds, or what the files hold now.
    pub(crate) fn at(files: Option<&Files>, database: Option<Database>, reruns: Reruns) -> Self {
        match (files, database) {
            (_, Some(database)) => Self::Database(database.into(), reruns),
            (Some(files), None) => Self::Files(Known::of(files).into(), reruns),
            (None, None) => Self::Nothing,
        }
    }

    /// Those of these attempts that are not known.
    ///
    /// # Errors
    /// The ledger has ended.
    pub(crate) async fn unknown(&self, keys: Vec<Key>) -> Result<Vec<Key>, InletError> {
        match self {
            Self::Ledger(ledger) => Ok(ledger.unknown(keys).await?),
            Self::Files(known, reruns) => Ok(known.unknown(keys, *reruns)),
            Self::Database(database, reruns) => Ok(ledger::unknown_in_database(database, keys, *reruns).await?),
            Self::Nothing => Ok(keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_status_and_body_say_together() {
        assert_eq!(Answered::new(202, br#"{"status":"accepted","id":"1"}"#), Answered::Accepted);
        assert_eq!(Answered::new(200, br#"{"status":"duplicate","id":"1"}"#), Answered::Duplicate);
        assert_eq!(
            Answered::new(200, br#"{"status":"ignored","reason":"ping"}"#),
            Answered::Ignored("ping".to_owned())
        );
        assert_eq!(Answered::new(401, br#"{"error":"no"}"#), Answered::Refused("401 no".to_owned()));
        assert_eq!(Answered::new(200, b"<html>"), Answered::Refused("200".to_owned()));
    }
}
