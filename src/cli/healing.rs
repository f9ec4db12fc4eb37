//! Arguments of the commands that ask GitHub: for webhooks, for what they did not deliver, and for runs.

use super::{Common, seconds, truth};
use crate::github::{NotAPlace, Place};
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use std::{path::PathBuf, str::FromStr, time::Duration};

/// Which GitHub, and who asks it.
#[derive(Debug, Clone, Args)]
pub struct GithubArgs {
    /// Address of an Enterprise Server
    #[arg(long, env = "RUNHOUND_GITHUB_URL", value_name = "URL", default_value = "https://github.com")]
    pub github_url: String,
    /// Ask as this GitHub App, by its ID or client ID, in place of a token. Needs --github-app-key
    #[arg(long, env = "RUNHOUND_GITHUB_APP_ID", value_name = "ID")]
    pub github_app_id: Option<String>,
    /// The PEM file of the App's private key. Needs --github-app-id
    #[arg(long, env = "RUNHOUND_GITHUB_APP_KEY", value_name = "FILE")]
    pub github_app_key: Option<PathBuf>,
}

impl GithubArgs {
    /// One of the two without the other is of no use.
    pub(super) fn is_half(&self) -> bool {
        self.github_app_id.is_some() != self.github_app_key.is_some()
    }
}

/// Whose webhooks.
#[derive(Debug, Clone, Args)]
pub struct HookArgs {
    /// Repositories whose webhooks bring runs here (which runs are taken is said by --repositories)
    #[arg(long, env = "RUNHOUND_REPOSITORY", value_name = "OWNER/NAME", value_delimiter = ',', value_parser = repository)]
    pub repository: Vec<Place>,
    /// Organizations whose webhooks bring runs here
    #[arg(long, env = "RUNHOUND_ORGANIZATION", value_name = "LOGIN", value_delimiter = ',', value_parser = organization)]
    pub organization: Vec<Place>,
}

impl HookArgs {
    /// All of them.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.repository.iter().chain(&self.organization)
    }
}

/// Where what is found goes in.
#[derive(Debug, Clone, Args)]
pub struct InletArgs {
    /// Send to the service that listens here, signed with the webhook's secret, in place of opening its files
    #[arg(long, env = "RUNHOUND_TO", value_name = "URL")]
    pub to: Option<String>,
    /// Find what is missing, and take nothing in
    #[arg(long, env = "RUNHOUND_PLAN", value_parser = truth)]
    pub plan: bool,
    /// Use the files of a dry run, and push nothing
    #[arg(long, env = "RUNHOUND_DRY_RUN", value_parser = truth)]
    pub dry_run: bool,
    /// Where the service's files are; with --to they only tell what need not be asked for [default: ./cache, none with --to]
    #[arg(long, env = "RUNHOUND_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// How long to wait for the last pushes, or for redeliveries, in seconds
    #[arg(long, env = "RUNHOUND_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub timeout: Duration,
}

/// Arguments of `register`.
#[derive(Debug, Args)]
pub struct Register {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub hooks: HookArgs,
    /// Where GitHub reaches the service: its public address, with /webhook
    #[arg(long, env = "RUNHOUND_URL", value_name = "URL")]
    pub url: String,
    /// Deliver `workflow_job` too, for a service with --jobs
    #[arg(long, env = "RUNHOUND_JOBS", value_parser = truth)]
    pub jobs: bool,
    /// Say what would be changed, and change nothing
    #[arg(long, env = "RUNHOUND_DRY_RUN", value_parser = truth)]
    pub dry_run: bool,
    /// How long to wait for the ping to be answered, in seconds
    #[arg(long, env = "RUNHOUND_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub timeout: Duration,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub github: GithubArgs,
}

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub struct Recover {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub hooks: HookArgs,
    /// The webhook, where there are several that bring runs
    #[arg(long, env = "RUNHOUND_HOOK", value_name = "ID")]
    pub hook: Option<u64>,
    /// How far back to look: a time such as 36h or 3d, a date, or a moment. GitHub keeps three days, an Enterprise Server seven
    #[arg(long, env = "RUNHOUND_SINCE", value_name = "WHEN", default_value = "3d")]
    pub since: When,
    /// Look at deliveries too that were answered with success: for when something else has answered them
    #[arg(long, env = "RUNHOUND_ALL", value_parser = truth)]
    pub all: bool,
    /// Have GitHub deliver again what is missing, in place of taking it from GitHub's log
    #[arg(long, env = "RUNHOUND_REDELIVER", value_parser = truth)]
    pub redeliver: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub inlet: InletArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub github: GithubArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub common: Common,
}

