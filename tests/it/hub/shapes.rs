//! Objects of the API, derived from what GitHub sends in its deliveries and completed with what the API adds.
//!
//! Invariant: each object has every field that GitHub's has; only IDs, names, times and addresses are a test's.

use super::state::Repository;
use crate::github;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// What stands in the recorded payload; the first repository and owner of a hub have these, so that it stays as it is.
pub(super) const RECORDED_REPOSITORY_ID: u64 = 4_017_720_361;
pub(super) const RECORDED_OWNER_ID: u64 = 900_100_042;
pub(super) const RECORDED_WORKFLOW_ID: u64 = 118_200_431;

const RECORDED_JOB: &str = include_str!("../../../fixtures/23-workflow-job.json");

static JOB: LazyLock<Value> = LazyLock::new(|| {
    let delivery: Value = serde_json::from_str(RECORDED_JOB).expect("the fixture is JSON");
    delivery.pointer("/request/payload/workflow_job").expect("the fixture has a job").clone()
});

/// Conclusions that a job can have; a run has more.
const JOB_CONCLUSIONS: [&str; 7] =
    ["success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"];

/// A time as GitHub writes it.
pub(super) fn time(second: i64) -> String {
    Timestamp::from_second(second).expect("a second that can be written as a time").to_string()
}

pub(super) fn second(time: &Value) -> Option<i64> {
    time.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// The text of a payload in which the recorded IDs are those of this repository.
pub(super) fn with_ids(text: &str, repository: &Repository) -> String {
    text.replace(&RECORDED_REPOSITORY_ID.to_string(), &repository.id.to_string())
        .replace(&RECORDED_OWNER_ID.to_string(), &repository.organisation_id.to_string())
}

/// An object of a payload as the API of the server at `base` has it: with that server's addresses.
pub(super) fn at(object: &Value, base: &str) -> Value {
    let text = object
        .to_string()
        .replace("https://api.github.com", &format!("{base}/api/v3"))
        .replace("https://github.com", base);
    serde_json::from_str(&text).expect("the object is still JSON")
}

/// The object of a repository.
pub(super) fn repository(repository: &Repository, base: &str) -> Value {
    let payload = github::workflow_run(1).owner(&repository.owner).repo(&repository.name).body();
    let payload: Value = serde_json::from_str(&with_ids(&payload, repository)).expect("the payload is JSON");
    let mut object = at(&payload["repository"], base);
    let clone = format!("{base}/{}.git", repository.full_name());
    for (field, value) in [
        ("clone_url", json!(clone)),
        ("git_url", json!(clone.replacen("http", "git", 1))),
        ("ssh_url", json!(format!("git@127.0.0.1:{}.git", repository.full_name()))),
        ("svn_url", json!(format!("{base}/{}", repository.full_name()))),
        ("mirror_url", Value::Null),
        ("network_count", json!(17)),
        ("subscribers_count", json!(12)),
        ("organization", object["owner"].clone()),
    ] {
        object[field] = value;
    }
    object
}

/// A job of an attempt, from one second to another; without an end it is in progress.
pub(super) fn job(run: &Value, id: u64, started_at: &Value, completed_at: &Value) -> Value {
    let mut job = JOB.clone();
    let api = run["url"].as_str().and_then(|url| url.split_once("/actions/")).map(|(repository, _)| repository);
    let (api, html) = (api.unwrap_or_default(), run["html_url"].as_str().unwrap_or_default());
    let is_over = !completed_at.is_null();
    let status = if is_over { "completed" } else { "in_progress" };
    let conclusion = match run["conclusion"].as_str().filter(|_| is_over) {
        Some(known) if JOB_CONCLUSIONS.contains(&known) => json!(known),
        Some(_) => json!("failure"),
        None => Value::Null,
    };
    let step = json!({
        "name": "Set up job", "status": status, "conclusion": conclusion, "number": 1, "started_at": started_at,
        "completed_at": completed_at,
    });
    for (field, value) in [
        ("id", json!(id)),
        ("run_id", run["id"].clone()),
        ("run_attempt", run["run_attempt"].clone()),
        ("workflow_name", run["name"].clone()),
        ("head_branch", run["head_branch"].clone()),
        ("head_sha", run["head_sha"].clone()),
        ("run_url", run["url"].clone()),
        ("url", json!(format!("{api}/actions/jobs/{id}"))),
        ("html_url", json!(format!("{html}/job/{id}"))),
        ("check_run_url", json!(format!("{api}/check-runs/{id}"))),
        ("status", json!(status)),
        ("conclusion", conclusion),
        ("created_at", run["run_started_at"].clone()),
        ("started_at", started_at.clone()),
        ("completed_at", completed_at.clone()),
        ("steps", json!([step])),
    ] {
        job[field] = value;
    }
    job
}
