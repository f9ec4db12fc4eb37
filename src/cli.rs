//! Arguments. The doc comments here are the help.

mod healing;
mod ledger;
mod listener;
mod tags;

use crate::{ledger::Reruns, metrics::DEFAULT_MAX_SERIES};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use std::{
    ffi::OsString,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize, ParseIntError},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// Where the files are kept, unless that is said.
pub const CACHE_DIR: &str = "./cache";

pub use healing::{Backfill, GithubArgs, HookArgs, InletArgs, Late, Recover, Register, When};
pub use ledger::{LedgerArgs, LedgerCommand, Transfer, Way};
pub use listener::{LimitArgs, TlsArgs};
pub use tags::TagArgs;

const ENVIRONMENT: &str = "\
Secrets and Datadog's own settings come from the environment only:
  GITHUB_WEBHOOK_SECRET       the webhook's secret
  GITHUB_WEBHOOK_SECRET_FILE  a file of secrets, one a line: any of them is accepted; read again when it changes
  GITHUB_TOKEN                a token for GitHub's API: register, recover, backfill and --recover-every need one
  GITHUB_TOKEN_FILE           a file with it, read again when it changes; GITHUB_TOKEN wins
  DD_API_KEY                  the Datadog API key; not needed for a dry run
  DD_API_KEY_FILE             a file with it, read again before each push; DD_API_KEY wins
  DD_SITE                     Datadog's site [default: datadoghq.com]
  DD_URL, DD_DD_URL           base URL of the intake in place of the site; it may have a path; DD_DD_URL wins
  DD_ENV                      sent as the tag env
  DD_TAGS                     tags for all that is sent, separated by spaces or commas
  PGPASSWORD                  the password of the database of --ledger; --ledger-password-file wins
  RUST_LOG                    what is logged [default: info]";

/// GitHub Actions workflow runs, delivered to Datadog exactly once
#[derive(Debug, Parser)]
#[command(version, after_help = ENVIRONMENT, max_term_width = 100)]
pub struct Cli {
    /// What lines of the log look like
    #[arg(long, env = "RUNHOUND_LOG_FORMAT", value_enum, default_value_t, global = true)]
    pub log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the process's arguments and environment.
    ///
    /// # Errors
    /// They are not usable, or help was asked for; the error prints what there is to say.
    pub fn read() -> Result<Self, clap::Error> {
        Self::read_from(std::env::args_os())
    }

    fn read_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let cli = Self::try_parse_from(arguments)?;
        cli.check().map(|()| cli)
    }

    /// A variable that is set to `false` counts as given where clap compares arguments, so these are compared here.
    fn check(&self) -> Result<(), clap::Error> {
        let usage = |what| Err(Self::command().error(ErrorKind::ArgumentConflict, what));
        let tls = match &self.command {
            Command::Serve(serve) => Some(&serve.tls),
            Command::Check(check) => Some(&check.tls),
            _ => None,
        };
        if tls.is_some_and(TlsArgs::is_half) {
            return usage("--tls-cert and --tls-key need each other");
        }
        let github = match &self.command {
            Command::Serve(serve) => Some(&serve.github),
            Command::Register(register) => Some(&register.github),
            Command::Recover(recover) => Some(&recover.github),
            Command::Backfill(backfill) => Some(&backfill.github),
            _ => None,
        };
        if github.is_some_and(GithubArgs::is_half) {
            return usage("--github-app-id and --github-app-key need each other");
        }
        if self.command.tags().is_some_and(|tags| tags.steps && !tags.jobs) {
            return usage("--steps needs --jobs: a step is counted with its job");
        }
        match &self.command {
            Command::Replay(replay) if replay.live && replay.to.is_some() => {
                usage("--live and --to exclude each other")
            }
            Command::Replay(replay)
                if replay.live && replay.cache_dir.is_none() && replay.common.ledger.url().is_none() =>
            {
                usage("--live needs --cache-dir or --ledger: what is pending at the end must be kept")
            }
            Command::Register(register) if register.hooks.places().next().is_none() => {
                usage("--repository or --organization is missing: whose webhook is it?")
            }
            Command::Recover(recover) if recover.hooks.places().next().is_none() => {
                usage("--repository or --organization is missing: whose webhooks?")
            }
            Command::Recover(recover) if recover.hook.is_some() && recover.hooks.places().count() > 1 => {
                usage("--hook is one of one repository or organization")
            }
            Command::Backfill(backfill) if backfill.late == Late::Historical && backfill.inlet.to.is_some() => {
                usage("--late historical needs the files: stop the service, and leave out --to")
            }
            Command::Check(check) if check.repair && check.common.ledger.url().is_some() => {
                usage("--repair mends files, and with --ledger there are none")
            }
            Command::Ledger(LedgerCommand { way: Way::Import(transfer) | Way::Export(transfer) })
                if transfer.ledger.url().is_none() =>
            {
                usage("--ledger is missing: which database?")
            }
            Command::Serve(serve) if serve.recover_every.is_some() && serve.hooks.places().next().is_none() => {
                usage("--recover-every needs --repository or --organization: whose webhooks?")
            }
            _ => Ok(()),
        }
    }
}

