//! What GitHub never delivered: found by asking GitHub, and taken in like a delivery.
//!
//! Invariant: whichever way a run comes in, it has the same key and the same tags, and the same ledger decides whether it is
//! new. So all of this can be done at any time, as often as one likes, and again after an interruption.

mod backfill;
mod recover;
mod register;
mod sweep;
mod tally;

use crate::{
    cli::{Common, InletArgs},
    config::{self, ConfigError, Settings},
    explain::explain,
    github::{Github, GithubError, Place},
    inlet::{Inlet, InletError, There},
    ledger::{self, Files, Known, Mode},
    metrics::MetricPayload,
    secrets::Secrets,
    serve::{Application, Door, ServeError},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io,
    time::{Duration, Instant},
};

pub use backfill::backfill;
pub use recover::recover;
pub use register::register;
pub(crate) use sweep::Sweeper;

/// Something stands in the way of healing.
#[derive(Debug, thiserror::Error)]
pub enum HealingError {
    /// Something in the configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// GitHub does not do what was asked.
    #[error(transparent)]
    Github(#[from] GithubError),
    /// The receiver cannot be reached.
    #[error(transparent)]
    Receiver(#[from] InletError),
    /// The files cannot be opened.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A service has the files.
    #[error("the files are held by {0}")]
    Held(String),
    /// The webhook's URL is none.
    #[error("--url: not an http or https URL without query, user and password")]
    BadUrl,
    /// There is no webhook that brings runs.
    #[error("{place} has no webhook for workflow_run{}", hook.map(|id| format!(" with the ID {id}")).unwrap_or_default())]
    NoHook {
        /// Where it was looked for.
        place: Place,
        /// The one that was asked for.
        hook: Option<u64>,
    },
    /// The time to look at is none.
    #[error("--since is not before --until")]
    NoTime,
    /// The ping was not answered as it should be.
    #[error("{place}: the ping to {url} {outcome}")]
    Ping {
        /// Whose webhook.
        place: Place,
        /// Where the ping was sent.
        url: String,
        /// What became of it.
        outcome: String,
        /// What to do.
        hint: &'static str,
    },
    /// The summary cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// Something was not taken in, or is pending.
    #[error("{failed} could not be taken in, {pending} runs are pending, {rejected} were rejected by Datadog")]
    NotAllDone {
        /// What is still missing.
        failed: usize,
        /// Runs that were accepted and not pushed in time.
        pending: usize,
        /// Runs that Datadog refused for good.
        rejected: u64,
    },
}

impl HealingError {
    /// What to do about it, where something can be said.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Config(error) => error.hint(),
            Self::Github(error) => error.hint(),
            Self::Receiver(error) => return error.hint(),
            Self::Serve(error) => return error.hint(),
            Self::Held(_) => "send to that service: --to http://127.0.0.1:8080/webhook, or stop it first",
            Self::BadUrl => "name where GitHub reaches the service: https://runhound.example.com/webhook",
            Self::NoHook { hook: Some(_), .. } => {
                "leave out --hook, or see its number in the webhook's address on GitHub"
            }
            Self::NoHook { .. } => {
                "`runhound register` makes one; a webhook of the organization is found by --organization"
            }
            Self::NoTime => "give an earlier --since, or a later --until",
            Self::Ping { hint, .. } => hint,
            Self::Output(_) => "what was taken in is recorded",
            Self::NotAllDone { failed: 1.., .. } => {
                "the summary names each; run it again: what is recorded is not counted twice"
            }
            Self::NotAllDone { pending: 1.., .. } => {
                "they are kept in the cache directory and go out at the next start; or run it again with a longer --timeout"
            }
            Self::NotAllDone { .. } => "the file of rejected runs in the cache directory has Datadog's answers",
        })
    }
}

/// Where what is found goes in, and what must be run meanwhile.
struct Opened {
    inlet: Inlet,
    /// With the files opened here.
    application: Option<Application>,
}

/// What came of the pushes, where they are made here.
#[derive(Debug, Clone, Copy, Default)]
struct Pushes {
    pushed: u64,
    pending: usize,
    rejected: u64,
}

impl Opened {
    /// Opens what the arguments name: a receiver that listens, the files, or for a plan only a look at them.
    fn new(arguments: &InletArgs, common: &Common) -> Result<Self, HealingError> {
        let mode = if arguments.dry_run { Mode::DryRun } else { Mode::Live };
        let files = Files::new(&arguments.cache_dir, mode);
        if arguments.plan {
            let inlet = Inlet::Nowhere(Known::of(&files).into(), common.reruns);
            return Ok(Self { inlet, application: None });
        }
        if let Some(url) = &arguments.to {
            let there = There::of_environment(url)?.looking_at(&files, common.reruns);
            return Ok(Self { inlet: Inlet::There(there.into()), application: None });
        }
        if let Some(holder) = ledger::holder(&files) {
            return Err(HealingError::Held(holder));
        }
        // Nobody delivers to it, so nobody needs to sign.
        let nobody = Secrets::from(Vec::new());
        let settings = Settings::new(mode, &arguments.cache_dir, common, nobody, &config::process_environment)?;
        let application = Application::build(settings, Door::Closed)?;
        Ok(Self { inlet: Inlet::Here(application.here()), application: Some(application) })
    }

    /// Does `work`, pushing meanwhile what it takes in, and then all that is pending within `timeout`. The files are closed
    /// once the inlet is gone.
    async fn run<T>(
        self,
        work: impl AsyncFnOnce(Inlet) -> T,
        timeout: Duration,
    ) -> Result<(T, Option<Pushes>), HealingError> {
        let work = Box::pin(work(self.inlet));
        let Some(mut application) = self.application else { return Ok((work.await, None)) };
        let (mut done, mut ended) = (None, Instant::now());
        let work = async {
            done = Some(work.await);
            ended = Instant::now();
        };
        application.delivery.run_until(work, timeout).await;
        let count = |_: usize, _: &MetricPayload| {};
        application.push_all(timeout.saturating_sub(ended.elapsed()), count).await;
        let totals = application.delivery.totals();
        let pending = application.close(timeout).await?.pending;
        let pushes = Pushes { pushed: totals.pushed, pending, rejected: totals.rejected };
        match done {
            Some(done) => Ok((done, Some(pushes))),
            None => Err(ServeError::from(io::Error::other("the delivery has ended before its time")).into()),
        }
    }
}

/// A bar on a terminal, nothing elsewhere. GitHub's waits are told above it.
fn bar(github: &Github, len: u64, what: &str) -> ProgressBar {
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(len).with_style(style);
    github.tell_above(bar.clone());
    bar
}

/// The same where nobody knows how long it takes.
fn counter(github: &Github, what: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(&format!("{{pos}} {what}")).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style);
    github.tell_above(bar.clone());
    bar
}

/// Whether the rest can be done although this could not: what is gone in GitHub stays gone.
fn is_gone(error: &GithubError) -> bool {
    matches!(error, GithubError::NotFound { .. })
}

/// An error as an entry of a summary.
fn entry(error: &GithubError) -> String {
    explain(error)
}
