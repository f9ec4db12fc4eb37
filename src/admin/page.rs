//! The status page: the facts, arranged for a person who wants to know at a glance whether runs reach Datadog.
//!
//! Invariant: what is shown is a function of the facts alone. Every text from outside is escaped twice over: what could
//! turn or break a line becomes visible, and what could be HTML becomes text. The policy sent with the page lets a browser
//! use its one style and its one script and nothing else, from wherever it might come.

mod groups;

use super::{
    chart::{self, Chart},
    facts::Facts,
    words::{self, Text, Time, count, grouped},
};
use crate::vitals::{Answered, DELIVERIES_KEPT, Delivered, Way};
use askama::Template;
use base64::{Engine, prelude::BASE64_STANDARD};
use groups::groups;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const STYLE: &str = include_str!("../../templates/status.css");
const SCRIPT: &str = include_str!("../../templates/status.js");

/// What a browser may do with the page. Its icon is a `data:` image; it fetches itself anew; nothing else is let in.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// The value of `Content-Security-Policy` for the page.
#[must_use]
pub fn policy() -> &'static str {
    &POLICY
}

/// The page, as HTML.
///
/// # Errors
/// Memory ran out while writing it.
pub fn html(facts: &Facts) -> Result<String, askama::Error> {
    Page::new(facts).render()
}

/// How the service is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Degraded,
    NotReady,
}

impl State {
    const fn of(facts: &Facts) -> Self {
        match (facts.ready, facts.degraded) {
            (false, _) => Self::NotReady,
            (true, true) => Self::Degraded,
            (true, false) => Self::Ok,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
            Self::NotReady => "NOT READY",
        }
    }

    /// The name of its look.
    const fn look(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::NotReady => "not-ready",
        }
    }

    /// The colour of the icon: readable on the light and the dark tab of a browser.
    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => "1f9d61",
            Self::Degraded => "d98a00",
            Self::NotReady => "dc3a2f",
        }
    }

    const fn sentence(self, is_dry_run: bool) -> &'static str {
        match (self, is_dry_run) {
            (Self::Ok, false) => "Runs are recorded, and nothing keeps them from Datadog.",
            (Self::Ok, true) => "Runs are recorded, and their payloads logged.",
            (Self::Degraded, _) => "Runs are recorded, but something is the matter.",
            (Self::NotReady, _) => "No run can be recorded: deliveries are answered 503.",
        }
    }
}

/// Something that is the matter.
struct Matter {
    look: &'static str,
    what: Text,
    /// What to do, in parts; whether a part is code.
    hint: Vec<(bool, &'static str)>,
}

impl Matter {
    fn new(look: &'static str, what: &str, hint: &'static str) -> Self {
        let parts = hint.split('`').enumerate().map(|(index, part)| (index % 2 == 1, part));
        Self { look, what: Text::new(what), hint: parts.collect() }
    }
}

/// A fact that is told by its name and a few words.
struct Fact {
    name: &'static str,
    value: String,
    note: Option<String>,
    /// `bad`, `warn`, or nothing.
    look: &'static str,
    time: Option<Time>,
}

impl Fact {
    fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), note: None, look: "", time: None }
    }

    /// When something last was.
    fn last(name: &'static str, at: Option<Time>) -> Self {
        let value = at.as_ref().map_or_else(|| "none yet".to_owned(), |at| at.age.clone());
        Self { note: at.as_ref().map(|at| format!("{} UTC", at.clock)), time: at, ..Self::new(name, value) }
    }

    fn noted(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    fn looks(self, look: &'static str) -> Self {
        Self { look, ..self }
    }

    /// Looks so where there is any of it.
    fn of(name: &'static str, number: u64, look: &'static str) -> Self {
        Self::new(name, grouped(number)).looks(if number > 0 { look } else { "" })
    }
}

/// A group of facts.
struct Group {
    name: &'static str,
    facts: Vec<Fact>,
}

/// A delivery, as a row.
struct Row {
    /// What tells it from the others.
    key: String,
    time: Time,
    outcome: &'static str,
    reason: Option<Text>,
    repository: Option<Text>,
    workflow: Option<Text>,
    conclusion: Option<Text>,
    look: &'static str,
    duration: Option<String>,
    delivery: Option<Text>,
    url: Option<String>,
}

impl Row {
    fn new(delivered: &Delivered, now: jiff::Timestamp) -> Self {
        let look = match delivered.conclusion.as_deref() {
            Some("success") => "succeeded",
            Some("failure" | "timed_out" | "startup_failure") => "failed",
            _ => "other",
        };
        let delivery = delivered.guid.as_deref().or(delivered.run.as_deref()).or(delivered.url.as_ref().map(|_| "run"));
        let names: Vec<&str> =
            [&delivered.workflow, &delivered.job].into_iter().flatten().map(String::as_str).collect();
        let workflow = (!names.is_empty()).then(|| names.join(" / "));
        let is_web = |url: &&String| url.starts_with("https://") || url.starts_with("http://");
        Self {
            key: delivered.at.as_nanosecond().to_string(),
            time: Time::new(delivered.at, now),
            outcome: delivered.outcome.name(),
            reason: Text::of(delivered.reason.as_deref().or((delivered.way == Way::Fetched).then_some("fetched"))),
            repository: Text::of(delivered.repository.as_deref()),
            workflow: Text::of(workflow.as_deref()),
            conclusion: Text::of(delivered.conclusion.as_deref()),
            look,
            duration: delivered.duration_ms.map(words::span_ms),
            delivery: Text::of(delivery),
            url: delivered.url.as_ref().filter(is_web).cloned(),
        }
    }
}

/// An answer of Datadog, as a row.
struct Answer {
    time: Time,
    status: String,
    look: &'static str,
    what: String,
    text: Option<Text>,
    took: String,
}

