use super::super::{Detail, parse};
use super::*;
use serde_json::{Value, json};

fn payload() -> Value {
    json!({
        "action": "completed",
        "workflow_job": {
            "id": 65_620_941_177_u64, "run_id": 30_433_642, "run_attempt": 1, "name": "test (stable)",
            "workflow_name": "CI", "head_branch": "main", "status": "completed", "conclusion": "success",
            "created_at": "2026-03-02T17:13:09Z", "started_at": "2026-03-02T17:13:17Z",
            "completed_at": "2026-03-02T17:14:07Z",
            "html_url": "https://github.com/acme/widgets/actions/runs/30433642/job/65620941177",
            "labels": ["self-hosted", null, "linux"], "runner_id": 7, "runner_name": "r7", "runner_group_name": "Big",
            "steps": [
                step("Check out", "success", "2026-03-02T17:13:17.000Z", "2026-03-02T17:13:22.500Z"),
                step("Publish", "skipped", "0001-01-01T00:00:00Z", "2026-03-02T17:14:06Z"),
            ],
        },
        "repository": {
            "id": 7, "name": "widgets", "full_name": "acme/widgets", "owner": {"login": "acme"}, "default_branch": "main"
        },
        "sender": {"login": "grace", "type": "User"}
    })
}

fn step(name: &str, conclusion: &str, started_at: &str, completed_at: &str) -> Value {
    json!({
        "name": name, "status": "completed", "conclusion": conclusion, "number": 1, "started_at": started_at,
        "completed_at": completed_at,
    })
}

fn read(payload: &Value) -> Event {
    parse(Some("workflow_job"), payload.to_string().as_bytes(), Detail::Jobs).unwrap()
}

/// The job that it tells of after a change.
fn changed(change: impl FnOnce(&mut Value)) -> Completed {
    let mut payload = payload();
    change(&mut payload["workflow_job"]);
    match read(&payload) {
        Event::Completed(completed) => *completed,
        other => panic!("not completed: {other:?}"),
    }
}

fn times(completed: &Completed) -> (Option<u64>, Option<u64>, usize) {
    (completed.queued().ms, completed.duration().ms, completed.odd_times(Detail::Steps))
}

#[test]
fn a_completed_job_comes_out_as_github_wrote_it() {
    let completed = changed(|_| {});
    assert_eq!(completed.key.to_string(), "jobs/65620941177");
    assert_eq!(completed.repository.to_string(), "acme/widgets");
    assert_eq!((completed.workflow.as_deref(), completed.branch.as_deref()), (Some("CI"), Some("main")));
    assert_eq!((completed.sender.as_deref(), completed.sender_type.as_deref()), (Some("grace"), Some("User")));
    assert!(completed.on_default_branch);
    assert_eq!(times(&completed), (Some(8_000), Some(50_000), 0));
    let job = completed.job.unwrap();
    assert_eq!((job.run, job.name.as_deref()), (Some(RunId(30_433_642)), Some("test (stable)")));
    assert_eq!(
        (job.labels, job.runner_group.as_deref()),
        (vec!["self-hosted".to_owned(), "linux".to_owned()], Some("Big"))
    );
    let steps: Vec<_> = job.steps.iter().map(|step| (step.name.as_deref().unwrap(), step.duration.ms)).collect();
    assert_eq!(steps, [("Check out", Some(5_500)), ("Publish", None)]);
}

#[test]
fn only_the_id_and_the_repositorys_name_are_required_of_a_job() {
    let least = json!({"action": "completed", "workflow_job": {"id": 1}, "repository": {"name": "w"}});
    let Event::Completed(completed) = read(&least) else { panic!("not completed") };
    assert_eq!(
        (completed.attempt(), completed.conclusion.as_deref(), completed.on_default_branch),
        (Attempt::FIRST, None, false)
    );
    assert_eq!(times(&completed), (None, None, 0));
    for (payload, why) in [
        (json!({"action": "completed", "workflow_job": null, "repository": {"name": "w"}}), "no workflow_job"),
        (
            json!({"action": "completed", "workflow_job": {"id": "1"}, "repository": {"name": "w"}}),
            "workflow_job.id is not a whole number of 64 bits",
        ),
        (json!({"action": "completed", "workflow_job": {"id": 1}, "repository": {"name": ""}}), "no repository.name"),
        (json!({"workflow_job": {"id": 1}, "repository": {"name": "w"}}), "no action"),
        (json!([]), "not an object in which each field stands once"),
    ] {
        assert_eq!(read(&payload), Event::Unusable(why));
    }
}

