//! From the bytes of a delivery to the completed run or job they tell of, if they tell of one.
//!
//! Invariant: no I/O, no clock, and no judgement on tags: what GitHub wrote comes out as GitHub wrote it.
//! Only the ID and the repository's name are required; any other field may be missing, null or odd.

mod completed;
mod job;
mod key;
mod loose;
mod recorded;

use jiff::Timestamp;
use job::WorkflowJob;
use loose::{Leaf, Object};
use serde::{
    Deserialize,
    de::{Error as _, IgnoredAny},
};
use serde_json::error::Category;
use std::num::NonZeroU32;

pub use completed::{Completed, Job, Lasted, RUN_MAX_MS, RepoName, Step};
pub use job::STEPS_MAX;
pub use key::{Attempt, JobId, Key, NotAKey, RunId, RunKey};
pub use recorded::{Recorded, misunderstood};

/// Of what the deliveries are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Detail {
    /// Runs.
    #[default]
    Runs,
    /// Runs and their jobs.
    Jobs,
    /// Runs, their jobs, and the jobs' steps.
    Steps,
}

impl Detail {
    /// The events that tell of it.
    #[must_use]
    pub const fn events(self) -> &'static [&'static str] {
        match self {
            Self::Runs => &["workflow_run"],
            Self::Jobs | Self::Steps => &["workflow_run", "workflow_job"],
        }
    }

    /// Whether anything is counted of this event.
    #[must_use]
    pub fn takes(self, event: &str) -> bool {
        self.events().contains(&event)
    }
}

/// What a well-formed delivery turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A run or a job has completed.
    Completed(Box<Completed>),
    /// A valid delivery that needs nothing done.
    NotOurs(NotOurs),
    /// JSON, but without a usable run or job where one should be.
    Unusable(&'static str),
}

/// Why a valid delivery needs nothing done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// GitHub's greeting to a new hook.
    #[error("ping")]
    Ping,
    /// An event of which nothing is counted.
    #[error("event {0}")]
    Event(String),
    /// One of which something is, but not `completed`.
    #[error("action {0}")]
    Action(String),
    /// The approval gate of a fork's pull request: the same ID and attempt runs later.
    #[error("conclusion action_required")]
    ActionRequired,
    /// A job that did not run in this attempt, told of once more because others did.
    #[error("job did not run again")]
    NotRunAgain,
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
    workflow_job: Object<WorkflowJob<'a>>,
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

