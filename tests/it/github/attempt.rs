//! An attempt of a run with its jobs, and the next attempt in which the failed ones run again.
//!
//! Invariant: all of its jobs have completed, and the run ended as they did.

use super::{JobBuilder, RunBuilder};

/// A run's attempt that has ended, and the jobs that it had.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct AttemptBuilder {
    run: RunBuilder,
    jobs: Vec<JobBuilder>,
}

/// Which ID GitHub tells of a job under that did not run again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CopiedId {
    /// As a copy with an ID of its own, made at the re-run.
    #[default]
    Fresh,
    /// The job itself once more, made when it was, as one of the new attempt.
    Old,
}

impl RunBuilder {
    /// This run with these jobs, which become [its](JobBuilder::of). It ends as they do.
    pub(crate) fn with_jobs(self, jobs: &[JobBuilder]) -> AttemptBuilder {
        let jobs: Vec<JobBuilder> = jobs.iter().map(|job| job.clone().of(&self)).collect();
        let ended: Vec<Option<&str>> = jobs.iter().map(JobBuilder::ended).collect();
        let conclusion = conclusion(&ended);
        AttemptBuilder { run: self.conclusion(Some(conclusion)), jobs }
    }
}

impl AttemptBuilder {
    /// An attempt as it is, whatever its jobs came to.
    pub(crate) fn new(run: RunBuilder, jobs: Vec<JobBuilder>) -> Self {
        Self { run, jobs }
    }

    /// The run.
    pub(crate) fn run(&self) -> &RunBuilder {
        &self.run
    }

    /// Its jobs, in the order in which they are told of.
    pub(crate) fn jobs(&self) -> &[JobBuilder] {
        &self.jobs
    }

    /// The next attempt, by "re-run failed jobs" at this second: those that failed run again, for as long as before, and
    /// `ends` says how each of them, a success as it is given, comes out; all others are told of once more, and first.
    pub(crate) fn failed_jobs_again(
        &self,
        second: i64,
        under: CopiedId,
        mut next_id: impl FnMut() -> u64,
        ends: impl Fn(JobBuilder) -> JobBuilder,
    ) -> Self {
        let (failed, others): (Vec<_>, Vec<_>) = self.jobs.iter().partition(|job| has_failed(job));
        let copies = others.into_iter().map(|job| match under {
            CopiedId::Fresh => job.copied(next_id(), second),
            CopiedId::Old => job.clone().following(),
        });
        let copies: Vec<JobBuilder> = copies.collect();
        let again: Vec<JobBuilder> = failed.into_iter().map(|job| ends(job.again(next_id(), second))).collect();
        let end = again.iter().map(JobBuilder::end).max().unwrap_or(second);
        let jobs = [copies, again].concat();
        let ended: Vec<Option<&str>> = jobs.iter().map(JobBuilder::ended).collect();
        let run = self.run.clone().attempt(self.run.attempt + 1).started_at(second).updated_at(end);
        Self { run: run.conclusion(Some(conclusion(&ended))), jobs }
    }
}

/// Whether "re-run failed jobs" runs it again.
fn has_failed(job: &JobBuilder) -> bool {
    matches!(job.ended(), Some("failure" | "cancelled" | "timed_out"))
}

/// How a run ends whose jobs ended so.
fn conclusion(jobs: &[Option<&str>]) -> &'static str {
    let has = |ends: &[&str]| jobs.iter().flatten().any(|end| ends.contains(end));
    if has(&["failure", "timed_out"]) {
        "failure"
    } else if has(&["cancelled"]) {
        "cancelled"
    } else if !jobs.is_empty() && jobs.iter().all(|end| *end == Some("skipped")) {
        "skipped"
    } else {
        "success"
    }
}
