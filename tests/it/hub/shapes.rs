//! Objects of the API, derived from what GitHub sends in its deliveries and completed with what the API adds.
//!
//! Invariant: each object has every field that GitHub's has; only IDs, names, times and addresses are a test's.

use super::state::Repository;
use crate::github;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What stands in the recorded payload; the first repository and owner of a hub have these, so that it stays as it is.
pub(super) const RECORDED_REPOSITORY_ID: u64 = 4_017_720_361;
pub(super) const RECORDED_OWNER_ID: u64 = 900_100_042;
pub(super) const RECORDED_WORKFLOW_ID: u64 = 118_200_431;

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
