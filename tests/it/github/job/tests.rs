//! That a job has what GitHub sends of one.

use super::*;

fn parsed(job: &JobBuilder) -> Value {
    serde_json::from_str(&job.body()).unwrap()
}

#[test]
fn an_unchanged_job_is_the_recorded_one() {
    let recorded: Value = serde_json::from_str(&PAYLOAD).unwrap();
    assert_eq!(parsed(&workflow_job(RECORDED_ID.parse().unwrap())), recorded);
}

#[test]
fn what_was_set_stands_in_the_payload_and_nothing_of_the_recording_beside_it() {
    let job = workflow_job(u64::MAX)
        .run(17)
        .attempt(3)
        .conclusion(Some("failure"))
        .name("build (\"linux\", 3)")
        .owner("Widget \"Works\"")
        .repo("gears")
        .workflow("Nightly")
        .branch("topic/a")
        .default_branch("trunk")
        .sender_type("Bot")
        .labels(&["self-hosted", "linux"])
        .runner_group(Some("Large"))
        .created_at(1_800_000_000)
        .started_at(1_800_000_005)
        .completed_at(1_800_000_042)
        .steps(&[Step::new("Build", "failure", [1_800_000_006, 1_800_000_040]), Step::unfinished("Post", None)])
        .set("/workflow_job/runner_name", json!("big-1"));
    let payload = parsed(&job);
    for (pointer, expected) in [
        ("/workflow_job/id", json!(u64::MAX)),
        ("/workflow_job/run_id", json!(17)),
        ("/workflow_job/run_attempt", json!(3)),
        ("/workflow_job/conclusion", json!("failure")),
        ("/workflow_job/name", json!("build (\"linux\", 3)")),
        ("/workflow_job/workflow_name", json!("Nightly")),
        ("/workflow_job/head_branch", json!("topic/a")),
        ("/workflow_job/labels", json!(["self-hosted", "linux"])),
        ("/workflow_job/runner_group_name", json!("Large")),
        ("/workflow_job/runner_name", json!("big-1")),
        ("/workflow_job/created_at", json!("2027-01-15T08:00:00Z")),
        ("/workflow_job/started_at", json!("2027-01-15T08:00:05Z")),
        ("/workflow_job/completed_at", json!("2027-01-15T08:00:42Z")),
        ("/workflow_job/steps/0/name", json!("Build")),
        ("/workflow_job/steps/0/started_at", json!("2027-01-15T08:00:06.000Z")),
        ("/workflow_job/steps/1/number", json!(2)),
        ("/workflow_job/steps/1/completed_at", Value::Null),
        ("/repository/full_name", json!("Widget \"Works\"/gears")),
        ("/repository/default_branch", json!("trunk")),
        ("/sender/type", json!("Bot")),
    ] {
        assert_eq!(payload.pointer(pointer), Some(&expected), "{pointer}");
    }
    let body = job.body();
    assert!(!body.contains("acme-rockets") && !body.contains("telemetry/") && !body.contains(RECORDED_ID));
    assert!(!body.contains(&RECORDED_RUN_ID.to_string()) && !body.contains("2026-03-02T09:0"));
}

#[test]
fn a_job_that_is_not_over_has_no_end_and_one_that_is_not_begun_no_runner() {
    for (action, is_begun) in [("queued", false), ("waiting", false), ("in_progress", true)] {
        let job = parsed(&workflow_job(1).action(action))["workflow_job"].clone();
        assert_eq!((&job["status"], &job["conclusion"]), (&json!(action), &Value::Null));
        assert_eq!(job["completed_at"], Value::Null);
        assert_eq!((!job["runner_name"].is_null(), job["steps"] != json!([])), (is_begun, is_begun), "{action}");
    }
    let skipped = parsed(&workflow_job(1).conclusion(Some("skipped")).without_runner())["workflow_job"].clone();
    assert_eq!((&skipped["steps"], &skipped["runner_group_name"]), (&json!([]), &Value::Null));
    assert_eq!(parsed(&workflow_job(1).runner_group(None))["workflow_job"]["runner_group_name"], Value::Null);
}

#[test]
fn the_recorded_steps_fill_the_jobs_time_and_one_fails_with_it() {
    let short = workflow_job(1).started_at(100).completed_at(126).conclusion(Some("failure"));
    let job = parsed(&short)["workflow_job"].clone();
    let steps = job["steps"].as_array().unwrap();
    assert_eq!(steps[0]["started_at"], json!("1970-01-01T00:01:40.000Z"));
    let ends: Vec<&str> = steps.iter().map(|step| step["completed_at"].as_str().unwrap()).collect();
    assert!(ends.is_sorted() && *ends.last().unwrap() <= "1970-01-01T00:02:06.000Z", "{ends:?}");
    let failed: Vec<&Value> = steps.iter().filter(|step| step["conclusion"] == "failure").collect();
    assert_eq!(failed.iter().map(|step| &step["name"]).collect::<Vec<_>>(), [&json!("Test")]);
}

#[test]
fn a_job_of_a_run_has_what_the_run_has_but_for_what_was_set() {
    let run = super::super::workflow_run(9).attempt(2).owner("acme").repo("web").branch("topic").sender_type("Bot");
    let run = run.workflow("Nightly").started_at(1_800_000_000).updated_at(1_800_000_060);
    let payload = parsed(&workflow_job(1).created_at(1_800_000_007).default_branch("trunk").of(&run));
    let job = &payload["workflow_job"];
    assert_eq!((&job["run_id"], &job["run_attempt"]), (&json!(9), &json!(2)));
    assert_eq!((&job["workflow_name"], &job["head_branch"]), (&json!("Nightly"), &json!("topic")));
    assert_eq!((&job["created_at"], &job["completed_at"]), (&json!(time(1_800_000_007)), &json!(time(1_800_000_060))));
    assert_eq!(job["run_url"], json!("https://api.github.com/repos/acme/web/actions/runs/9"));
    assert_eq!((&payload["repository"]["full_name"], &payload["sender"]["type"]), (&json!("acme/web"), &json!("Bot")));
    assert_eq!(payload["repository"]["default_branch"], json!("trunk"));
}
