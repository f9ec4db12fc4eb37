//! The delivery of a run that was rejected, made from its tags: `replay` takes it in again.
//!
//! Invariant: it derives to the run as it was. Datadog's form of a tag is kept by putting it in again.

use crate::{
    event::{JobId, Key, RUN_MAX_MS, RunKey},
    metrics::{Run, TagSet},
};
use serde_json::{Value, json};

/// The request of a delivery that derives to `run` again.
pub(super) fn delivery_of(run: &Run) -> Value {
    let event = run.key.event();
    let object = match run.key {
        Key::Run(key) => workflow_run(run, key),
        Key::Job(key) => workflow_job(run, key),
    };
    let tags = Tags(&run.tag_set);
    let default_branch = tags.is_default_branch().then(|| tags.branch()).flatten();
    let mut payload = json!({
        "action": "completed",
        "workflow": {"name": tags.name("workflow_name"), "path": tags.get("workflow_path")},
        "repository": {
            "id": 0,
            "name": tags.name("repository_name"),
            "owner": {"login": tags.get("repository_owner")},
            "default_branch": default_branch,
        },
        "sender": {"login": tags.get("sender"), "type": tags.get("sender_type")},
    });
    if let Some(fields) = payload.as_object_mut() {
        fields.insert(event.to_owned(), object);
    }
    json!({"headers": {"Content-Type": "application/json", "X-GitHub-Event": event}, "payload": payload})
}

fn workflow_run(run: &Run, key: RunKey) -> Value {
    let tags = Tags(&run.tag_set);
    let end_ms = run.end.saturating_mul(1000);
    let start = run.duration_ms.and_then(|lasted| time(end_ms.saturating_sub_unsigned(lasted)));
    json!({
        "id": key.id.0,
        "run_attempt": key.attempt.0,
        "event": tags.get("event"),
        "head_branch": tags.branch(),
        "conclusion": tags.conclusion(),
        "run_started_at": start,
        "updated_at": time(end_ms),
        "actor": {"login": tags.get("actor")},
        "triggering_actor": {"login": tags.get("triggering_actor")},
        "head_repository": if tags.is_default_branch() { json!({"id": 0}) } else { Value::Null },
    })
}

fn workflow_job(run: &Run, key: JobId) -> Value {
    let tags = Tags(&run.tag_set);
    let queued_ms = run.queued_ms();
    let end_ms = run.end.saturating_mul(1000);
    // One that waited and has no duration ran for longer than can be believed.
    let lasted = run.duration_ms.or(queued_ms.map(|_| RUN_MAX_MS + 1));
    let start_ms = lasted.map(|lasted| end_ms.saturating_sub_unsigned(lasted));
    let made_ms = start_ms.zip(queued_ms).map(|(start, queued)| start.saturating_sub_unsigned(queued));
    let steps = run.tag_set.steps.iter().zip(run.steps_ms()).map(|(step, ms)| {
        json!({
            "name": value(step, "step_name"),
            "status": "completed",
            "conclusion": value(step, "conclusion").filter(|conclusion| *conclusion != "unknown"),
            "started_at": ms.and_then(|ms| time(end_ms.saturating_sub_unsigned(ms))),
            "completed_at": time(end_ms),
        })
    });
    json!({
        "id": key.0,
        "run_attempt": tags.get("run_attempt").and_then(|attempt| attempt.parse::<u32>().ok()),
        "name": tags.get("job_name"),
        "workflow_name": tags.name("workflow_name"),
        "head_branch": tags.branch(),
        "conclusion": tags.conclusion(),
        "created_at": made_ms.and_then(time),
        "started_at": start_ms.and_then(time),
        "completed_at": time(end_ms),
        "labels": tags.get("runs_on").into_iter().collect::<Vec<_>>(),
        // One that was cancelled before it had a runner has no times.
        "runner_name": lasted.map(|_| "unknown"),
        "runner_group_name": tags.get("runner_group"),
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn time(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|time| time.to_string())
}

fn value<'t>(tags: &'t [String], key: &str) -> Option<&'t str> {
    tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix(':'))
}

