//! Steps of a job, as they stand in its payload.
//!
//! Invariant: a step that has not completed has no conclusion and no end, and one that has not begun no times at all.

use super::{PAYLOAD, RECORDED_TIMES, time};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A step in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) struct Step {
    name: String,
    status: String,
    conclusion: Option<String>,
    started_at: Option<i64>,
    completed_at: Option<i64>,
}

impl Step {
    /// A step that ended so, from one second since 1970 to another. A skipped one begins and ends at once.
    pub(crate) fn new(name: &str, conclusion: &str, [started_at, completed_at]: [i64; 2]) -> Self {
        Self {
            name: name.to_owned(),
            status: "completed".to_owned(),
            conclusion: Some(conclusion.to_owned()),
            started_at: Some(started_at),
            completed_at: Some(completed_at),
        }
    }

    /// A step that never completed: it began at this second since 1970, or not at all.
    pub(crate) fn unfinished(name: &str, started_at: Option<i64>) -> Self {
        let status = if started_at.is_some() { "in_progress" } else { "queued" };
        Self { name: name.to_owned(), status: status.to_owned(), conclusion: None, started_at, completed_at: None }
    }

    /// The same step so much later, succeeded.
    pub(super) fn again(&self, move_s: i64) -> Self {
        let started_at = self.started_at.unwrap_or_default() + move_s;
        let completed_at = self.completed_at.map_or(started_at, |end| end + move_s);
        Self::new(&self.name, "success", [started_at, completed_at])
    }
}

/// The `steps` of a payload.
pub(super) fn shown(steps: &[Step]) -> Value {
    let milliseconds = |second: i64| time(second).replace('Z', ".000Z");
    let shown = steps.iter().zip(1..).map(|(step, number)| {
        json!({
            "name": step.name,
            "status": step.status,
            "conclusion": step.conclusion,
            "number": number,
            "started_at": step.started_at.map(milliseconds),
            "completed_at": step.completed_at.map(milliseconds),
        })
    });
    shown.collect()
}

/// The recorded steps in a job of these times. Where the job did not succeed, its longest work did not.
pub(super) fn recorded([from, to]: [i64; 2], ended: Option<&str>) -> Vec<Step> {
    let recording: Value = serde_json::from_str(&PAYLOAD).expect("the payload is JSON");
    let steps = recording.pointer("/workflow_job/steps").and_then(Value::as_array).expect("the fixture has steps");
    let whole_s = RECORDED_TIMES.completed - RECORDED_TIMES.started;
    let at = |time: &Value| {
        let recorded: Timestamp = time.as_str().and_then(|time| time.parse().ok()).expect("a time");
        from + (recorded.as_second() - RECORDED_TIMES.started) * (to - from) / whole_s
    };
    let conclusion = |name: &str| match ended {
        Some("failure") if name == "Test" => "failure",
        Some("cancelled" | "timed_out") if name == "Test" => "cancelled",
        _ => "success",
    };
    let step = |step: &Value| {
        let name = step["name"].as_str().expect("a name");
        Step::new(name, conclusion(name), [at(&step["started_at"]), at(&step["completed_at"])])
    };
    steps.iter().map(step).collect()
}