#[test]
fn a_field_of_a_job_of_another_type_or_null_is_a_missing_one() {
    for odd in [json!(null), json!(""), json!([1, {}]), json!({"a": [1]}), json!(-1), json!(1.5), json!(true)] {
        let completed = changed(|job| {
            for (name, field) in job.as_object_mut().unwrap() {
                if !["id", "steps"].contains(&name.as_str()) {
                    *field = odd.clone();
                }
            }
        });
        assert_eq!((times(&completed), &completed.workflow), ((None, None, 0), &None), "{odd}");
        let job = completed.job.unwrap();
        assert_eq!(
            (job.run, job.name, job.labels.len(), job.runner_group),
            (odd.as_u64().map(RunId), None, 0, None),
            "{odd}"
        );
    }
    assert_eq!(changed(|job| job["steps"] = json!("none")).job.unwrap().steps, []);
    let steps =
        changed(|job| job["steps"] = json!([null, 1, [], {}, {"name": 1, "status": "completed"}])).job.unwrap().steps;
    assert_eq!(steps.len(), 2, "objects alone are steps");
}

#[test]
fn where_jobs_are_not_counted_a_job_is_another_event() {
    let other = Event::NotOurs(NotOurs::Event("workflow_job".to_owned()));
    for body in [payload().to_string(), r#"{"workflow_job": null}"#.to_owned(), "[]".to_owned()] {
        assert_eq!(parse(Some("workflow_job"), body.as_bytes(), Detail::Runs).unwrap(), other, "{body}");
    }
    assert_eq!(parse(None, payload().to_string().as_bytes(), Detail::Runs).unwrap(), other);
}

#[test]
fn without_a_header_a_job_is_told_from_the_body() {
    let parsed = parse(None, payload().to_string().as_bytes(), Detail::Jobs).unwrap();
    assert!(matches!(parsed, Event::Completed(completed) if completed.job.is_some()));
}

#[test]
fn a_job_that_has_not_completed_is_ignored() {
    for action in ["queued", "waiting", "in_progress"] {
        let mut payload = payload();
        payload["action"] = json!(action);
        assert_eq!(read(&payload), Event::NotOurs(NotOurs::Action(action.to_owned())));
    }
}

#[test]
fn a_job_that_ended_before_its_attempt_made_it_has_not_run_again() {
    let told = |attempt: u32, created_at: &str, conclusion: &str| {
        let mut payload = payload();
        let job = &mut payload["workflow_job"];
        (job["run_attempt"], job["created_at"], job["conclusion"]) =
            (json!(attempt), json!(created_at), json!(conclusion));
        read(&payload) == Event::NotOurs(NotOurs::NotRunAgain)
    };
    for conclusion in ["success", "failure", "skipped", "cancelled"] {
        assert!(told(2, "2026-03-02T17:14:13Z", conclusion), "{conclusion}");
        assert!(told(7, "2026-03-05T08:00:00Z", conclusion), "{conclusion}");
        assert!(!told(1, "2026-03-05T08:00:00Z", conclusion), "there is no earlier attempt: {conclusion}");
        assert!(!told(2, "2026-03-02T17:13:30Z", conclusion), "it only started before it was made: {conclusion}");
        assert!(!told(2, "2026-03-02T17:13:09Z", conclusion), "{conclusion}");
    }
    assert!(told(2, "2026-03-02T17:14:07Z", "success"), "run again in the very second");
    assert!(!told(2, "2026-03-02T17:14:12Z", "skipped"), "what is skipped has times of somewhat before");
    let shortest = |created_at: &str| {
        let mut payload = payload();
        let job = &mut payload["workflow_job"];
        (job["run_attempt"], job["created_at"], job["started_at"]) = (json!(2), json!(created_at), Value::Null);
        read(&payload) == Event::NotOurs(NotOurs::NotRunAgain)
    };
    assert!(shortest("2026-03-02T17:14:09Z") && !shortest("2026-03-02T17:14:08Z"), "times are of whole seconds");
}

