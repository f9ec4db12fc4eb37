//! From the bytes of a delivery to the completed run they tell of, if they tell of one.
//!
//! Invariant: no I/O, no clock, and no judgement on tags: what GitHub wrote comes out as GitHub wrote it.
//! Only `workflow_run.id` and the repository's name are required; any other field may be missing, null or odd.

mod key;
mod loose;
mod recorded;

use jiff::Timestamp;
use loose::{Leaf, Object};
use serde::Deserialize;
use serde_json::error::Category;
use std::{fmt, num::NonZeroU32};

pub use key::{Attempt, NotAKey, RunId, RunKey};
pub use recorded::{Recorded, delivery_of, misunderstood};

/// A repository's name and, where the payload has it, its owner's login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoName {
    /// The owner's login.
    pub owner: Option<String>,
    /// The name without the owner; never empty.
    pub name: String,
}

/// One completed attempt of a workflow run, as GitHub told of it. An empty text counts as none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedRun {
    /// The run's ID and attempt. A payload without a usable `run_attempt` is of attempt 1.
    pub key: RunKey,
    /// The repository that the workflow ran in.
    pub repository: RepoName,
    /// `workflow.name`, else the file name in the workflow's path. Never the run's own name, which differs on every run.
    pub workflow: Option<String>,
    /// The workflow file's path, without `@ref`.
    pub workflow_path: Option<String>,
    /// What triggered the run: `push`, `pull_request` and so on.
    pub event: Option<String>,
    /// `head_branch` as it stands.
    pub branch: Option<String>,
    /// Whether `branch` is the default branch of this very repository: never true for a fork.
    pub on_default_branch: bool,
    /// GitHub's word for how it ended, of no closed list; `None` where it said null.
    pub conclusion: Option<String>,
    /// `User`, `Bot` or `Organization`.
    pub sender_type: Option<String>,
    /// Login of the sender of the event.
    pub sender: Option<String>,
    /// Login of the run's first actor.
    pub actor: Option<String>,
    /// Login of who triggered this attempt.
    pub triggering_actor: Option<String>,
    /// `run_started_at`, which a re-run resets (`created_at` is not).
    pub started_at: Option<Timestamp>,
    /// `updated_at`, which at completion is the end.
    pub ended_at: Option<Timestamp>,
    /// `html_url`, the run's page on GitHub, if it is an `https` or `http` URL.
    pub url: Option<String>,
}

impl CompletedRun {
    /// How long the run took; never below 0. `None` where no start or no end is known.
    #[must_use]
    pub fn duration_ms(&self) -> Option<u64> {
        let (end, start) = self.ended_at.zip(self.started_at)?;
        Some(u64::try_from(end.as_millisecond() - start.as_millisecond()).unwrap_or(0))
    }
}

/// What a well-formed delivery turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A run has completed.
    Completed(Box<CompletedRun>),
    /// A valid delivery that needs nothing done.
    NotOurs(NotOurs),
    /// JSON, but without a usable run where one should be.
    Unusable(&'static str),
}

/// Why a valid delivery needs nothing done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// GitHub's greeting to a new hook.
    #[error("ping")]
    Ping,
    /// Another event than `workflow_run`.
    #[error("event {0}")]
    Event(String),
    /// `workflow_run`, but not `completed`.
    #[error("action {0}")]
    Action(String),
    /// The approval gate of a fork's pull request: the same ID and attempt runs later.
    #[error("conclusion action_required")]
    ActionRequired,
}

/// The bytes are not a JSON text.
#[derive(Debug, thiserror::Error)]
#[error("the payload is not JSON")]
pub struct NotJson(#[from] serde_json::Error);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Payload<'a> {
    #[serde(borrow)]
    action: Leaf<'a>,
    #[serde(borrow)]
    zen: Leaf<'a>,
    #[serde(borrow)]
    workflow_run: Object<WorkflowRun<'a>>,
    #[serde(borrow)]
    workflow: Object<Workflow<'a>>,
    #[serde(borrow)]
    repository: Object<Repository<'a>>,
    #[serde(borrow)]
    sender: Object<Account<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WorkflowRun<'a> {
    #[serde(borrow)]
    id: Leaf<'a>,
    #[serde(borrow)]
    run_attempt: Leaf<'a>,
    #[serde(borrow)]
    event: Leaf<'a>,
    #[serde(borrow)]
    path: Leaf<'a>,
    #[serde(borrow)]
    head_branch: Leaf<'a>,
    #[serde(borrow)]
    conclusion: Leaf<'a>,
    #[serde(borrow)]
    run_started_at: Leaf<'a>,
    #[serde(borrow)]
    updated_at: Leaf<'a>,
    #[serde(borrow)]
    html_url: Leaf<'a>,
    #[serde(borrow)]
    actor: Object<Account<'a>>,
    #[serde(borrow)]
    triggering_actor: Object<Account<'a>>,
    #[serde(borrow)]
    head_repository: Object<Repository<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Workflow<'a> {
    #[serde(borrow)]
    name: Leaf<'a>,
    #[serde(borrow)]
    path: Leaf<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Repository<'a> {
    #[serde(borrow)]
    id: Leaf<'a>,
    #[serde(borrow)]
    name: Leaf<'a>,
    #[serde(borrow)]
    full_name: Leaf<'a>,
    #[serde(borrow)]
    owner: Object<Account<'a>>,
    #[serde(borrow)]
    default_branch: Leaf<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Account<'a> {
    #[serde(borrow)]
    login: Leaf<'a>,
    #[serde(borrow, rename = "type")]
    kind: Leaf<'a>,
}

