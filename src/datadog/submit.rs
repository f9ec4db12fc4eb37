//! `DatadogService`: the plan's class, for programs that build payloads of their own.
//!
//! It filters, logs, pushes once and marks, or fails and marks nothing. It knows no slots, so a payload whose
//! answer is lost is the caller's to repeat unchanged; the guarantees of the service do not reach it.

use super::{
    ClientError, Intake,
    client::{Answer, Client, Endpoint},
    key::ApiKey,
    verdict::Verdict,
};
use crate::{
    ledger::{Borrowed, FileError, Files, Mode, OpenError},
    metrics::MetricPayload,
};
use std::path::PathBuf;

/// How to make a [`DatadogService`].
#[derive(Debug)]
pub struct SubmitOptions {
    /// Where the files are.
    pub cache_dir: PathBuf,
    /// Where to send, and with which key; `None` for a dry run, which sends nothing.
    pub datadog: Option<(Endpoint, ApiKey)>,
}

/// What came of [`DatadogService::submit_metrics`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Datadog has the payload, or a dry run has logged it, and these IDs are marked as sent.
    Sent(Vec<String>),
    /// All the IDs were marked before: nothing was sent.
    AlreadySent,
}

/// Nothing was marked.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The files cannot be used, or a service holds the directory.
    #[error(transparent)]
    Files(#[from] OpenError),
    /// Datadog has the payload, but the IDs could not be marked.
    #[error(transparent)]
    NotMarked(#[from] FileError),
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Datadog did not take it.
    #[error("the intake did not take the payload: {}{text}", status.map(|status| format!("{status} ")).unwrap_or_default())]
    NotTaken {
        /// The status, if there was an answer.
        status: Option<u16>,
        /// The beginning of the answer, or why there is none.
        text: String,
    },
}

/// Pushes payloads for workflows that have not been sent, and remembers them.
#[derive(Debug)]
pub struct DatadogService {
    files: Files,
    client: Option<Client>,
    /// Calls on one service take turns: the lock is on the file, and its second taker would be refused.
    turn: tokio::sync::Mutex<()>,
}

impl DatadogService {
    /// A service on the live files, or on those of a dry run. It must be made and used in an actix runtime.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(options: SubmitOptions) -> Result<Self, SubmitError> {
        let mode = if options.datadog.is_some() { Mode::Live } else { Mode::DryRun };
        let client = options.datadog.map(|(endpoint, key)| Client::new(endpoint, key)).transpose()?;
        Ok(Self { files: Files::new(&options.cache_dir, mode), client, turn: tokio::sync::Mutex::new(()) })
    }

    /// Sends `payload` unless all of `workflow_ids` have been sent, and marks those that had not.
    ///
    /// # Errors
    /// A service holds the directory, the files cannot be used, or Datadog did not take it. Nothing was marked.
    pub async fn submit_metrics<S: AsRef<str>>(
        &self,
        payload: &MetricPayload,
        workflow_ids: &[S],
    ) -> Result<Submitted, SubmitError> {
        let _turn = self.turn.lock().await;
        let mut files = Borrowed::new(&self.files)?;
        let new: Vec<String> = files.cache.filter_new_workflows(workflow_ids).into_iter().map(str::to_owned).collect();
        if new.is_empty() {
            log::info!("all workflows have already been processed, skipping");
            return Ok(Submitted::AlreadySent);
        }
        if let Some(client) = &self.client {
            Self::push(client, payload).await?;
        } else {
            files.log_payload(&payload.line())?;
            log::info!("dry run: would have processed {}", new.join(" "));
        }
        files.cache.mark_as_sent(&new)?;
        Ok(Submitted::Sent(new))
    }

    async fn push(client: &Client, payload: &MetricPayload) -> Result<(), SubmitError> {
        log::info!("submitting {} series", payload.series.len());
        let Answer { verdict, status, text, .. } = client.push(payload).await;
        if verdict == Verdict::Taken { Ok(()) } else { Err(SubmitError::NotTaken { status, text }) }
    }
}