impl Answer {
    fn new(answered: &Answered, now: jiff::Timestamp) -> Self {
        let is_taken = answered.verdict == "taken";
        let what = match (answered.request, is_taken) {
            ("series", true) => format!("took {}", count(answered.runs as u64, "run")),
            ("series", false) => {
                format!("{}: {}", answered.verdict.replace('_', " "), count(answered.runs as u64, "run"))
            }
            _ => "asked for the time".to_owned(),
        };
        let is_fine =
            is_taken || answered.request != "series" && answered.verdict != "denied" && answered.status.is_some();
        Self {
            time: Time::new(answered.at, now),
            status: answered.status.map_or_else(|| "none".to_owned(), |status| status.to_string()),
            look: if is_fine { "good" } else { "bad" },
            what,
            text: Text::of(Some(answered.text.as_str())).filter(|_| !is_fine),
            took: words::span_ms(answered.took_ms),
        }
    }
}

/// A file.
struct File {
    kind: &'static str,
    path: Text,
    size: String,
}

/// The series made, against the limit on them.
struct Series {
    fact: Fact,
    /// How much of the limit that is, in percent.
    share: u64,
}

#[derive(Template)]
#[template(path = "status.html", whitespace = "minimize")]
struct Page {
    style: &'static str,
    script: &'static str,
    version: &'static str,
    is_dry_run: bool,
    state: State,
    sentence: &'static str,
    target: Option<Text>,
    now: Time,
    up: String,
    matters: Vec<Matter>,
    glance: Vec<Fact>,
    series: Series,
    charts: [Chart; 2],
    plane: f64,
    groups: Vec<Group>,
    answers: Vec<Answer>,
    database: Option<Text>,
    files: Vec<File>,
    kept: usize,
    rows: Vec<Row>,
}

impl Page {
    fn new(facts: &Facts) -> Self {
        let is_dry_run = facts.target.is_none();
        let hint = facts.unready_hint.unwrap_or_default();
        let unready = facts.unready_reason.as_ref().map(|reason| Matter::new("not-ready", reason, hint));
        let troubles = facts.troubles.iter().map(|trouble| Matter::new("degraded", &trouble.what, trouble.hint));
        let file = |file: &super::FileSize| File {
            kind: file.kind,
            path: Text::new(&file.path),
            size: words::size(file.bytes),
        };
        Self {
            style: STYLE,
            script: SCRIPT,
            version: facts.version,
            is_dry_run,
            state: State::of(facts),
            sentence: State::of(facts).sentence(is_dry_run),
            target: facts.target.as_deref().map(Text::new),
            now: Time::new(facts.now, facts.now),
            up: words::span(since(facts, facts.started_at)),
            matters: unready.into_iter().chain(troubles).collect(),
            glance: glance(facts),
            series: series(facts),
            charts: [chart::runs(&facts.history, facts.now), chart::durations(&facts.history, facts.now)],
            plane: chart::HEIGHT,
            groups: groups(facts),
            answers: facts.answers.iter().map(|answered| Answer::new(answered, facts.now)).collect(),
            database: facts.database.as_deref().map(Text::new),
            files: facts.files.iter().map(file).collect(),
            kept: DELIVERIES_KEPT,
            rows: facts.recent.iter().map(|delivered| Row::new(delivered, facts.now)).collect(),
        }
    }
}

fn since(facts: &Facts, at: jiff::Timestamp) -> u64 {
    u64::try_from(facts.now.as_second() - at.as_second()).unwrap_or(0)
}

/// What one wants to know first.
fn glance(facts: &Facts) -> Vec<Fact> {
    let last = |name, at: Option<jiff::Timestamp>| Fact::last(name, at.map(|at| Time::new(at, facts.now)));
    let is_failing = |trouble: &super::Trouble| {
        matches!(trouble.reason, super::Reason::DatadogRefuses | super::Reason::DatadogSilent)
    };
    let failing = facts.failing_since.filter(|_| facts.troubles.iter().any(is_failing));
    let push = match (&facts.target, failing) {
        (None, _) => Fact::new("Last push", "never").noted("a dry run sends nothing").looks("warn"),
        (_, Some(failing)) => last("Last push", facts.last_push_at)
            .noted(format!("failing for {}", words::span(since(facts, failing))))
            .looks("bad"),
        _ => last("Last push", facts.last_push_at),
    };
    let pending = match &facts.pending {
        None => Fact::new("Pending", "unknown").noted("the ledger does not answer").looks("bad"),
        Some(pending) => {
            let is_old = facts.troubles.iter().any(|trouble| trouble.reason == super::Reason::BacklogOld);
            let note = match pending.oldest_age_seconds {
                None => "nothing waits".to_owned(),
                Some(age) => format!("the oldest for {}", words::span(age.unsigned_abs())),
            };
            Fact::new("Pending", count(pending.runs as u64, "run")).noted(note).looks(if is_old { "bad" } else { "" })
        }
    };
    vec![last("Last delivery", facts.last_delivery_at), last("Last accepted", facts.last_accepted_at), push, pending]
}

fn series(facts: &Facts) -> Series {
    let max = facts.max_series as u64;
    let limit = format!("of {} in 30 days", grouped(max));
    let Some(made) = facts.series else {
        return Series { fact: Fact::new("Series", "unknown").noted(limit).looks("bad"), share: 0 };
    };
    let share = (made.last_30_days as u64).saturating_mul(100).checked_div(max).unwrap_or(100).min(100);
    let look = if share >= 90 { "warn" } else { "" };
    Series { fact: Fact::new("Series", grouped(made.last_30_days as u64)).noted(limit).looks(look), share }
}

#[cfg(test)]
mod tests;
