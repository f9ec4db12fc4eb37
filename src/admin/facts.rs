//! What there is to tell, as of one moment: the one source of the page, of `/status.json` and of `/metrics`.

use super::{
    About, SeriesCount,
    health::{self, Trouble, Unready},
};
use crate::{
    ledger::{self, Overview},
    vitals::{Answered, Delivered, Outcome, Recovery, Span, Vitals},
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Runs that are accepted and not settled.
#[derive(Debug, Clone, Serialize)]
pub struct Pending {
    /// How many.
    pub runs: usize,
    /// How long the oldest of them has waited, in seconds.
    pub oldest_age_seconds: Option<i64>,
}

/// A file, and how large it is.
#[derive(Debug, Clone, Serialize)]
pub struct FileSize {
    /// What it is: `journal`, `cache`, `rejected`, `payloads` or `series`.
    pub kind: &'static str,
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// Which replica delivers.
#[derive(Debug, Clone, Serialize)]
pub struct Leadership {
    /// Whether this one does.
    pub leads: bool,
    /// The name of the one that does: its host, and its process there.
    pub leader: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// What has come of the runs since the start.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Runs {
    /// Taken by Datadog, or logged by a dry run.
    pub pushed: u64,
    /// Pushed at another second than their end.
    pub restamped: u64,
    /// Times of accepted ones that cannot be: negative, or of more than 35 days.
    pub odd_times: u64,
    /// Pushed again although an earlier try may have been taken.
    pub in_doubt: u64,
    /// Refused for good.
    pub rejected: u64,
}

/// All of it. `null` is what is not known. Counters are since the start.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The version of runhound.
    pub version: &'static str,
    /// `live` or `dry_run`.
    pub mode: &'static str,
    /// Where pushes go.
    pub target: Option<String>,
    /// As of when all this is.
    pub now: Timestamp,
    /// When the service started.
    pub started_at: Timestamp,
    /// Whether a run could be recorded now.
    pub ready: bool,
    /// Why not.
    pub unready_reason: Option<String>,
    /// What to do about it.
    pub unready_hint: Option<&'static str>,
    /// Whether something is the matter.
    pub degraded: bool,
    /// What, the most pressing first.
    pub troubles: Vec<Trouble>,
    /// Requests to the webhook, by what became of them.
    pub deliveries: BTreeMap<&'static str, u64>,
    /// When GitHub last brought a signed delivery, of the kinds that are in `recent`.
    pub last_delivery_at: Option<Timestamp>,
    /// When a run was last accepted.
    pub last_accepted_at: Option<Timestamp>,
    /// What waits.
    pub pending: Option<Pending>,
    /// IDs of runs sent, in the cache.
    pub known_ids: Option<usize>,
    /// What has come of the runs.
    pub runs: Runs,
    /// Pushes by verdict.
    pub pushes: BTreeMap<&'static str, u64>,
    /// Points that were taken.
    pub points: u64,
    /// When a push was last taken.
    pub last_push_at: Option<Timestamp>,
    /// Which requests to Datadog fail, if they do: `series`, until a push is taken, or `validate`, until one is answered.
    pub failing_request: Option<&'static str>,
    /// Since when.
    pub failing_since: Option<Timestamp>,
    /// Why nothing can be recorded of what was pushed.
    pub blocked: Option<String>,
    /// When a run was last found to be in doubt.
    pub in_doubt_at: Option<Timestamp>,
    /// When a run was last rejected.
    pub rejected_at: Option<Timestamp>,
    /// How far Datadog's clock is ahead of ours.
    pub clock_apart_seconds: Option<i64>,
    /// Distinct series (custom metrics).
    pub series: Option<SeriesCount>,
    /// The limit on them.
    pub max_series: usize,
    /// Tags whose new values are sent as `other`.
    pub capped_tags: Vec<&'static str>,
    /// What was found in GitHub's delivery logs, if they are looked at.
    pub recovery: Option<Recovery>,
    /// Secrets and certificates whose files cannot be used as they are now, so that those of before are.
    pub stale: Vec<&'static str>,
    /// The database that has the ledger, if it is not in files.
    pub database: Option<String>,
    /// Which replica delivers, where there can be several.
    pub leadership: Option<Leadership>,
    /// The files, and how large they are.
    pub files: Vec<FileSize>,
    /// Datadog's last answers, the latest first.
    pub answers: Vec<Answered>,
    /// The last deliveries, the latest first.
    pub recent: Vec<Delivered>,
    /// Runs and durations of the last day, a quarter of an hour each, oldest first.
    pub history: Vec<Span>,
}

impl From<ledger::Leadership> for Leadership {
    fn from(known: ledger::Leadership) -> Self {
        let since = known.since.and_then(|since| Timestamp::from_second(since).ok());
        Self { leads: known.leads, leader: known.leader, since }
    }
}

impl Facts {
    /// What is known at `now`. `ledger` is what the ledger said, if it answered.
    pub(super) fn new(
        about: &About,
        vitals: &Vitals,
        now: Timestamp,
        unready: Option<Unready>,
        ledger: Option<(Overview, SeriesCount)>,
    ) -> Self {
        let notes = vitals.notes();
        let ledger_answers = ledger.is_some();
        let (overview, series) = ledger.unzip();
        let age = |end: i64| (now.as_second() - end).max(0);
        // Whoever waits for a disk that hangs tells nobody. A database has no files.
        let (files, stale) =
            if ledger_answers { (about.files.sizes(), about.rotating.stale()) } else { Default::default() };
        let files = files.into_iter();
        let files =
            files.map(|(kind, path, bytes)| FileSize { kind, path: path.display().to_string(), bytes }).collect();
        let mut facts = Self {
            version: env!("CARGO_PKG_VERSION"),
            mode: if about.target.is_some() { "live" } else { "dry_run" },
            target: about.target.clone(),
            now,
            started_at: about.started_at,
            ready: unready.is_none(),
            unready_hint: unready.as_ref().map(|unready| about.hint(unready)),
            unready_reason: unready.map(|unready| unready.to_string()),
            degraded: false,
            troubles: Vec::new(),
            deliveries: Outcome::ALL.map(|outcome| (outcome.name(), vitals.counts().of(outcome))).into(),
            last_delivery_at: notes.delivered_at,
            last_accepted_at: notes.accepted_at,
            pending: overview.as_ref().map(|overview| Pending {
                runs: overview.standing.pending,
                oldest_age_seconds: overview.oldest_since.map(age),
            }),
            known_ids: overview.as_ref().map(|overview| overview.standing.known),
            runs: Runs {
                pushed: notes.totals.pushed,
                restamped: vitals.restamped(),
                odd_times: vitals.odd_times(),
                in_doubt: notes.totals.in_doubt,
                rejected: notes.totals.rejected,
            },
            pushes: notes.pushes.iter().copied().collect(),
            points: notes.points,
            last_push_at: notes.taken_at,
            failing_request: notes.failing.map(|(request, _)| request),
            failing_since: notes.failing.map(|(_, since)| since),
            blocked: notes.blocked.clone(),
            in_doubt_at: notes.in_doubt_at,
            rejected_at: notes.rejected_at,
            clock_apart_seconds: notes.clock_apart_s,
            series,
            max_series: about.max_series,
            database: about.database.clone(),
            leadership: overview.as_ref().and_then(|overview| overview.leadership.clone()).map(Leadership::from),
            capped_tags: overview.map(|overview| overview.capped).unwrap_or_default(),
            recovery: notes.recovery.clone(),
            stale,
            files,
            history: notes.history(now),
            answers: notes.answers.into(),
            recent: notes.deliveries.into(),
        };
        facts.troubles = health::troubles(&facts);
        facts.degraded = !facts.troubles.is_empty();
        facts
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        admin::Rotating,
        ledger::{Files, Mode, Standing},
    };

    /// A live service at its start, with which nothing is the matter.
    pub(in crate::admin) fn facts() -> Facts {
        let files = Files::new(std::path::Path::new("/nowhere"), Mode::Live);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let about = About {
            target: Some("https://api.datadoghq.eu".to_owned()),
            max_series: 5000,
            files,
            database: None,
            started_at: now,
            rotating: Rotating::default(),
        };
        let standing = Standing { known: 0, pending: 0 };
        let overview = Overview { standing, oldest_since: None, capped: Vec::new(), leadership: None };
        let series = SeriesCount { last_hour: 0, last_30_days: 0 };
        Facts::new(&about, &Vitals::default(), now, None, Some((overview, series)))
    }

    #[test]
    fn without_an_answer_of_the_ledger_what_it_knows_is_not_known() {
        let files = Files::new(std::path::Path::new("/nowhere"), Mode::DryRun);
        let now = Timestamp::UNIX_EPOCH;
        let about = About {
            target: None,
            max_series: 1,
            files,
            database: None,
            started_at: now,
            rotating: Rotating::default(),
        };
        let facts = Facts::new(&about, &Vitals::default(), now, Some(Unready::Silent(5)), None);
        assert_eq!((facts.mode, facts.ready), ("dry_run", false));
        assert!(facts.pending.is_none() && facts.series.is_none() && facts.known_ids.is_none());
    }
}
