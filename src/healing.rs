//! What GitHub never delivered: found by asking GitHub, and taken in like a delivery.
//!
//! Invariant: whichever way a run comes in, it has the same key and the same tags, and the same ledger decides whether it is
//! new. So all of this can be done at any time, as often as one likes, and again after an interruption.

mod backfill;
mod recover;
mod register;
mod tally;

use crate::{
    cli::{CACHE_DIR, Common, InletArgs},
    config::{self, ConfigError, Settings},
    event::Detail,
    github::{Github, GithubError, Place},
    holes::HolesError,
    inlet::{Inlet, InletError, Look, There},
    ledger::{self, Files, Mode},
    metrics::MetricPayload,
    progress,
    secrets::Secrets,
    serve::{Application, Door, ServeError, stop_signals},
};
use indicatif::ProgressBar;
use std::{
    cell::Cell,
    io,
    path::Path,
    time::{Duration, Instant},
};
use tally::Tally;

pub use backfill::backfill;
pub use recover::recover;
pub use register::register;

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
    /// GitHub's logs cannot be looked at.
    #[error(transparent)]
    Holes(#[from] HolesError),
    /// There are several webhooks, and somebody else's might be among them.
    #[error("{place} has several webhooks for {}: {hooks}", detail.events().join(" or "))]
    SeveralHooks {
        /// Where they are.
        place: Place,
        /// Their IDs, and where they deliver to.
        hooks: String,
        /// What they bring.
        detail: Detail,
    },
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
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
            Self::Holes(error) => return error.hint(),
            Self::SeveralHooks { .. } => "say with --hook which one is to deliver again",
            Self::Interrupted => "run it again: what is recorded is not counted twice",
            Self::NoTime => "give an earlier --since, or a later --until",
            Self::Ping { hint, .. } => hint,
            Self::Output(_) => "what was taken in is recorded",
            Self::NotAllDone { failed: 1.., .. } => {
                "the summary names each; run it again: what is recorded is not counted twice"
            }
            Self::NotAllDone { pending: 1.., .. } => {
                "they are kept in the ledger and go out at the next start; or run it again with a longer --timeout"
            }
            Self::NotAllDone { .. } => {
                "what was set aside as rejected, in the cache directory or the database, has Datadog's answers"
            }
        })
    }
}

/// What is known, where what is found goes in, and what must be run meanwhile.
struct Opened {
    look: Look,
    /// `None` where nothing is to be taken in.
    inlet: Option<Inlet>,
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
    /// Opens what the arguments name: a receiver that listens, or the files; a look alone where `takes_in` is not.
    fn new(arguments: &InletArgs, common: &Common, takes_in: bool) -> Result<Self, HealingError> {
        let mode = Mode::of(arguments.dry_run);
        let directory = arguments.cache_dir.as_deref();
        let database = config::database(&common.ledger, mode, &config::process_environment)?;
        let is_shared = database.is_some();
        let look = |directory: Option<&Path>| {
            let files = directory.map(|directory| Files::new(directory, mode));
            Look::at(files.as_ref(), database, common.reruns)
        };
        if let Some(url) = &arguments.to {
            // Files that nobody has named may be those of another service.
            let look = look(directory);
            let there = takes_in.then(|| There::of_environment(url)).transpose()?;
            return Ok(Self { look, inlet: there.map(|there| Inlet::There(there.into())), application: None });
        }
        if !takes_in {
            let is_plan = arguments.plan;
            let directory = directory.or(is_plan.then_some(Path::new(CACHE_DIR)));
            return Ok(Self { look: look(directory), inlet: None, application: None });
        }
        let directory = directory.unwrap_or(Path::new(CACHE_DIR));
        if let Some(holder) = ledger::holder(&Files::new(directory, mode)).filter(|_| !is_shared) {
            return Err(HealingError::Held(holder));
        }
        // Nobody delivers to it, so nobody needs to sign.
        let nobody = Secrets::from(Vec::new());
        let settings = Settings::new(mode, directory, common, nobody, &config::process_environment)?;
        let application = Application::build(settings, Door::Closed)?;
        let (ledger, receiver) = application.parts();
        Ok(Self { look: Look::Ledger(ledger), inlet: Some(Inlet::Here(receiver)), application: Some(application) })
    }

    /// Does `work`, pushing meanwhile what it takes in, and then all that is pending within `timeout`. The files are closed
    /// once the inlet is gone. Told to stop, it leaves the rest of the work, and pushes what there is.
    async fn run(
        self,
        work: impl AsyncFnOnce(Look, Option<Inlet>) -> Result<(), HealingError>,
        timeout: Duration,
    ) -> Done {
        let (stop, stop_at_once) = match stop_signals() {
            Ok(signals) => signals,
            Err(error) => return Done { work: Err(ServeError::Failed(error).into()), pushes: Ok(None) },
        };
        let (mut done, ended) = (Err(HealingError::Interrupted), Cell::new(Instant::now()));
        let is_pushing = self.application.is_some();
        let work = Box::pin(work(self.look, self.inlet));
        let work = async {
            tokio::select! {
                result = work => done = result,
                () = stop => if is_pushing {
                    log::warn!("interrupted: pushing what is taken in; once more ends it at once");
                },
            }
            ended.set(Instant::now());
        };
        let all = async {
            let Some(mut application) = self.application else {
                work.await;
                return Ok(None);
            };
            application.delivery.run_until(work, timeout).await;
            // A push that the end of the time has cut off is left for the next start, which knows that it is in doubt.
            let left = timeout.saturating_sub(ended.get().elapsed());
            let is_all_pushed = !left.is_zero() && application.push_all(left, |_: usize, _: &MetricPayload| {}).await;
            let totals = application.delivery.totals();
            let left = application.close(timeout).await?.pending;
            let pending = if is_all_pushed { 0 } else { left };
            Ok(Some(Pushes { pushed: totals.pushed, pending, rejected: totals.rejected }))
        };
        let pushes = tokio::select! {
            pushes = all => pushes,
            () = stop_at_once => Err(HealingError::Interrupted),
        };
        Done { work: done, pushes }
    }
}

/// How it ended.
struct Done {
    work: Result<(), HealingError>,
    pushes: Result<Option<Pushes>, HealingError>,
}

impl Done {
    /// Prints the summary; what kept the work from its end says more than what is left.
    fn told(self, tally: &Tally, github: &Github) -> Result<(), HealingError> {
        let printed = tally.print(self.pushes.as_ref().ok().copied().flatten(), github);
        self.work.and(self.pushes.map(drop)).and(printed)
    }
}

/// A bar, above which what goes on at GitHub is told.
fn bar(github: &Github, len: usize, what: &str) -> ProgressBar {
    told_above(github, progress::bar(len, what))
}

/// The same where nobody knows how long it takes.
fn counter(github: &Github, what: &str) -> ProgressBar {
    told_above(github, progress::counter(what))
}

fn told_above(github: &Github, bar: ProgressBar) -> ProgressBar {
    let above = bar.clone();
    github.tell_by(move |notice| above.suspend(|| log::warn!("{notice}")));
    bar
}
