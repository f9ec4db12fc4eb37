//! Recorded deliveries on their way into a receiver: into one of this process, or over HTTP to another, signed as GitHub
//! signs.
//!
//! Invariant: whichever way a delivery takes, the receiver's ledger decides whether it is new.

use crate::{
    config::{self, ConfigError},
    datadog::{ClientError, Endpoint, Timeouts, http_client},
    event::{Recorded, RunKey},
    ledger::{Accepted, Files, Known, Ledger, Reruns, Unavailable},
    receiver::{Receiver, Reception},
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
    /// The ledger has ended.
    #[error(transparent)]
    Ledger(#[from] Unavailable),
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
            Self::Client(_) | Self::Ledger(_) => None,
        }
    }
}

/// Where recorded deliveries go in.
#[derive(Debug)]
pub(crate) enum Inlet {
    /// Into a receiver of this process.
    Here(Here),
    /// To a receiver that listens.
    There(Box<There>),
    /// Nowhere: what would be taken in is to be told.
    Nowhere(Box<Known>, Reruns),
}

/// A receiver of this process.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) ledger: Ledger,
}

/// A receiver that listens.
pub(crate) struct There {
    client: awc::Client,
    pub(crate) url: String,
    secret: Secret,
    known: Known,
    reruns: Reruns,
}

impl std::fmt::Debug for There {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("There").field("url", &self.url).finish_non_exhaustive()
    }
}

impl There {
    /// The receiver at `url`, which takes what `secret` signs. It must be made and used in an actix runtime.
    pub(crate) fn new(url: &str, secret: Secret) -> Result<Self, InletError> {
        Endpoint::new(url).ok_or(InletError::BadUrl)?;
        let client = http_client(Timeouts { whole: ANSWER_TIMEOUT, ..Timeouts::default() })?;
        Ok(Self { client, url: url.to_owned(), secret, known: Known::default(), reruns: Reruns::Push })
    }

    /// The receiver at `url`, which takes what the secret of the environment signs.
    pub(crate) fn of_environment(url: &str) -> Result<Self, InletError> {
        let secrets = config::secrets(&config::process_environment)?;
        let secret = secrets.current().into_iter().next().ok_or(ConfigError::NoSecret)?;
        Self::new(url, secret)
    }

    /// The same, with what can be seen of its files from here.
    pub(crate) fn looking_at(self, files: &Files, reruns: Reruns) -> Self {
        Self { known: Known::of(files), reruns, ..self }
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

impl Inlet {
    /// Hands one delivery in.
    ///
    /// # Errors
    /// There is no receiver.
    pub(crate) async fn take(&self, recorded: &Recorded) -> Result<Answered, InletError> {
        match self {
            Self::There(there) => there.take(recorded).await,
            Self::Here(here) => Ok(here.take(recorded).await),
            Self::Nowhere(..) => Ok(Answered::Refused("nothing is taken in".to_owned())),
        }
    }

    /// Those of these attempts that would be new, as far as can be known from here.
    ///
    /// # Errors
    /// The ledger has ended.
    pub(crate) async fn unknown(&self, keys: Vec<RunKey>) -> Result<Vec<RunKey>, InletError> {
        match self {
            Self::There(there) => Ok(there.known.unknown(keys, there.reruns)),
            Self::Nowhere(known, reruns) => Ok(known.unknown(keys, *reruns)),
            Self::Here(here) => Ok(here.ledger.unknown(keys).await?),
        }
    }
}

impl Here {
    async fn take(&self, recorded: &Recorded) -> Answered {
        let (event, guid) = (recorded.event.as_deref(), recorded.guid.as_deref());
        match self.receiver.take(event, guid, recorded.payload.as_bytes(), Way::Fetched).await {
            Ok(Reception::Recorded(Accepted::New, _)) => Answered::Accepted,
            Ok(Reception::Recorded(Accepted::Duplicate, _)) => Answered::Duplicate,
            Ok(Reception::Ignored(reason)) => Answered::Ignored(reason),
            Err(refusal) => Answered::Refused(refusal.to_string()),
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