/// Reads the JSON `body` of a delivery whose `X-GitHub-Event` was `event`. Without that header the
/// event is told from the body: one that holds `workflow_run` is that event, one with `zen` is a ping.
///
/// # Errors
/// The body is not a JSON text in UTF-8.
pub fn parse(event: Option<&str>, body: &[u8]) -> Result<Event, NotJson> {
    // Looked at once and as a whole, UTF-8 costs little; text by text it is a fifth of all the reading.
    let read = str::from_utf8(body).map_or_else(|_| serde_json::from_slice(body), serde_json::from_str);
    let payload: Object<Payload<'_>> = match read {
        Ok(payload) => payload,
        // A field given twice: JSON all the same, if it is whole.
        Err(error) if error.classify() == Category::Data => {
            serde_json::from_slice::<serde::de::IgnoredAny>(body)?;
            Object(None)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(match payload.0 {
        Some(payload) => payload.event(event),
        None => match event {
            Some(other) if other != "workflow_run" => not_ours(other),
            _ => Event::Unusable("not an object in which each field stands once"),
        },
    })
}

/// The repository that the JSON `body` of a delivery tells of, whatever the event.
#[must_use]
pub fn repository(body: &[u8]) -> Option<RepoName> {
    let payload: Object<Payload<'_>> = serde_json::from_slice(body).ok()?;
    payload.0?.repository.0?.named()
}

/// A text from outside, as long as a name of GitHub's may be.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn not_ours(event: &str) -> Event {
    Event::NotOurs(match event {
        "ping" => NotOurs::Ping,
        other => NotOurs::Event(shown(other)),
    })
}

impl Payload<'_> {
    fn event(&self, header: Option<&str>) -> Event {
        match header {
            Some("workflow_run") => {}
            Some(other) => return not_ours(other),
            None if self.workflow_run.0.is_some() => {}
            None if self.zen.text().is_some() => return Event::NotOurs(NotOurs::Ping),
            None => return Event::NotOurs(NotOurs::Event("unknown".to_owned())),
        }
        let Some(action) = self.action.text() else {
            return Event::Unusable("no action");
        };
        if action != "completed" {
            return Event::NotOurs(NotOurs::Action(shown(action)));
        }
        let Some(run) = &self.workflow_run.0 else {
            return Event::Unusable("no workflow_run");
        };
        if run.conclusion.text() == Some("action_required") {
            return Event::NotOurs(NotOurs::ActionRequired);
        }
        let Some(id) = run.id.int() else {
            return Event::Unusable("workflow_run.id is not a whole number of 64 bits");
        };
        let Some(repository) = self.repository.0.as_ref().and_then(Repository::named) else {
            return Event::Unusable("no repository.name");
        };
        Event::Completed(Box::new(self.completed(RunId(id), repository, run)))
    }

    fn completed(&self, id: RunId, repository: RepoName, run: &WorkflowRun<'_>) -> CompletedRun {
        let attempt = run
            .run_attempt
            .int()
            .and_then(|attempt| u32::try_from(attempt).ok())
            .and_then(NonZeroU32::new)
            .map_or(Attempt::FIRST, Attempt);
        let workflow = self.workflow.0.as_ref();
        let path = workflow
            .and_then(|workflow| workflow.path.text())
            .or(run.path.text())
            .and_then(|path| path.split('@').next())
            .filter(|path| !path.is_empty());
        let file_name = path.and_then(|path| path.rsplit('/').next());
        let sender = self.sender.0.as_ref();
        CompletedRun {
            key: RunKey { id, attempt },
            repository,
            workflow: workflow.and_then(|workflow| workflow.name.text()).or(file_name).map(str::to_owned),
            workflow_path: path.map(str::to_owned),
            event: run.event.owned(),
            branch: run.head_branch.owned(),
            on_default_branch: self.on_default_branch(run),
            conclusion: run.conclusion.owned(),
            sender_type: sender.and_then(|sender| sender.kind.owned()),
            sender: sender.and_then(|sender| sender.login.owned()),
            actor: login(&run.actor),
            triggering_actor: login(&run.triggering_actor),
            started_at: time(&run.run_started_at),
            ended_at: time(&run.updated_at),
            url: run.html_url.owned().filter(|url| url.starts_with("https://") || url.starts_with("http://")),
        }
    }

    /// A fork's `main` is not our `main`, and the head repository is null once a fork is deleted.
    fn on_default_branch(&self, run: &WorkflowRun<'_>) -> bool {
        let (Some(base), Some(head)) = (&self.repository.0, &run.head_repository.0) else {
            return false;
        };
        let same = match (base.id.int(), head.id.int()) {
            (Some(base), Some(head)) => base == head,
            _ => base.full_name.text().is_some() && base.full_name.text() == head.full_name.text(),
        };
        same && base.default_branch.text().is_some() && base.default_branch.text() == run.head_branch.text()
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Repository<'_> {
    fn named(&self) -> Option<RepoName> {
        let (owner, name) = match self.full_name.text().and_then(|full| full.split_once('/')) {
            Some((owner, name)) => (Some(owner), Some(name)),
            None => (None, None),
        };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(RepoName {
            name: self.name.text().or(name).and_then(text)?,
            owner: login(&self.owner).or(owner.and_then(text)),
        })
    }
}

fn login(account: &Object<Account<'_>>) -> Option<String> {
    account.0.as_ref().and_then(|account| account.login.owned())
}

/// RFC 3339 with any offset; a time without an offset, or no time at all, is none.
fn time(leaf: &Leaf<'_>) -> Option<Timestamp> {
    leaf.text().and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests;
