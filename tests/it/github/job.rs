//! Payloads of `workflow_job`: a job of a run with its steps, from the moment it is queued.
//!
//! Invariant: what a job has only later it does not have yet: a runner and steps once it is begun, an end once it is over.

mod step;
#[cfg(test)]
mod tests;

use super::{Event, RECORDED_OWNER, RECORDED_REPOSITORY, RunBuilder, payload_of, put, renamed, time};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(crate) use step::Step;

const RECORDED: &str = include_str!("../../../fixtures/23-workflow-job.json");

/// What stands in the recorded payload, also within its addresses.
const RECORDED_ID: &str = "65620941177";
const RECORDED_RUN_ID: u64 = 22_640_158_713;
const RECORDED_TIMES: Times = Times { created: 1_772_442_117, started: 1_772_442_125, completed: 1_772_442_385 };

/// What is null while there is no runner.
const RUNNER: [&str; 4] = [
    "/workflow_job/runner_id",
    "/workflow_job/runner_name",
    "/workflow_job/runner_group_id",
    "/workflow_job/runner_group_name",
];

static PAYLOAD: LazyLock<String> = LazyLock::new(|| payload_of(RECORDED));

/// A completed job with this ID: of attempt 1 of the recorded run, succeeded, with the times and steps of the recording.
pub(crate) fn workflow_job(id: u64) -> JobBuilder {
    JobBuilder {
        id,
        run_id: RECORDED_RUN_ID,
        attempt: 1,
        action: "completed".to_owned(),
        conclusion: Some("success".to_owned()),
        name: "test (stable)".to_owned(),
        owner: RECORDED_OWNER.to_owned(),
        repo: RECORDED_REPOSITORY.to_owned(),
        labels: vec!["ubuntu-latest".to_owned()],
        runner_group: Some("GitHub Actions".to_owned()),
        has_runner: true,
        created_at: None,
        started_at: None,
        completed_at: None,
        steps: None,
        set: Vec::new(),
    }
}

/// A payload in the making.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct JobBuilder {
    id: u64,
    run_id: u64,
    attempt: u32,
    action: String,
    conclusion: Option<String>,
    name: String,
    owner: String,
    repo: String,
    labels: Vec<String>,
    runner_group: Option<String>,
    has_runner: bool,
    created_at: Option<i64>,
    started_at: Option<i64>,
    completed_at: Option<i64>,
    /// Without any, the recorded ones fill the job's time.
    steps: Option<Vec<Step>>,
    set: Vec<(&'static str, Value)>,
}

/// When a job was made, got its runner and ended.
#[derive(Debug, Clone, Copy)]
struct Times {
    created: i64,
    started: i64,
    completed: i64,
}

impl Event for JobBuilder {
    const NAME: &'static str = "workflow_job";

    fn body(&self) -> String {
        Self::body(self)
    }
}