/// A variable's text as yes or no. An empty one is not set.
fn truth(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "false" | "no" | "off" | "0" => Ok(false),
        "true" | "yes" | "on" | "1" => Ok(true),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// A limit on series. There is no way to have none; a large number is as good.
fn max_series(text: &str) -> Result<usize, ParseIntError> {
    text.trim().parse().map(NonZeroUsize::get)
}

/// A time to wait. None at all would be no chance.
fn seconds(text: &str) -> Result<Duration, ParseIntError> {
    above_zero(text).map(|seconds| Duration::from_secs(seconds.into()))
}

/// A limit. There is no way to have none, nor one that lets nothing through.
fn above_zero(text: &str) -> Result<u32, ParseIntError> {
    text.trim().parse().map(NonZeroU32::get)
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive GitHub's deliveries and push their runs to Datadog
    #[command(after_help = ENVIRONMENT)]
    Serve(Serve),
    /// Send recorded deliveries through the whole path, signed as GitHub signs
    ///
    /// Without --to this starts a receiver of its own, as a dry run in a temporary directory: it needs no account and
    /// no configuration. It ends with a summary, and with 0 if all was as it should be.
    #[command(after_help = ENVIRONMENT)]
    Replay(Replay),
    /// Say what is wrong with configuration, secrets and files, and how to mend it
    ///
    /// Nothing is changed, unless --repair is given.
    #[command(after_help = ENVIRONMENT)]
    Check(Check),
    /// Make the webhook, or mend it, and see it answered
    ///
    /// It delivers completed runs, and jobs with --jobs, as JSON, signed with the secret of the environment, to a receiver whose certificate GitHub
    /// verifies. What is as it should be stays as it is.
    #[command(after_help = ENVIRONMENT)]
    Register(Register),
    /// Take in what the webhook's deliveries failed to bring
    ///
    /// Without --to the service must be stopped, as its files are opened. What is recorded already is not counted again: it
    /// can be run at any time, as often as one likes, and again after an interruption.
    #[command(after_help = ENVIRONMENT)]
    Recover(Recover),
    /// Take in runs that GitHub never tried to deliver, or that were before the webhook
    ///
    /// Without --to the service must be stopped, as its files are opened. What is recorded already is not counted again: it
    /// can be run at any time, as often as one likes, and again after an interruption.
    #[command(after_help = ENVIRONMENT)]
    Backfill(Backfill),
    /// Copy the ledger from files into a database, or back
    Ledger(LedgerCommand),
    /// Tell which metrics are sent, with type, unit, description and tags
    Metrics(Metrics),
    /// Ask the service on this machine whether it is ready, for a container's health check
    ///
    /// It asks the admin listener, ends with 0 if a run could be recorded now, and else with 1 and the reason.
    Healthcheck(Healthcheck),
    /// Write completions for shells, and manual pages
    Generate(Generate),
}

impl Command {
    /// What metrics and their tags look like, where that matters.
    const fn tags(&self) -> Option<&TagArgs> {
        match self {
            Self::Serve(Serve { common, .. })
            | Self::Replay(Replay { common, .. })
            | Self::Check(Check { common, .. })
            | Self::Recover(Recover { common, .. })
            | Self::Backfill(Backfill { common, .. }) => Some(&common.tags),
            Self::Metrics(metrics) => Some(&metrics.tags),
            Self::Register(_) | Self::Ledger(_) | Self::Healthcheck(_) | Self::Generate(_) => None,
        }
    }
}

/// What `serve`, `replay` and `check` share.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// What to do with a re-run: its attempts share one ID. Where they are dropped, so are their jobs
    #[arg(long, env = "RUNHOUND_RERUNS", value_enum, default_value_t)]
    pub reruns: Reruns,
    /// Owners (`acme`) and repositories (`acme/web-*`) that runs and jobs are taken of; others are ignored [default: all]
    #[arg(long, env = "RUNHOUND_REPOSITORIES", value_name = "GLOB", value_delimiter = ',')]
    pub repositories: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub tags: TagArgs,
    /// Distinct series (custom metrics) that 30 days may make; beyond it new values of the tag that has most of them are `other`
    #[arg(long, env = "RUNHOUND_MAX_SERIES", value_name = "N", default_value_t = DEFAULT_MAX_SERIES, value_parser = max_series)]
    pub max_series: usize,
    /// Log payloads to this file, in a live run too [default for a dry run: payloads-dry-run.jsonl in the cache directory]
    #[arg(long, env = "RUNHOUND_PAYLOAD_LOG", value_name = "FILE")]
    pub payload_log: Option<PathBuf>,
    /// Size of the journal, in MiB, from which new runs are answered 503 until Datadog has taken what is pending; with files
    #[arg(long, env = "RUNHOUND_MAX_JOURNAL_MIB", value_name = "MIB", default_value_t = 1024, value_parser = above_zero)]
    pub max_journal_mib: u32,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub ledger: LedgerArgs,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Do everything but the push: payloads go to a file, IDs to a cache of their own
    #[arg(long, env = "RUNHOUND_DRY_RUN", value_parser = truth)]
    pub dry_run: bool,
    /// Where to listen for GitHub: POST /webhook and GET /healthz
    #[arg(long, env = "RUNHOUND_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where to listen for operators: a status page, /metrics, /readyz, /healthz and /status.json; or `off`
    #[arg(long, env = "RUNHOUND_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub admin_listen: AdminListen,
    /// Where the files are kept; made if missing
    #[arg(long, env = "RUNHOUND_CACHE_DIR", value_name = "DIR", default_value = "./cache")]
    pub cache_dir: PathBuf,
    /// How long a stop may take, in seconds: half for the requests that came in, most of the rest for a last push
    #[arg(long, env = "RUNHOUND_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub shutdown_timeout: Duration,
    /// How often to look in GitHub's logs for deliveries that failed, and take them in: 15m [default: never]
    #[arg(long, env = "RUNHOUND_RECOVER_EVERY", value_name = "TIME", value_parser = healing::every)]
    pub recover_every: Option<Duration>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub hooks: HookArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub github: GithubArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub common: Common,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub tls: TlsArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub limits: LimitArgs,
}

