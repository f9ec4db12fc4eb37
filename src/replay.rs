//! Recorded deliveries through the whole path: signed as GitHub signs, over HTTP, into a receiver.

mod files;
mod summary;

use crate::{
    cli,
    config::{self, ConfigError, Settings},
    inlet::{InletError, There},
    ledger::Mode,
    progress,
    serve::{Application, Door, ServeError},
    signature::Secret,
};
use files::{Delivery, FilesError};
use std::{io, io::Write, net::Ipv4Addr, path::PathBuf, time::Duration};
use summary::Summary;

/// The replay cannot be run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file cannot be used.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Something in the configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The receiver cannot be started.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The temporary directory cannot be made.
    #[error("a temporary directory: {0}")]
    TemporaryDirectory(io::Error),
    /// The receiver cannot be reached.
    #[error(transparent)]
    Receiver(#[from] InletError),
    /// The receiver gave no answer to a delivery.
    #[error("{}", path.display())]
    NotAnswered {
        /// The delivery's file.
        path: PathBuf,
        /// Why.
        source: InletError,
    },
    /// The summary cannot be written.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// Deliveries were refused, or runs are pending or were rejected.
    #[error("{refused} deliveries were refused, {pending} runs are pending, {rejected} were rejected by Datadog")]
    NotAllDone {
        /// Deliveries that were answered with an error.
        refused: usize,
        /// Runs that were accepted and not pushed in time.
        pending: usize,
        /// Runs that Datadog refused for good.
        rejected: u64,
    },
}

impl ReplayError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Files(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Serve(error) => return error.hint(),
            Self::TemporaryDirectory(_) => {
                "name a directory with --cache-dir, or one that can be written to with TMPDIR"
            }
            Self::Receiver(error) | Self::NotAnswered { source: error, .. } => return error.hint(),
            Self::Output(_) => "all deliveries were sent",
            Self::NotAllDone { pending: 1.., .. } => {
                "pending runs are kept in the ledger: replay again with the same one, or raise --timeout"
            }
            Self::NotAllDone { rejected: 1.., .. } => {
                "what was set aside as rejected, in the cache directory or the database, has Datadog's answers"
            }
            Self::NotAllDone { .. } => "the summary names each delivery and its answer",
        })
    }
}

/// Replays what `arguments` name, and prints a summary.
///
/// # Errors
/// A file, the configuration or the receiver cannot be used; or not everything was as it should be.
pub fn replay(arguments: &cli::Replay) -> Result<(), ReplayError> {
    let deliveries = files::collect(&arguments.paths)?;
    let summary = actix_web::rt::System::new().block_on(async {
        match &arguments.to {
            Some(url) => to_another(url, &deliveries).await,
            None => to_our_own(arguments, &deliveries).await,
        }
    })?;
    write!(io::stdout().lock(), "{summary}").map_err(ReplayError::Output)?;
    let (refused, pending, rejected) = (summary.refused(), summary.pending, summary.totals.rejected);
    if refused + pending > 0 || rejected > 0 {
        return Err(ReplayError::NotAllDone { refused, pending, rejected });
    }
    Ok(())
}

async fn to_another(url: &str, deliveries: &[Delivery]) -> Result<Summary, ReplayError> {
    let receiver = There::of_environment(url)?;
    let mut summary = Summary::new(format!("to {url}"), false);
    send_all(&receiver, deliveries, &mut summary).await?;
    Ok(summary)
}

async fn to_our_own(arguments: &cli::Replay, deliveries: &[Delivery]) -> Result<Summary, ReplayError> {
    let temporary = tempfile::tempdir().map_err(ReplayError::TemporaryDirectory)?;
    let cache_dir = arguments.cache_dir.as_deref().unwrap_or(temporary.path());
    let mode = if arguments.live { Mode::Live } else { Mode::DryRun };
    // Of the moment: nobody else can sign for a receiver that lives as long as one replay.
    let secret: String = std::iter::repeat_with(fastrand::alphanumeric).take(40).collect();
    let secrets: Vec<Secret> = Secret::new(secret.as_bytes()).into_iter().collect();
    let settings =
        Settings::new(mode, cache_dir, &arguments.common, secrets.clone().into(), &config::process_environment)?;
    let target = match &settings.datadog {
        Some((endpoint, _)) => format!("live, to {endpoint}"),
        None => "as a dry run: nothing was pushed to Datadog".to_owned(),
    };
    let mut summary = Summary::new(target, true);
    let mut application = Application::build(settings, Door::Address((Ipv4Addr::LOCALHOST, 0).into()))?;
    let url = format!("http://{}/webhook", application.address);
    let server = application.listen()?;
    for secret in secrets {
        send_all(&There::new(&url, secret)?, deliveries, &mut summary).await?;
    }
    let timeout = Duration::from_secs(arguments.timeout);
    let is_all_pushed = application.push_all(timeout, |runs, payload| summary.pushed(runs, payload)).await;
    server.stop(true).await;
    summary.totals = application.delivery.totals();
    let left = application.close(Duration::from_secs(arguments.timeout)).await?.pending;
    summary.pending = if is_all_pushed { 0 } else { left };
    Ok(summary)
}

/// Sends the deliveries one after another, as they are numbered, and counts the answers.
async fn send_all(receiver: &There, deliveries: &[Delivery], summary: &mut Summary) -> Result<(), ReplayError> {
    let bar = progress::bar(deliveries.len(), "deliveries");
    for delivery in deliveries {
        let answered = receiver.take(&delivery.recorded).await;
        let answered = answered.map_err(|source| ReplayError::NotAnswered { path: delivery.path.clone(), source })?;
        bar.inc(1);
        summary.count(&delivery.path, answered);
    }
    bar.finish_and_clear();
    Ok(())
}