impl JobBuilder {
    /// Its ID.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether it has this name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name
    }

    /// The ID of its run.
    pub(crate) fn run(mut self, id: u64) -> Self {
        self.run_id = id;
        self
    }

    /// `run_attempt`.
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Makes it a job of this attempt of a run: in its repository, on its branch, by its sender; and of the run's whole time,
    /// as far as no times are given. What was [set](Self::set) stays.
    pub(crate) fn of(self, run: &RunBuilder) -> Self {
        let payload: Value = serde_json::from_str(&run.body()).expect("the payload is JSON");
        self.of_payload(&payload)
    }

    /// The same, for the payload of the run.
    pub(crate) fn of_payload(mut self, payload: &Value) -> Self {
        let at = |pointer: &str| payload.pointer(pointer).cloned().unwrap_or_default();
        let text = |pointer: &str| at(pointer).as_str().unwrap_or_default().to_owned();
        let second = |pointer: &str| text(pointer).parse::<Timestamp>().ok().map(Timestamp::as_second);
        let number = |pointer: &str| at(pointer).as_u64().expect("a run has an ID and an attempt");
        self.run_id = number("/workflow_run/id");
        self.attempt = u32::try_from(number("/workflow_run/run_attempt")).expect("few attempts");
        (self.owner, self.repo) = (text("/repository/owner/login"), text("/repository/name"));
        self.created_at = self.created_at.or(second("/workflow_run/run_started_at"));
        self.started_at = self.started_at.or(self.created_at);
        self.completed_at = self.completed_at.or(second("/workflow_run/updated_at"));
        let taken = [
            ("/workflow_job/workflow_name", at("/workflow_run/name")),
            ("/workflow_job/head_branch", at("/workflow_run/head_branch")),
            ("/workflow_job/head_sha", at("/workflow_run/head_sha")),
            ("/repository", at("/repository")),
            ("/organization", at("/organization")),
            ("/sender", at("/sender")),
        ];
        self.set.splice(0..0, taken);
        self
    }

    /// `completed`, `queued`, `waiting` or `in_progress`; its status is the same.
    pub(crate) fn action(mut self, action: &str) -> Self {
        action.clone_into(&mut self.action);
        self
    }

    /// How it ended.
    pub(crate) fn conclusion(mut self, conclusion: Option<&str>) -> Self {
        self.conclusion = conclusion.map(str::to_owned);
        self
    }

    /// Its name, with what a matrix adds to it.
    pub(crate) fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The login of the repository's owner, everywhere.
    pub(crate) fn owner(mut self, owner: &str) -> Self {
        owner.clone_into(&mut self.owner);
        self
    }

    /// The repository's name, everywhere.
    pub(crate) fn repo(mut self, repo: &str) -> Self {
        repo.clone_into(&mut self.repo);
        self
    }

    /// `workflow_name`.
    pub(crate) fn workflow(self, name: &str) -> Self {
        self.set("/workflow_job/workflow_name", json!(name))
    }

    /// `head_branch`.
    pub(crate) fn branch(self, branch: &str) -> Self {
        self.set("/workflow_job/head_branch", json!(branch))
    }

    /// The repository's default branch.
    pub(crate) fn default_branch(self, branch: &str) -> Self {
        self.set("/repository/default_branch", json!(branch))
    }

    /// `User`, `Bot` or `Organization`.
    pub(crate) fn sender_type(self, kind: &str) -> Self {
        self.set("/sender/type", json!(kind))
    }

    /// What it asks of a runner.
    pub(crate) fn labels(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(|&label| label.to_owned()).collect();
        self
    }

    /// The name of its runner's group.
    pub(crate) fn runner_group(mut self, name: Option<&str>) -> Self {
        self.runner_group = name.map(str::to_owned);
        self
    }

    /// It never had a runner, so it has no steps: skipped, or cancelled while it was queued.
    pub(crate) fn without_runner(mut self) -> Self {
        self.has_runner = false;
        self
    }

    /// `created_at`, in seconds since 1970.
    pub(crate) fn created_at(mut self, second: i64) -> Self {
        self.created_at = Some(second);
        self
    }

    /// `started_at`, in seconds since 1970.
    pub(crate) fn started_at(mut self, second: i64) -> Self {
        self.started_at = Some(second);
        self
    }

    /// `completed_at`, in seconds since 1970.
    pub(crate) fn completed_at(mut self, second: i64) -> Self {
        self.completed_at = Some(second);
        self
    }

    /// Its steps, in their order.
    pub(crate) fn steps(mut self, steps: &[Step]) -> Self {
        self.steps = Some(steps.to_vec());
        self
    }

    /// Sets any field of the payload, by its JSON pointer. It is done last, and the field must be there.
    pub(crate) fn set(mut self, pointer: &'static str, value: Value) -> Self {
        self.set.push((pointer, value));
        self
    }

    /// The JSON text, as the body of a delivery.
    pub(crate) fn body(&self) -> String {
        let text = renamed(&PAYLOAD, self.run_id, &self.owner, &self.repo).replace(RECORDED_ID, &self.id.to_string());
        let mut payload: Value = serde_json::from_str(&text).expect("the payload is still JSON");
        for (pointer, value) in self.fields().into_iter().chain(self.set.iter().cloned()) {
            put(&mut payload, pointer, value);
        }
        payload.to_string()
    }

    /// How it ended, once it has.
    pub(super) fn ended(&self) -> Option<&str> {
        self.conclusion.as_deref().filter(|_| self.action == "completed")
    }

    /// The end that it has or will have, in seconds since 1970.
    pub(super) fn end(&self) -> i64 {
        self.times().completed
    }

    /// Its run, as long as nobody has told of its end.
    pub(crate) fn unfinished_run(&self) -> RunBuilder {
        let made_at = self.times().created;
        let run = super::workflow_run(self.run_id).attempt(self.attempt).owner(&self.owner).repo(&self.repo);
        run.action("in_progress").started_at(made_at).updated_at(made_at)
    }

    /// What a re-run that leaves it alone tells of it: another job that was made at the re-run and ended before.
    pub(super) fn copied(&self, id: u64, second: i64) -> Self {
        Self { id, created_at: Some(second), ..self.clone().following() }
    }

    /// The same job as one of the next attempt.
    pub(super) fn following(self) -> Self {
        Self { attempt: self.attempt + 1, ..self }
    }

    /// A job that runs once more from this second on, as long as before, and succeeds with each of its steps.
    pub(super) fn again(&self, id: u64, second: i64) -> Self {
        let times = self.times();
        let move_s = second - times.created.min(times.started);
        let steps = self.steps.as_ref().filter(|steps| !steps.is_empty());
        Self {
            id,
            action: "completed".to_owned(),
            conclusion: Some("success".to_owned()),
            has_runner: true,
            created_at: Some(second),
            started_at: Some(times.started + move_s),
            completed_at: Some(times.completed + move_s),
            steps: steps.map(|steps| steps.iter().map(|step| step.again(move_s)).collect()),
            ..self.clone().following()
        }
    }

    fn times(&self) -> Times {
        Times {
            created: self.created_at.unwrap_or(RECORDED_TIMES.created),
            started: self.started_at.unwrap_or(RECORDED_TIMES.started),
            completed: self.completed_at.unwrap_or(RECORDED_TIMES.completed),
        }
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let times = self.times();
        let (is_over, is_begun) = (self.action == "completed", ["completed", "in_progress"].contains(&&*self.action));
        let started_at = if is_begun { times.started } else { times.created };
        let mut fields = vec![
            ("/action", json!(self.action)),
            ("/workflow_job/run_attempt", json!(self.attempt)),
            ("/workflow_job/status", json!(self.action)),
            ("/workflow_job/conclusion", json!(self.ended())),
            ("/workflow_job/created_at", json!(time(times.created))),
            ("/workflow_job/started_at", json!(time(started_at))),
            ("/workflow_job/completed_at", json!(is_over.then(|| time(times.completed)))),
            ("/workflow_job/name", json!(self.name)),
            ("/workflow_job/labels", json!(self.labels)),
            ("/workflow_job/runner_group_name", json!(self.runner_group)),
        ];
        if self.runner_group.is_none() {
            fields.push(("/workflow_job/runner_group_id", Value::Null));
        }
        if is_begun && self.has_runner {
            fields.push(("/workflow_job/steps", step::shown(&self.steps_now(is_over))));
            return fields;
        }
        fields.push(("/workflow_job/steps", json!([])));
        fields.extend(RUNNER.map(|pointer| (pointer, Value::Null)));
        fields
    }

    fn steps_now(&self, is_over: bool) -> Vec<Step> {
        let Times { started, completed, .. } = self.times();
        match &self.steps {
            Some(steps) => steps.clone(),
            None if is_over => step::recorded([started, completed], self.ended()),
            None => vec![Step::unfinished("Set up job", Some(started))],
        }
    }
}