/// Where operators look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminListen {
    /// At this address.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl FromStr for AdminListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|error| format!("{error}; or `off`")),
        }
    }
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Files of deliveries, or folders of them: bare payloads or recorded deliveries (.json), or one a line (.jsonl)
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Send to this receiver's URL, signed with the secret of the environment, instead of one started here
    #[arg(long, env = "RUNHOUND_TO", value_name = "URL")]
    pub to: Option<String>,
    /// Push to Datadog for real
    #[arg(long, env = "RUNHOUND_LIVE", value_parser = truth)]
    pub live: bool,
    /// How long to wait for the pushes, in seconds
    #[arg(long, env = "RUNHOUND_TIMEOUT", value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// Where the files are kept; made if missing [default: a temporary directory]
    #[arg(long, env = "RUNHOUND_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub common: Common,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Check what a dry run needs
    #[arg(long, env = "RUNHOUND_DRY_RUN", value_parser = truth)]
    pub dry_run: bool,
    /// Set damaged files aside under a new name, and make new ones of all that can be read in them
    ///
    /// The service must be stopped. Nothing is deleted. Files without damage stay as they are.
    #[arg(long, env = "RUNHOUND_REPAIR", value_parser = truth)]
    pub repair: bool,
    /// Where the files are kept
    #[arg(long, env = "RUNHOUND_CACHE_DIR", value_name = "DIR", default_value = "./cache")]
    pub cache_dir: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub common: Common,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub tls: TlsArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub limits: LimitArgs,
}

/// Arguments of `metrics`.
#[derive(Debug, Args)]
pub struct Metrics {
    /// How to tell it
    #[arg(long, env = "RUNHOUND_FORMAT", value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub tags: TagArgs,
}

/// Arguments of `healthcheck`.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// The service's own setting; an address that stands for all of the machine's is asked on the loopback interface
    #[arg(long, env = "RUNHOUND_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub admin_listen: AdminListen,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Where programs share what they have: /usr/local/share, or ~/.local/share; folders are made if missing
    #[arg(value_name = "DIR")]
    pub share: PathBuf,
}

/// For whom the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For programs: an object a line
    Json,
}

/// For whom the catalogue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: a list of objects with `name`, `type`, `unit`, `description` and `tags`
    Json,
}

#[cfg(test)]
mod tests;
