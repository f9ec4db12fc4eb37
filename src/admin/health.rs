//! What keeps the service from being well, and what to do about it: a pure function of what was noticed.

use super::{
    facts::Facts,
    words::{count, span},
};
use serde::Serialize;
use std::fmt;

/// Requests that fail for so long are trouble, in seconds.
const SILENT_MIN_S: i64 = 60;

/// A run that is pending for so long is trouble, in seconds.
const BACKLOG_OLD_S: i64 = 10 * 60;

/// What cannot be mended is told of for so long, in seconds.
const TOLD_S: i64 = 60 * 60;

/// Why no run can be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unready {
    /// It has been told to stop.
    Stopping,
    /// The ledger cannot write, and why.
    CannotWrite(String),
    /// The ledger has not answered for so many seconds.
    Silent(u64),
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => f.write_str("the service is stopping"),
            Self::CannotWrite(why) => f.write_str(why),
            Self::Silent(seconds) => write!(f, "the ledger has not answered for {seconds} s"),
        }
    }
}

impl Unready {
    /// What to do about it, where the ledger is in a database, or in files.
    pub(super) const fn hint(&self, is_in_database: bool) -> &'static str {
        match self {
            Self::Stopping => {
                "Nothing to do, if it was meant to stop: it is ready again once it has been started anew."
            }
            Self::CannotWrite(_) | Self::Silent(_) if is_in_database => {
                "See to the database of the ledger, and to what lies between; runs are then accepted again, without a restart. \
                 GitHub repeats nothing by itself: redeliver what failed meanwhile."
            }
            Self::CannotWrite(_) => {
                "Make room on the disk, and see that the cache directory is there and that this user can write in it; runs \
                 are then accepted again, without a restart. GitHub repeats nothing by itself: redeliver what failed meanwhile."
            }
            Self::Silent(_) => {
                "See to the disk of the cache directory: it is overloaded, or a network file system that hangs. GitHub repeats \
                 nothing by itself: redeliver what failed meanwhile."
            }
        }
    }
}

/// Why the service is degraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Datadog answers, but takes nothing.
    DatadogRefuses,
    /// Datadog does not answer, or with a passing fault.
    DatadogSilent,
    /// A run waits for long.
    BacklogOld,
    /// Datadog's clock and ours differ.
    ClockApart,
    /// What was pushed cannot be recorded.
    NotRecorded,
    /// Runs may have been counted twice.
    RunsInDoubt,
    /// Datadog refused runs for good.
    RunsRejected,
    /// New values of tags are sent as `other`.
    SeriesLimited,
    /// What is in use was read before, and cannot be read again.
    SecretsStale,
    /// GitHub's delivery logs cannot be looked at.
    RecoveryFails,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::DatadogRefuses,
        Self::DatadogSilent,
        Self::BacklogOld,
        Self::ClockApart,
        Self::NotRecorded,
        Self::RunsInDoubt,
        Self::RunsRejected,
        Self::SeriesLimited,
        Self::SecretsStale,
        Self::RecoveryFails,
    ];

    /// The word for it, as in `/status.json` and in the metric `runhound_degraded`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DatadogRefuses => "datadog_refuses",
            Self::DatadogSilent => "datadog_silent",
            Self::BacklogOld => "backlog_old",
            Self::ClockApart => "clock_apart",
            Self::NotRecorded => "not_recorded",
            Self::RunsInDoubt => "runs_in_doubt",
            Self::RunsRejected => "runs_rejected",
            Self::SeriesLimited => "series_limited",
            Self::SecretsStale => "secrets_stale",
            Self::RecoveryFails => "recovery_fails",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::DatadogRefuses => {
                "Runs are kept, none is lost. See to the API key (DD_API_KEY, DD_API_KEY_FILE), to the site (DD_SITE), and to \
                 any proxy between; `runhound check` asks Datadog about the key."
            }
            Self::DatadogSilent => {
                "Runs are kept, none is lost. See Datadog's status page, then name resolution, proxies and outgoing HTTPS of \
                 this machine."
            }
            Self::BacklogOld => "Runs are kept, none is lost. The log says why pushes fail or wait.",
            Self::ClockApart => "Set the clock of this machine, or run a time service.",
            Self::NotRecorded => {
                "Nothing more is pushed until it is mended: make room on the disk, and see that this user can write in the \
                 cache directory; or see to the database of the ledger."
            }
            Self::RunsInDoubt => {
                "Nothing to do: an answer of Datadog was lost in a long outage or a crash, so these runs went again and may \
                 count twice. The log names them."
            }
            Self::RunsRejected => {
                "See the file of rejected runs for Datadog's answer; mend the cause, then `runhound replay` that file."
            }
            Self::SecretsStale => {
                "What was read before is in use. The log names the file and why it cannot be used; mend it, no restart is needed."
            }
            Self::RecoveryFails => {
                "Deliveries are taken as they come; those that fail are not noticed. See to the token (GITHUB_TOKEN_FILE), its \
                 rights on webhooks, and outgoing HTTPS to GitHub."
            }
            Self::SeriesLimited => {
                "See the log for the tag with the most values. Raise --max-series if they are worth their cost."
            }
        }
    }
}

