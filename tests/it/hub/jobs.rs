//! Jobs of attempts: what happens to them, and the attempts that run some of them again.
//!
//! Invariant: an attempt that was given jobs, or told of one, has just these; any other has one, of its whole time.

use super::{
    actions::{Attempt, Happened, Happens},
    shapes,
    state::State,
};
use crate::github::{self, AttemptBuilder, Event, JobBuilder};
use serde_json::Value;

/// Conclusions that a job can have; a run has more.
const JOB_CONCLUSIONS: [&str; 7] =
    ["success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"];

/// A job of an attempt.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) builder: JobBuilder,
    /// As the API has it.
    pub(super) object: Value,
}

impl Job {
    /// The job that an attempt has where none was given: from one second to another, or of the run's whole time; in progress
    /// if it has no end.
    pub(super) fn of_run(id: u64, run: &Value, times: Option<(i64, Option<i64>)>, base: &str) -> Self {
        let ended = run["workflow_run"]["conclusion"].as_str();
        let ended = ended.map(|known| if JOB_CONCLUSIONS.contains(&known) { known } else { "failure" });
        let mut builder = github::workflow_job(id).conclusion(ended);
        let mut is_over = run["action"] == "completed";
        if let Some((from, to)) = times {
            is_over = to.is_some();
            builder = builder.started_at(from).completed_at(to.unwrap_or(from));
        }
        if !is_over {
            builder = builder.action("in_progress");
        }
        let builder = builder.of_payload(run);
        let payload: Value = serde_json::from_str(&builder.body()).expect("the payload is JSON");
        Self { builder, object: shapes::at(&payload["workflow_job"], base) }
    }
}

impl Happens for JobBuilder {
    /// From now on its attempt has this job, as it is now. A run that nobody has told of is in progress.
    fn happen(&self, state: &mut State) -> Vec<Happened> {
        let body = self.body();
        let payload: Value = serde_json::from_str(&body).expect("the payload is JSON");
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let index = state.repository_made(text("/repository/owner/login"), text("/repository/name"));
        let job = &payload["workflow_job"];
        let [run_id, number] = ["run_id", "run_attempt"].map(|field| job[field].as_u64().expect("a number"));
        if state.repositories[index].attempt_mut(run_id, number).is_none() {
            let run = self.unfinished_run().workflow(text("/workflow_job/workflow_name"));
            drop(run.branch(text("/workflow_job/head_branch")).happen(state));
        }
        let base = state.base.clone();
        let repository = &mut state.repositories[index];
        let payload: Value =
            serde_json::from_str(&shapes::with_ids(&body, repository)).expect("the payload is still JSON");
        let happened = Happened {
            repository_id: repository.id,
            organisation_id: repository.organisation_id,
            event: Self::NAME,
            payload,
        };
        let object = shapes::at(&happened.payload["workflow_job"], &base);
        let attempt = repository.attempt_mut(run_id, number).expect("it was made");
        attempt.keep(Job { builder: self.clone(), object });
        vec![happened]
    }
}

impl Happens for AttemptBuilder {
    /// Its jobs end, one after the other, while the run is in progress, and then it ends.
    fn happen(&self, state: &mut State) -> Vec<Happened> {
        drop(self.run().clone().action("in_progress").happen(state));
        let mut happened: Vec<Happened> = self.jobs().iter().flat_map(|job| job.happen(state)).collect();
        happened.extend(self.run().happen(state));
        happened
    }
}

impl Attempt {
    /// Has this job, in the place of what was known of it.
    fn keep(&mut self, job: Job) {
        if !self.has_own_jobs {
            self.jobs.clear();
            self.has_own_jobs = true;
        }
        match self.jobs.iter_mut().find(|known| known.builder.id() == job.builder.id()) {
            Some(known) => *known = job,
            None => self.jobs.push(job),
        }
    }
}

impl State {
    /// The attempt after the latest of a run, by "re-run failed jobs". Nothing has happened in it yet.
    pub(super) fn failed_jobs_again(
        &mut self,
        run: u64,
        second: i64,
        ends: impl Fn(JobBuilder) -> JobBuilder,
    ) -> AttemptBuilder {
        let mut runs = self.repositories.iter().flat_map(|repository| &repository.runs);
        let known = runs.find(|known| known.id == run).and_then(|known| known.attempts.values().next_back());
        let latest = known.unwrap_or_else(|| panic!("there is no run {run}"));
        let jobs = latest.jobs.iter().map(|job| job.builder.clone()).collect();
        let attempt = AttemptBuilder::new(latest.run.clone(), jobs);
        let copied = self.copied_id;
        attempt.failed_jobs_again(second, copied, || self.next_id(), ends)
    }
}
