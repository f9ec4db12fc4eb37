//! GitHub's side: which runs there are, what has come of them, and what they count as.

use crate::{
    github::{RunBuilder, workflow_run},
    harness::{Answer, now},
    intake::Intake,
};
use fastrand::Rng;

const TOTAL: &str = "github.actions.workflow_run.total";
const DURATION_TOTAL: &str = "github.actions.workflow_run.duration_second_total";

/// Each is a tag set, and known by its tag.
const WORKFLOWS: [&str; 4] = ["ci", "nightly", "release", "docs"];

/// A run, and with it all that it must count as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    id: u64,
    end: i64,
}

impl Run {
    /// A run that has just ended.
    pub(crate) fn new(id: u64, rng: &mut Rng) -> Self {
        Self { id, end: now() + rng.i64(-5..=1) }
    }

    fn workflow(self) -> &'static str {
        WORKFLOWS[usize::try_from(self.id).unwrap() % WORKFLOWS.len()]
    }

    fn duration_s(self) -> u32 {
        1 + u32::try_from(self.id % 97).unwrap()
    }

    pub(crate) fn payload(self) -> RunBuilder {
        let start = self.end - i64::from(self.duration_s());
        workflow_run(self.id).workflow(self.workflow()).started_at(start).updated_at(self.end)
    }
}

/// The intake has counted each of these runs once, with its duration, and nothing else.
#[track_caller]
pub(crate) fn assert_each_is_counted_once(intake: &Intake, answered: &[Run]) {
    intake.land_late();
    intake.assert_contract();
    assert_eq!((intake.overwritten(), intake.dropped()), (Vec::new(), Vec::new()));
    let stored = intake.stored();
    let sum = |metric: &str, workflow: &str| {
        let tag = format!("workflow_name:{workflow}");
        let is_of = |name: &str, tags: &[String]| name == metric && tags.contains(&tag);
        stored.iter().filter(|((name, tags, _), _)| is_of(name, tags)).map(|(_, value)| value).sum::<f64>()
    };
    for workflow in WORKFLOWS {
        let runs = || answered.iter().filter(|run| run.workflow() == workflow);
        assert_eq!(sum(TOTAL, workflow), runs().map(|_| 1.0).sum::<f64>(), "{workflow}");
        let seconds: f64 = runs().map(|run| f64::from(run.duration_s())).sum();
        assert_eq!(sum(DURATION_TOTAL, workflow), seconds, "{workflow}");
    }
    for metric in [TOTAL, DURATION_TOTAL] {
        let of_workflows: f64 = WORKFLOWS.map(|workflow| sum(metric, workflow)).iter().sum();
        assert_eq!(intake.count(metric), of_workflows, "{metric} of anything else");
    }
}

/// What GitHub knows of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Known {
    /// It was never delivered.
    Nothing,
    /// It was delivered, and the connection broke: it was accepted, or it was not.
    Broken,
    /// It was answered with a 2xx.
    Answered,
}

/// All runs; their IDs count from 1.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) runs: u64,
    pub(super) broken: Vec<Run>,
    pub(super) answered: Vec<Run>,
    pub(super) answers: usize,
    pub(super) redeliveries: usize,
}

impl Book {
    /// What is delivered next: as often as not what was answered before, else what was not, else a new run.
    pub(super) fn next(&mut self, rng: &mut Rng) -> (Run, Known) {
        if let Some(run) = rng.choice(&self.answered).filter(|_| rng.bool()) {
            return (*run, Known::Answered);
        }
        if let Some(run) = self.broken.pop() {
            return (run, Known::Broken);
        }
        self.runs += 1;
        (Run::new(self.runs, rng), Known::Nothing)
    }

    /// Notes an answer; whether the run was accepted by it. One that was answered before is only ever a duplicate, and
    /// one that was never delivered is none.
    pub(super) fn record(&mut self, run: Run, known: Known, answer: &Answer) -> bool {
        let is_accepted = match (answer.status, answer.says(), known) {
            (202, "accepted", Known::Nothing | Known::Broken) => true,
            (200, "duplicate", Known::Broken | Known::Answered) => false,
            _ => panic!("{run:?}, {known:?}: {answer:?}"),
        };
        self.answers += 1;
        match known {
            Known::Answered => self.redeliveries += 1,
            Known::Nothing | Known::Broken => self.answered.push(run),
        }
        is_accepted
    }

    /// Notes that there was no answer.
    pub(super) fn record_broken(&mut self, run: Run, known: Known) {
        if known != Known::Answered {
            self.broken.push(run);
        }
    }
}