/// Arguments of `backfill`.
#[derive(Debug, Args)]
pub struct Backfill {
    /// Repositories whose runs to take in
    #[arg(long, required = true, env = "RUNHOUND_REPOSITORY", value_name = "OWNER/NAME", value_delimiter = ',', value_parser = repository)]
    pub repository: Vec<Place>,
    /// From when on runs were made: a time such as 36h or 30d before now, a date, or a moment
    #[arg(long, env = "RUNHOUND_SINCE", value_name = "WHEN")]
    pub since: When,
    /// Until when [default: now]
    #[arg(long, env = "RUNHOUND_UNTIL", value_name = "WHEN")]
    pub until: Option<When>,
    /// What to do with runs that ended more than an hour ago, which Datadog does not take at their own time
    #[arg(long, env = "RUNHOUND_LATE", value_enum, default_value_t)]
    pub late: Late,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub inlet: InletArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub github: GithubArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become help of every command")]
    pub common: Common,
}

/// What to do with a run that ended more than an hour ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Late {
    /// Count it at the time at which it is sent
    #[default]
    Restamp,
    /// Leave it out
    Skip,
    /// Count it at its own time, with a tag of its own: Datadog must take historical metrics
    Historical,
}

/// A moment, told by itself or by how long it is past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// By itself.
    At(Timestamp),
    /// So long before now.
    Ago(SignedDuration),
}

impl When {
    /// The second that is meant, at the second `now`.
    #[must_use]
    pub fn second(self, now: i64) -> i64 {
        match self {
            Self::At(at) => at.as_second(),
            Self::Ago(ago) => now.saturating_sub(ago.as_secs()),
        }
    }
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        // A day begins at midnight in UTC.
        if let Ok(at) = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()) {
            return Ok(Self::At(at));
        }
        duration(text)
            .and_then(|ago| SignedDuration::try_from(ago).ok())
            .map(Self::Ago)
            .ok_or("neither a time such as 36h or 3d, nor a date such as 2026-03-01, nor a moment such as 2026-03-01T12:00:00Z")
    }
}

/// A span of time in words such as `15m`, `36h` or `3d`; a day has 24 hours.
fn duration(text: &str) -> Option<Duration> {
    let span: Span = text.trim().parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok().filter(|duration| !duration.is_zero())
}

/// How often to look.
pub(super) fn every(text: &str) -> Result<Duration, &'static str> {
    duration(text)
        .filter(|every| *every >= Duration::from_secs(1))
        .ok_or("a time such as 15m or 1h, of a second at least")
}

fn repository(text: &str) -> Result<Place, NotAPlace> {
    text.trim().parse()
}

fn organization(text: &str) -> Result<Place, NotAPlace> {
    Place::organization(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_by_itself_or_by_how_long_it_is_past() {
        let now = 1_800_000_000;
        for (text, second) in [
            ("3d", now - 259_200),
            ("36h", now - 129_600),
            (" 1h30m ", now - 5400),
            ("2026-03-02", 1_772_409_600),
            ("2026-03-02T17:14:07Z", 1_772_471_647),
            ("2026-03-02T18:14:07+01:00", 1_772_471_647),
        ] {
            assert_eq!(text.parse::<When>().unwrap().second(now), second, "{text}");
        }
        for text in ["", "3", "yesterday", "-3d", "0s", "2026-13-01", "2026-03-02T17:14:07"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_done_again_and_again_is_not_done_all_the_time() {
        assert_eq!(every("15m"), Ok(Duration::from_secs(900)));
        for text in ["999ms", "0s", "15", "often"] {
            assert!(every(text).is_err(), "{text}");
        }
    }
}