/// What the tags tell of their run.
struct Tags<'t>(&'t TagSet);

impl<'t> Tags<'t> {
    fn get(&self, key: &str) -> Option<&'t str> {
        value(&self.0.tags, key)
    }

    /// A name that left no tag is given as one that leaves none either: without a name, another would take its place.
    fn name(&self, key: &str) -> &'t str {
        self.get(key).unwrap_or("_")
    }

    fn conclusion(&self) -> Option<&'t str> {
        self.get("conclusion").filter(|conclusion| *conclusion != "unknown")
    }

    fn is_default_branch(&self) -> bool {
        self.get("default_branch") == Some("true")
    }

    fn branch(&self) -> Option<&'t str> {
        if self.is_default_branch() { Some(self.name("branch")) } else { self.get("branch") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Detail, Event, Recorded, parse},
        metrics::{
            ExtraTag, Tagging,
            tests::{any, tagging},
        },
    };
    use proptest::prelude::*;

    /// The run that a line for people derives to when it is replayed.
    fn replayed(run: &Run, tagging: &Tagging) -> Run {
        let line = json!({"key": run.key, "request": delivery_of(run)}).to_string();
        let recorded = Recorded::read(&line).unwrap();
        match parse(recorded.event.as_deref(), recorded.body().as_bytes(), tagging.detail).unwrap() {
            Event::Completed(completed) => tagging.run(&completed, 0),
            other => panic!("not completed: {other:?}"),
        }
    }

    fn with_all_extra_tags(constant: Vec<String>) -> Tagging {
        let extra = vec![
            ExtraTag::RunAttempt,
            ExtraTag::Sender,
            ExtraTag::Actor,
            ExtraTag::TriggeringActor,
            ExtraTag::WorkflowPath,
        ];
        Tagging { extra, constant, ..tagging() }
    }

    #[test]
    fn a_run_whose_names_have_nothing_that_a_tag_keeps_is_replayed_as_it_was() {
        let body = json!({
            "action": "completed",
            "workflow_run": {"id": 1, "head_branch": "__", "conclusion": "_", "head_repository": {"id": 7}},
            "workflow": {"name": "\u{1f680}", "path": ".github/workflows/ship.yml"},
            "repository": {"id": 7, "name": "_", "default_branch": "__"},
        });
        let Event::Completed(completed) =
            parse(Some("workflow_run"), body.to_string().as_bytes(), Detail::Runs).unwrap()
        else {
            panic!("not completed");
        };
        for tagging in [tagging(), with_all_extra_tags(Vec::new())] {
            let run = tagging.run(&completed, 1_772_471_647);
            assert!(run.tag_set.tags.contains(&"default_branch:true".to_owned()));
            assert_eq!(replayed(&run, &tagging), run);
        }
    }

    #[test]
    fn a_branch_that_was_asked_for_is_replayed_by_its_name() {
        let branches = globset::GlobSetBuilder::new().add(globset::Glob::new("release/*").unwrap()).build().unwrap();
        let tagging = Tagging { branches, ..tagging() };
        let tags = ["branch:release/1", "conclusion:success", "default_branch:false", "repository_name:w"];
        let tag_set = TagSet::of_runs(tagging.prefix.clone(), tags.map(str::to_owned).to_vec());
        let key = "30433642/attempts/2".parse().unwrap();
        let run = Run { key, end: 1_772_471_647, duration_ms: Some(61_500), job: None, tag_set: tag_set.into() };
        assert_eq!(replayed(&run, &tagging), run);
    }

    proptest! {
        #[test]
        fn any_run_is_replayed_as_it_was(
            completed in any::completed(),
            constant in prop::collection::vec("env:[a-z]{1,5}|team:\\PC{0,20}", 0..3),
            accepted_at: u32,
        ) {
            let detail = Detail::Steps;
            for tagging in [Tagging { detail, ..tagging() }, Tagging { detail, ..with_all_extra_tags(constant) }] {
                let run = tagging.run(&completed, accepted_at.into());
                prop_assert_eq!(replayed(&run, &tagging), run);
            }
        }
    }
}
