//! A job that has completed, out of GitHub's `workflow_job`.

use super::{
    Attempt, Completed, Event, Job, JobId, Key, Lasted, NotOurs, Payload, RUN_MAX_MS, RunId, Step, attempt,
    loose::{Leaf, List, Object},
    time, url,
};
use jiff::Timestamp;
use serde::Deserialize;

/// The most steps of one job that are counted: their series go out in one request.
pub const STEPS_MAX: usize = 400;

/// How much earlier than it was made a job that ran again may seem to have started or ended: times are of whole seconds.
const ROUNDED_MS: i64 = 1000;

/// The same of one that was skipped again, whose times GitHub sets somewhat before it makes the job.
const SKIPPED_BEFORE_MS: i64 = 5000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WorkflowJob<'a> {
    #[serde(borrow)]
    id: Leaf<'a>,
    #[serde(borrow)]
    run_id: Leaf<'a>,
    #[serde(borrow)]
    run_attempt: Leaf<'a>,
    #[serde(borrow)]
    name: Leaf<'a>,
    #[serde(borrow)]
    workflow_name: Leaf<'a>,
    #[serde(borrow)]
    head_branch: Leaf<'a>,
    #[serde(borrow)]
    conclusion: Leaf<'a>,
    #[serde(borrow)]
    created_at: Leaf<'a>,
    #[serde(borrow)]
    started_at: Leaf<'a>,
    #[serde(borrow)]
    completed_at: Leaf<'a>,
    #[serde(borrow)]
    html_url: Leaf<'a>,
    #[serde(borrow)]
    labels: List<Leaf<'a>>,
    #[serde(borrow)]
    runner_name: Leaf<'a>,
    #[serde(borrow)]
    runner_group_name: Leaf<'a>,
    #[serde(borrow)]
    steps: List<Object<WorkflowStep<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WorkflowStep<'a> {
    #[serde(borrow)]
    name: Leaf<'a>,
    #[serde(borrow)]
    status: Leaf<'a>,
    #[serde(borrow)]
    conclusion: Leaf<'a>,
    #[serde(borrow)]
    started_at: Leaf<'a>,
    #[serde(borrow)]
    completed_at: Leaf<'a>,
}

impl WorkflowJob<'_> {
    /// The job whose completion `payload` tells of.
    pub(super) fn event(&self, payload: &Payload<'_>) -> Event {
        let Some(id) = self.id.int() else {
            return Event::Unusable("workflow_job.id is not a whole number of 64 bits");
        };
        let Some(repository) = payload.repository_name() else {
            return Event::Unusable("no repository.name");
        };
        let completed = Completed {
            key: Key::Job(JobId(id)),
            repository,
            workflow: self.workflow_name.owned(),
            workflow_path: None,
            event: None,
            branch: self.head_branch.owned(),
            on_default_branch: payload.is_default_branch(&self.head_branch),
            conclusion: self.conclusion.owned(),
            sender_type: payload.sender_type(),
            sender: payload.sender_login(),
            actor: None,
            triggering_actor: None,
            started_at: time(&self.started_at),
            ended_at: time(&self.completed_at),
            url: url(&self.html_url),
            job: Some(self.job()),
        };
        if has_not_run_again(&completed) {
            return Event::NotOurs(NotOurs::NotRunAgain);
        }
        Event::Completed(Box::new(completed))
    }

    fn job(&self) -> Job {
        let mut steps: Vec<Step> =
            self.steps.kept.iter().filter_map(|step| step.0.as_ref()).filter_map(WorkflowStep::step).collect();
        let steps_left_out = steps.len().saturating_sub(STEPS_MAX) + self.steps.more;
        steps.truncate(STEPS_MAX);
        Job {
            run: self.run_id.int().map(RunId),
            attempt: attempt(&self.run_attempt),
            name: self.name.owned(),
            labels: self.labels.kept.iter().filter_map(Leaf::owned).collect(),
            runner: self.runner_name.owned(),
            runner_group: self.runner_group_name.owned(),
            created_at: time(&self.created_at),
            ran: self.ran(),
            steps,
            steps_left_out,
        }
    }

    fn ran(&self) -> bool {
        match self.conclusion.text() {
            Some("skipped") => false,
            Some("cancelled") => self.runner_name.text().is_some() || !self.steps.kept.is_empty(),
            _ => true,
        }
    }
}

impl WorkflowStep<'_> {
    /// The step, unless it never completed.
    fn step(&self) -> Option<Step> {
        if self.conclusion.text().is_none() && self.status.text().is_some_and(|status| status != "completed") {
            return None;
        }
        let lasted = || Lasted::between(time(&self.started_at), time(&self.completed_at)).at_most(RUN_MAX_MS);
        Some(Step {
            name: self.name.owned(),
            conclusion: self.conclusion.owned(),
            duration: if self.conclusion.text() == Some("skipped") { Lasted::default() } else { lasted() },
        })
    }
}

/// Where only failed jobs are run again, GitHub tells once more of the others, as of jobs of the new attempt: made by the
/// re-run, with the times at which they ran before. So they ended before they were made, and started long before.
fn has_not_run_again(completed: &Completed) -> bool {
    let Some((made, job)) = completed.job.as_ref().and_then(|job| Some((job.created_at?, job))) else {
        return false;
    };
    let before_ms = |time: Option<Timestamp>| time.map(|time| made.as_millisecond() - time.as_millisecond());
    let (started, ended) = (before_ms(completed.started_at), before_ms(completed.ended_at));
    let is_older = match (started, ended) {
        (_, None) => false,
        (_, Some(ended)) if !job.ran => ended > SKIPPED_BEFORE_MS,
        (Some(started), Some(0..)) if started > ROUNDED_MS => true,
        (_, Some(ended)) => ended > ROUNDED_MS,
    };
    job.attempt > Attempt::FIRST && is_older
}

#[cfg(test)]
mod tests;