#[test]
fn a_job_that_never_ran_has_no_times() {
    let ended = |conclusion: &str, runner: Value, steps: Value| {
        times(&changed(|job| {
            (job["conclusion"], job["runner_name"], job["steps"]) = (json!(conclusion), runner, steps);
        }))
    };
    assert_eq!(ended("skipped", Value::Null, json!([])), (None, None, 0));
    for nobody in [Value::Null, json!("")] {
        assert_eq!(ended("cancelled", nobody, json!([])), (None, None, 0));
    }
    assert_eq!(ended("cancelled", json!("r7"), json!([])), (Some(8_000), Some(50_000), 0));
    assert_eq!(ended("cancelled", Value::Null, json!([{}])), (Some(8_000), Some(50_000), 0));
    assert_eq!(ended("success", Value::Null, json!([])), (Some(8_000), Some(50_000), 0));
}

#[test]
fn a_time_below_zero_counts_as_none_and_one_that_cannot_be_is_left_out() {
    let times_of = |created: &str, started: &str, completed: &str| {
        times(&changed(|job| {
            (job["created_at"], job["started_at"], job["completed_at"]) =
                (json!(created), json!(started), json!(completed));
        }))
    };
    assert_eq!(
        times_of("2026-03-02T17:13:19Z", "2026-03-02T17:13:17Z", "2026-03-02T17:14:07Z"),
        (Some(0), Some(50_000), 1)
    );
    assert_eq!(
        times_of("2026-03-02T17:13:09Z", "2026-03-02T17:14:08Z", "2026-03-02T17:14:07Z"),
        (Some(59_000), Some(0), 1)
    );
    assert_eq!(times_of("0001-01-01T00:00:00Z", "2026-03-02T17:14:07Z", "2026-03-02T17:14:07Z"), (None, Some(0), 1));
    assert_eq!(
        times_of("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-05T00:00:00Z"),
        (Some(0), Some(RUN_MAX_MS), 0)
    );
    assert_eq!(times_of("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-05T00:00:01Z"), (Some(0), None, 1));
}

#[test]
fn the_times_of_steps_are_looked_at_as_well() {
    let completed = changed(|job| {
        job["steps"] = json!([
            step("backwards", "success", "2026-03-02T17:13:20Z", "2026-03-02T17:13:17Z"),
            step("since the year 1", "failure", "0001-01-01T00:00:00Z", "2026-03-02T17:13:17Z"),
            {"name": "no times", "status": "completed", "conclusion": "success", "started_at": null},
            {"name": "never begun", "status": "queued", "conclusion": null},
            {"name": "broken off", "status": "in_progress", "conclusion": null, "started_at": "2026-03-02T17:13:17Z"},
        ]);
    });
    assert_eq!((completed.odd_times(Detail::Steps), completed.odd_times(Detail::Jobs)), (2, 0));
    let steps = completed.job.unwrap().steps;
    let told: Vec<_> = steps.iter().map(|step| (step.name.as_deref().unwrap(), step.duration.ms)).collect();
    assert_eq!(told, [("backwards", Some(0)), ("since the year 1", None), ("no times", None)]);
}

#[test]
fn of_very_many_steps_the_first_are_counted() {
    let step = step("x", "success", "2026-03-02T17:13:17Z", "2026-03-02T17:13:18Z");
    let job = changed(|job| job["steps"] = json!(vec![step; STEPS_MAX + 3])).job.unwrap();
    assert_eq!((job.steps.len(), job.steps_left_out), (STEPS_MAX, 3));
}