/// Reads the JSON `body` of a delivery whose `X-GitHub-Event` was `event`, where things are counted in this `detail`. Without
/// that header the event is told from the body: one that holds `workflow_run` or `workflow_job` is that event, one with `zen`
/// is a ping.
///
/// # Errors
/// The body is not a JSON text in UTF-8.
pub fn parse(event: Option<&str>, body: &[u8], detail: Detail) -> Result<Event, NotJson> {
    // Looked at once and as a whole, UTF-8 costs little; text by text it is a fifth of all the reading.
    let text = str::from_utf8(body).map_err(serde_json::Error::custom)?;
    let payload: Object<Payload<'_>> = match serde_json::from_str(text) {
        Ok(payload) => payload,
        // A field given twice: JSON all the same, if it is whole.
        Err(error) if error.classify() == Category::Data => {
            serde_json::from_str::<IgnoredAny>(text)?;
            Object(None)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(match payload.0 {
        Some(payload) => payload.event(event, detail),
        None => match event {
            Some(other) if !detail.takes(other) => not_ours(other),
            _ => Event::Unusable("not an object in which each field stands once"),
        },
    })
}

/// The repository that the JSON `body` of a delivery tells of, whatever the event.
#[must_use]
pub fn repository(body: &[u8]) -> Option<RepoName> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Whose<'a> {
        #[serde(borrow)]
        repository: Object<Repository<'a>>,
    }
    let payload: Object<Whose<'_>> = serde_json::from_slice(body).ok()?;
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
    fn event(&self, header: Option<&str>, detail: Detail) -> Event {
        let event = match header {
            Some(header) => header,
            None if self.workflow_run.0.is_some() => "workflow_run",
            None if self.workflow_job.0.is_some() => "workflow_job",
            None if self.zen.text().is_some() => "ping",
            None => "unknown",
        };
        if !detail.takes(event) {
            return not_ours(event);
        }
        match self.action.text() {
            None => Event::Unusable("no action"),
            Some("completed") if event == "workflow_job" => match &self.workflow_job.0 {
                None => Event::Unusable("no workflow_job"),
                Some(job) => job.event(self),
            },
            Some("completed") => match &self.workflow_run.0 {
                None => Event::Unusable("no workflow_run"),
                Some(run) => self.run(run),
            },
            Some(action) => Event::NotOurs(NotOurs::Action(shown(action))),
        }
    }

    fn run(&self, run: &WorkflowRun<'_>) -> Event {
        if run.conclusion.text() == Some("action_required") {
            return Event::NotOurs(NotOurs::ActionRequired);
        }
        let Some(id) = run.id.int() else {
            return Event::Unusable("workflow_run.id is not a whole number of 64 bits");
        };
        let Some(repository) = self.repository_name() else {
            return Event::Unusable("no repository.name");
        };
        Event::Completed(Box::new(self.completed(RunId(id), repository, run)))
    }

    fn completed(&self, id: RunId, repository: RepoName, run: &WorkflowRun<'_>) -> Completed {
        let workflow = self.workflow.0.as_ref();
        let path = workflow
            .and_then(|workflow| workflow.path.text())
            .or(run.path.text())
            .and_then(|path| path.split('@').next())
            .filter(|path| !path.is_empty());
        let file_name = path.and_then(|path| path.rsplit('/').next());
        Completed {
            key: RunKey { id, attempt: attempt(&run.run_attempt) }.into(),
            repository,
            workflow: workflow.and_then(|workflow| workflow.name.text()).or(file_name).map(str::to_owned),
            workflow_path: path.map(str::to_owned),
            event: run.event.owned(),
            branch: run.head_branch.owned(),
            on_default_branch: self.is_of_this_repository(run) && self.is_default_branch(&run.head_branch),
            conclusion: run.conclusion.owned(),
            sender_type: self.sender_type(),
            sender: self.sender_login(),
            actor: login(&run.actor),
            triggering_actor: login(&run.triggering_actor),
            started_at: time(&run.run_started_at),
            ended_at: time(&run.updated_at),
            url: url(&run.html_url),
            job: None,
        }
    }

    fn repository_name(&self) -> Option<RepoName> {
        self.repository.0.as_ref().and_then(Repository::named)
    }

    fn sender_type(&self) -> Option<String> {
        self.sender.0.as_ref().and_then(|sender| sender.kind.owned())
    }

    fn sender_login(&self) -> Option<String> {
        login(&self.sender)
    }

    fn is_default_branch(&self, branch: &Leaf<'_>) -> bool {
        let default = self.repository.0.as_ref().and_then(|repository| repository.default_branch.text());
        default.is_some() && default == branch.text()
    }

    /// A fork's `main` is not our `main`, and the head repository is null once a fork is deleted.
    fn is_of_this_repository(&self, run: &WorkflowRun<'_>) -> bool {
        let (Some(base), Some(head)) = (&self.repository.0, &run.head_repository.0) else {
            return false;
        };
        match (base.id.int(), head.id.int()) {
            (Some(base), Some(head)) => base == head,
            _ => base.full_name.text().is_some() && base.full_name.text() == head.full_name.text(),
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

/// Without a usable number it is the first.
fn attempt(leaf: &Leaf<'_>) -> Attempt {
    let attempt = leaf.int().and_then(|attempt| u32::try_from(attempt).ok()).and_then(NonZeroU32::new);
    attempt.map_or(Attempt::FIRST, Attempt)
}

fn url(leaf: &Leaf<'_>) -> Option<String> {
    leaf.owned().filter(|url| url.starts_with("https://") || url.starts_with("http://"))
}

/// RFC 3339 with any offset; a time without an offset, or no time at all, is none.
fn time(leaf: &Leaf<'_>) -> Option<Timestamp> {
    leaf.text().and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests;