/// A reason, with what is the matter just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Why.
    pub reason: Reason,
    /// What is the matter.
    pub what: String,
    /// What to do.
    pub hint: &'static str,
}

impl Trouble {
    fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self { reason, what: what.into(), hint: reason.hint() }
    }
}

/// Everything that is the matter, the most pressing first.
pub(super) fn troubles(facts: &Facts) -> Vec<Trouble> {
    let since = |at: Option<jiff::Timestamp>| at.map(|at| facts.now.as_second() - at.as_second());
    let recently = |at| since(at).is_some_and(|seconds| seconds < TOLD_S);
    let mut troubles = Vec::new();
    if let Some(blocked) = &facts.blocked {
        troubles.push(Trouble::new(Reason::NotRecorded, blocked.clone()));
    }
    // Whether pushes would be taken matters while something is pending, and is told by nothing else.
    let is_open =
        facts.failing_request == Some("validate") || facts.pending.as_ref().is_none_or(|pending| pending.runs > 0);
    let failing = since(facts.failing_since).filter(|_| is_open);
    let answer = facts.answers.iter().find(|answer| Some(answer.request) == facts.failing_request);
    if let (Some(failing), Some(answer)) = (failing, answer) {
        let told = match answer.status {
            Some(status) => format!("Datadog answers {status}"),
            None => "Datadog does not answer".to_owned(),
        };
        let what = format!("{told}, and requests have failed for {}", span(failing.unsigned_abs()));
        match answer.verdict {
            "denied" => troubles.push(Trouble::new(Reason::DatadogRefuses, what)),
            _ if failing < SILENT_MIN_S => {}
            // Some 400s are transient, and a slot that is refused alone is no sign that all are.
            "refused" | "too_large" => troubles.push(Trouble::new(Reason::DatadogRefuses, what)),
            _ => troubles.push(Trouble::new(Reason::DatadogSilent, what)),
        }
    }
    if let Some(age) =
        facts.pending.as_ref().and_then(|pending| pending.oldest_age_seconds).filter(|age| *age >= BACKLOG_OLD_S)
    {
        troubles.push(Trouble::new(
            Reason::BacklogOld,
            format!("Runs wait: the oldest one for {}", span(age.unsigned_abs())),
        ));
    }
    if let Some(apart) = facts.clock_apart_seconds.filter(|apart| apart.abs() > crate::delivery::APART_MAX_S) {
        let side = if apart > 0 { "ahead of" } else { "behind" };
        let what = format!("Datadog's clock is {} {side} this machine's", span(apart.unsigned_abs()));
        troubles.push(Trouble::new(Reason::ClockApart, what));
    }
    if recently(facts.rejected_at) {
        troubles.push(Trouble::new(
            Reason::RunsRejected,
            format!("{} rejected since the start", count(facts.runs.rejected, "run")),
        ));
    }
    if recently(facts.in_doubt_at) {
        troubles.push(Trouble::new(
            Reason::RunsInDoubt,
            format!("{} in doubt since the start", count(facts.runs.in_doubt, "run")),
        ));
    }
    if let Some(error) = facts.recovery.as_ref().and_then(|recovery| recovery.error.as_ref()) {
        troubles.push(Trouble::new(
            Reason::RecoveryFails,
            format!("Missing deliveries cannot be looked for or taken in: {error}"),
        ));
    }
    if !facts.stale.is_empty() {
        let what = format!("Cannot be read or used as they are now: {}", facts.stale.join(", "));
        troubles.push(Trouble::new(Reason::SecretsStale, what));
    }
    if !facts.capped_tags.is_empty() {
        let what = format!("New values are sent as other of: {}", facts.capped_tags.join(" "));
        troubles.push(Trouble::new(Reason::SeriesLimited, what));
    }
    troubles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::facts::{Pending, tests::facts},
        vitals::Answered,
    };
    use jiff::{SignedDuration, Timestamp};

    fn reasons(facts: &Facts) -> Vec<Reason> {
        troubles(facts).iter().map(|trouble| trouble.reason).collect()
    }

    fn ago(seconds: i64) -> Timestamp {
        facts().now - SignedDuration::from_secs(seconds)
    }

    /// Datadog's last answer, and requests have failed for so long.
    fn failing(verdict: &'static str, status: Option<u16>, seconds: i64) -> Facts {
        let at = facts().now;
        let text = String::new();
        let answer = Answered { at, request: "series", verdict, status, text, runs: 1, points: 4, took_ms: 5 };
        let pending = Some(Pending { runs: 1, oldest_age_seconds: Some(1) });
        let failing_request = Some("series");
        Facts { answers: vec![answer], failing_request, failing_since: Some(ago(seconds)), pending, ..facts() }
    }

    #[test]
    fn a_service_with_which_nothing_is_the_matter_is_well() {
        assert_eq!(reasons(&facts()), []);
        assert!(!facts().degraded);
    }

    #[test]
    fn a_refusal_counts_at_once_and_silence_after_a_minute() {
        assert_eq!(reasons(&failing("denied", Some(403), 0)), [Reason::DatadogRefuses]);
        for verdict in ["refused", "too_large"] {
            assert_eq!(reasons(&failing(verdict, Some(400), 59)), [], "{verdict}");
            assert_eq!(reasons(&failing(verdict, Some(400), 60)), [Reason::DatadogRefuses], "{verdict}");
        }
        for (verdict, status) in [("retry", None), ("retry", Some(503)), ("unexpected", Some(302))] {
            assert_eq!(reasons(&failing(verdict, status, 59)), [], "{status:?}");
            assert_eq!(reasons(&failing(verdict, status, 60)), [Reason::DatadogSilent], "{status:?}");
        }
        assert!(troubles(&failing("retry", None, 60))[0].what.contains("does not answer"));
        assert!(troubles(&failing("retry", Some(503), 60))[0].what.contains("answers 503"));
    }

    #[test]
    fn a_push_that_failed_last_is_no_trouble_once_nothing_is_pending_but_a_question_that_fails_is() {
        let pending = Some(Pending { runs: 0, oldest_age_seconds: None });
        let mut facts = Facts { pending, ..failing("refused", Some(400), 600) };
        assert_eq!(reasons(&facts), []);
        facts.failing_request = Some("validate");
        assert_eq!(reasons(&facts), [], "that was no answer to a question");
        facts.answers[0].request = "validate";
        assert_eq!(reasons(&facts), [Reason::DatadogRefuses]);
    }

    #[test]
    fn a_backlog_is_old_after_ten_minutes() {
        let pending = |age| Facts { pending: Some(Pending { runs: 1, oldest_age_seconds: Some(age) }), ..facts() };
        assert_eq!((reasons(&pending(599)), reasons(&pending(600))), (vec![], vec![Reason::BacklogOld]));
    }

    #[test]
    fn clocks_are_apart_from_a_minute_on_in_either_direction() {
        let apart = |seconds| Facts { clock_apart_seconds: Some(seconds), ..facts() };
        assert_eq!((reasons(&apart(60)), reasons(&apart(-60))), (vec![], vec![]));
        assert_eq!(reasons(&apart(61)), [Reason::ClockApart]);
        assert_eq!(reasons(&apart(-61)), [Reason::ClockApart]);
    }

    #[test]
    fn what_cannot_be_mended_is_told_of_for_an_hour() {
        let told = |at| Facts { in_doubt_at: Some(at), rejected_at: Some(at), ..facts() };
        assert_eq!(reasons(&told(ago(3599))), [Reason::RunsRejected, Reason::RunsInDoubt]);
        assert_eq!(reasons(&told(ago(3600))), []);
    }

    #[test]
    fn what_cannot_be_recorded_comes_first_and_capped_tags_last() {
        let blocked = Some("disk full".to_owned());
        let (capped_tags, stale) = (vec!["branch"], vec!["the API key"]);
        let facts = Facts { blocked, capped_tags, stale, ..failing("denied", Some(403), 1) };
        let expected = [Reason::NotRecorded, Reason::DatadogRefuses, Reason::SecretsStale, Reason::SeriesLimited];
        assert_eq!(reasons(&facts), expected);
        assert!(troubles(&facts)[2].what.ends_with("the API key") && troubles(&facts)[3].what.ends_with("branch"));
    }

    #[test]
    fn every_reason_has_a_name_and_a_hint_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
            assert_eq!(Reason::ALL.iter().filter(|other| other.hint() == reason.hint()).count(), 1);
        }
    }
}
