//! What has completed, as GitHub told of it.

use super::{Attempt, Detail, Key, RunId};
use jiff::Timestamp;
use std::fmt;

/// The longest that GitHub lets a run take, in milliseconds: 35 days. Source: GitHub, "Actions limits", workflow run time.
pub const RUN_MAX_MS: u64 = 35 * 86_400 * 1000;

/// A repository's name and, where the payload has it, its owner's login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoName {
    /// The owner's login.
    pub owner: Option<String>,
    /// The name without the owner; never empty.
    pub name: String,
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One completed attempt of a workflow run, or one job of it, as GitHub told of it. An empty text counts as none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The run's ID and attempt, or the job's ID.
    pub key: Key,
    /// The repository that the workflow ran in.
    pub repository: RepoName,
    /// The workflow's name, else the file name in its path. Never the run's own name, which differs on every run.
    pub workflow: Option<String>,
    /// The workflow file's path, without `@ref`; not told of a job.
    pub workflow_path: Option<String>,
    /// What triggered the run: `push`, `pull_request` and so on; not told of a job.
    pub event: Option<String>,
    /// `head_branch` as it stands.
    pub branch: Option<String>,
    /// Whether `branch` is the default branch of this very repository: never true for a fork's run. Of a job GitHub does not
    /// tell whether it is a fork's.
    pub on_default_branch: bool,
    /// GitHub's word for how it ended, of no closed list; `None` where it said null.
    pub conclusion: Option<String>,
    /// `User`, `Bot` or `Organization`.
    pub sender_type: Option<String>,
    /// Login of the sender of the event.
    pub sender: Option<String>,
    /// Login of the run's first actor; not told of a job.
    pub actor: Option<String>,
    /// Login of who triggered this attempt; not told of a job.
    pub triggering_actor: Option<String>,
    /// When this attempt started: of a run `run_started_at`, which a re-run resets (`created_at` is not).
    pub started_at: Option<Timestamp>,
    /// The end: of a run `updated_at`, which at completion is that.
    pub ended_at: Option<Timestamp>,
    /// `html_url`, its page on GitHub, if it is an `https` or `http` URL.
    pub url: Option<String>,
    /// What there is to tell of a job alone.
    pub job: Option<Job>,
}

/// What is told of a job and not of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The run it is of.
    pub run: Option<RunId>,
    /// The attempt of that run; 1 where the payload has none that is usable.
    pub attempt: Attempt,
    /// Its name, with the values of its matrix.
    pub name: Option<String>,
    /// What it asks of a runner, in the order in which the workflow does.
    pub labels: Vec<String>,
    /// The name of the runner that it ran on.
    pub runner: Option<String>,
    /// The group of that runner.
    pub runner_group: Option<String>,
    /// When it was made, which is when it began to wait for a runner.
    pub created_at: Option<Timestamp>,
    /// Whether it ran at all: it was not skipped, nor cancelled before it had a runner.
    pub ran: bool,
    /// Those of its steps that completed, [`STEPS_MAX`](super::STEPS_MAX) of them at the most.
    pub steps: Vec<Step>,
    /// How many more there are.
    pub steps_left_out: usize,
}

/// A step of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name, or the action or command that it runs.
    pub name: Option<String>,
    /// GitHub's word for how it ended.
    pub conclusion: Option<String>,
    /// How long it took; unknown of one that was skipped.
    pub duration: Lasted,
}

/// A time that something took, as far as it can be believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lasted {
    /// In milliseconds; never below 0. `None` where its start or end is not known, or it is longer than anything can be.
    pub ms: Option<u64>,
    /// Whether GitHub told one that cannot be: it is left out, or counts as 0 if it ended before it started.
    pub is_odd: bool,
}

impl Lasted {
    pub(super) fn between(start: Option<Timestamp>, end: Option<Timestamp>) -> Self {
        let Some((start, end)) = start.zip(end) else {
            return Self::default();
        };
        match u64::try_from(end.as_millisecond() - start.as_millisecond()) {
            Ok(ms) => Self { ms: Some(ms), is_odd: false },
            Err(_) => Self { ms: Some(0), is_odd: true },
        }
    }

    pub(super) fn at_most(self, max_ms: u64) -> Self {
        if self.ms.is_some_and(|ms| ms > max_ms) { Self { ms: None, is_odd: true } } else { self }
    }
}

impl Completed {
    /// Which attempt of a run it is, or is of.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        match (&self.job, self.key) {
            (Some(job), _) => job.attempt,
            (None, Key::Run(key)) => key.attempt,
            (None, Key::Job(_)) => Attempt::FIRST,
        }
    }

    /// How long it took, from its start to its end. Unknown of a job that never ran.
    #[must_use]
    pub fn duration(&self) -> Lasted {
        let lasted = Lasted::between(self.started_at, self.ended_at);
        match &self.job {
            None => lasted,
            Some(job) if job.ran => lasted.at_most(RUN_MAX_MS),
            Some(_) => Lasted::default(),
        }
    }

    /// How long a job waited for its runner. Unknown of one that never ran, and of a run.
    #[must_use]
    pub fn queued(&self) -> Lasted {
        match &self.job {
            Some(job) if job.ran => Lasted::between(job.created_at, self.started_at).at_most(RUN_MAX_MS),
            _ => Lasted::default(),
        }
    }

    /// How many of its times cannot be, of those that are counted in this detail.
    #[must_use]
    pub fn odd_times(&self, detail: Detail) -> usize {
        let steps = self.job.iter().filter(|_| detail == Detail::Steps).flat_map(|job| &job.steps);
        let steps = steps.map(|step| step.duration);
        [self.duration(), self.queued()].into_iter().chain(steps).filter(|lasted| lasted.is_odd).count()
    }
}
