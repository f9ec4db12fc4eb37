//! Recorded deliveries through the whole path: signed as GitHub signs, over HTTP, into a receiver.

mod files;
mod summary;

use crate::{
    cli,
    config::{self, ConfigError, Settings},
    datadog::{Endpoint, Timeouts, http_client},
    delivery::Step,
    event::Recorded,
    ledger::Mode,
    serve::{Application, Door, ServeError},
    signature::Secret,
};
use files::{Delivery, FilesError};
use indicatif::{ProgressBar, ProgressStyle};
use std::{io, io::Write, net::Ipv4Addr, path::PathBuf, time::Duration};
use summary::{Answered, Summary};

/// How long one delivery may take to be answered. GitHub gives up after 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// The receiver's URL is none that could be shown and used.
    #[error("--to: not an http or https URL without query, user and password")]
    BadUrl,
    /// The receiver gave no answer.
    #[error("{}: no answer from {url}: {cause}", path.display())]
    NoAnswer {
        /// The delivery's file.
        path: PathBuf,
        /// The receiver.
        url: String,
        /// What the client said.
        cause: String,
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
            Self::BadUrl => "name the receiver's webhook: http://127.0.0.1:8080/webhook",
            Self::NoAnswer { .. } => {
                "start the receiver, or mend the URL given with --to; what was answered before is recorded"
            }
            Self::Output(_) => "all deliveries were sent",
            Self::NotAllDone { pending: 1.., .. } => {
                "pending runs are kept in the cache directory: replay again with the same one, or raise --timeout"
            }
            Self::NotAllDone { rejected: 1.., .. } => {
                "the file of rejected runs in the cache directory has Datadog's answers"
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
    let secrets = config::secrets(&config::process_environment)?;
    if Endpoint::new(url).is_none() {
        return Err(ReplayError::BadUrl);
    }
    let mut summary = Summary::new(format!("to {url}"), false);
    if let Some(secret) = secrets.current().first() {
        send_all(url, secret, deliveries, &mut summary).await?;
    }
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
    if let Some(secret) = secrets.first() {
        send_all(&url, secret, deliveries, &mut summary).await?;
    }
    push_all(&mut application, &mut summary, Duration::from_secs(arguments.timeout)).await;
    server.stop(true).await;
    summary.totals = application.delivery.totals();
    summary.pending = application.close(Duration::from_secs(arguments.timeout)).await?.pending;
    Ok(summary)
}

/// Sends the deliveries one after another, as they are numbered, and counts the answers.
async fn send_all(
    url: &str,
    secret: &Secret,
    deliveries: &[Delivery],
    summary: &mut Summary,
) -> Result<(), ReplayError> {
    let client = http_client(Timeouts { whole: ANSWER_TIMEOUT, ..Timeouts::default() }).map_err(ServeError::from)?;
    let bar = progress(deliveries.len());
    for delivery in deliveries {
        let answered = send(&client, url, secret, &delivery.recorded).await.map_err(|cause| ReplayError::NoAnswer {
            path: delivery.path.clone(),
            url: url.to_owned(),
            cause,
        })?;
        bar.inc(1);
        summary.count(&delivery.path, answered);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn send(client: &awc::Client, url: &str, secret: &Secret, recorded: &Recorded) -> Result<Answered, String> {
    let body = recorded.body().into_owned();
    let mut request = client
        .post(url)
        .insert_header(("Content-Type", recorded.content_type()))
        .insert_header(("X-Hub-Signature-256", secret.sign(body.as_bytes())));
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

/// Drives the delivery until nothing is pending, or the time is over.
async fn push_all(application: &mut Application, summary: &mut Summary, timeout: Duration) {
    let push = async {
        loop {
            match application.delivery.step().await {
                Step::Pushed { runs, payload } => summary.pushed(runs, &payload),
                Step::Moved => {}
                Step::Wait(wait) => tokio::time::sleep(wait).await,
                Step::Idle => return,
            }
        }
    };
    drop(tokio::time::timeout(timeout, push).await);
}

/// A bar on a terminal, nothing elsewhere.
fn progress(len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} deliveries, {eta} left");
    ProgressBar::new(len as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
