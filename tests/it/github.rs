//! GitHub's side of a delivery: payloads of `workflow_run` and `workflow_job`, and their signatures.
//!
//! Invariant: a payload is a recorded one of `fixtures/` in which only what was set differs, so it has every field
//! that GitHub sends.

mod attempt;
mod job;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::LazyLock;

pub(crate) use attempt::{AttemptBuilder, CopiedId};
pub(crate) use job::{JobBuilder, Step, workflow_job};

const RECORDED: &str = include_str!("../../fixtures/01-success.json");

/// What stands in the recorded payload, also within its addresses.
const RECORDED_ID: &str = "22640158713";
const RECORDED_OWNER: &str = "acme-rockets";
const RECORDED_REPOSITORY: &str = "telemetry";

/// The owner of the fork that a run of [`RunBuilder::fork`] comes from.
const FORK_OWNER: &str = "rookwright-builds";
const FORK_ID: u64 = 4_017_999_001;

/// A run that was run again was first run a day before.
const DAY_S: i64 = 86_400;

/// One entry of the list that makes a commit message long.
const MESSAGE_LINE: &str =
    "\n* Read frames in batches of 64, as \"telemetry/frames\" has it; see #4127 (Größe, Länge).";

static PAYLOAD: LazyLock<String> = LazyLock::new(|| payload_of(RECORDED));

/// One event of GitHub's, as it is delivered.
pub(crate) trait Event {
    /// `X-GitHub-Event`.
    const NAME: &'static str;

    /// The JSON text, as the body of a delivery.
    fn body(&self) -> String;
}

impl Event for RunBuilder {
    const NAME: &'static str = "workflow_run";

    fn body(&self) -> String {
        Self::body(self)
    }
}

/// The payload of a recorded delivery.
fn payload_of(recorded: &str) -> String {
    let delivery: Value = serde_json::from_str(recorded).expect("the fixture is JSON");
    delivery.pointer("/request/payload").expect("the fixture is a delivery").to_string()
}

/// The value of `X-Hub-Signature-256` for a body: `sha256=` and 64 hexadecimal digits.
pub(crate) fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    format!("sha256={}", hex::encode(mac.chain_update(body).finalize().into_bytes()))
}

/// A completed run with this ID: attempt 1 of a push to the default branch, succeeded, with the times of the recording.
pub(crate) fn workflow_run(id: u64) -> RunBuilder {
    RunBuilder {
        id,
        attempt: 1,
        action: "completed".to_owned(),
        conclusion: Some("success".to_owned()),
        owner: RECORDED_OWNER.to_owned(),
        repo: RECORDED_REPOSITORY.to_owned(),
        is_from_fork: false,
        started_at: 1_772_442_115,
        updated_at: 1_772_442_387,
        bytes_about: 0,
        set: Vec::new(),
    }
}

/// A payload in the making.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct RunBuilder {
    id: u64,
    attempt: u32,
    action: String,
    conclusion: Option<String>,
    owner: String,
    repo: String,
    is_from_fork: bool,
    started_at: i64,
    updated_at: i64,
    bytes_about: usize,
    set: Vec<(&'static str, Value)>,
}

impl RunBuilder {
    /// `run_attempt`. Of a later attempt `created_at` is a day before its start, as for a real re-run.
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// `completed`, `requested` or `in_progress`; the run's status follows, and only a completed one has a conclusion.
    pub(crate) fn action(mut self, action: &str) -> Self {
        action.clone_into(&mut self.action);
        self
    }

    /// How it ended; GitHub sends null at times.
    pub(crate) fn conclusion(mut self, conclusion: Option<&str>) -> Self {
        self.conclusion = conclusion.map(str::to_owned);
        self
    }

    /// The login of the repository's owner, everywhere.
    pub(crate) fn owner(mut self, owner: &str) -> Self {
        owner.clone_into(&mut self.owner);
        self
    }

    /// The repository's name, everywhere.
    pub(crate) fn repo(mut self, repo: &str) -> Self {
        repo.clone_into(&mut self.repo);
        self
    }

    /// The workflow's name.
    pub(crate) fn workflow(self, name: &str) -> Self {
        self.set("/workflow/name", json!(name)).set("/workflow_run/name", json!(name))
    }

    /// `head_branch`.
    pub(crate) fn branch(self, branch: &str) -> Self {
        self.set("/workflow_run/head_branch", json!(branch))
    }

    /// The repository's default branch.
    pub(crate) fn default_branch(self, branch: &str) -> Self {
        self.set("/repository/default_branch", json!(branch))
    }

    /// What triggered the run.
    pub(crate) fn event(self, event: &str) -> Self {
        self.set("/workflow_run/event", json!(event))
    }

    /// `run_started_at`, in seconds since 1970.
    pub(crate) fn started_at(mut self, second: i64) -> Self {
        self.started_at = second;
        self
    }

    /// `updated_at`, in seconds since 1970.
    pub(crate) fn updated_at(mut self, second: i64) -> Self {
        self.updated_at = second;
        self
    }

    /// `User`, `Bot` or `Organization`.
    pub(crate) fn sender_type(self, kind: &str) -> Self {
        self.set("/sender/type", json!(kind))
    }

    /// Whether the branch is one of a fork.
    pub(crate) fn fork(mut self, is_from_fork: bool) -> Self {
        self.is_from_fork = is_from_fork;
        self
    }

    /// Makes the payload about this long, by a long message of its commit. It never makes it shorter.
    pub(crate) fn big(mut self, bytes_about: usize) -> Self {
        self.bytes_about = bytes_about;
        self
    }

    /// Sets any field of the payload, by its JSON pointer. It is done last, and the field must be there.
    pub(crate) fn set(mut self, pointer: &'static str, value: Value) -> Self {
        self.set.push((pointer, value));
        self
    }

    /// The JSON text, as the body of a delivery.
    pub(crate) fn body(&self) -> String {
        let mut payload = self.renamed();
        for (pointer, value) in self.fields() {
            put(&mut payload, pointer, value);
        }
        if self.is_from_fork {
            let head = self.fork_of(&payload);
            put(&mut payload, "/workflow_run/head_repository", head);
        }
        for (pointer, value) in &self.set {
            put(&mut payload, pointer, value.clone());
        }
        let body = payload.to_string();
        let lacking = self.bytes_about.saturating_sub(body.len());
        if lacking == 0 {
            return body;
        }
        let line_bytes = json!(MESSAGE_LINE).to_string().len() - 2;
        let message = format!("Read frames in batches\n{}", MESSAGE_LINE.repeat(lacking.div_ceil(line_bytes)));
        put(&mut payload, "/workflow_run/head_commit/message", json!(message));
        payload.to_string()
    }

    fn renamed(&self) -> Value {
        let text = renamed(&PAYLOAD, self.id, &self.owner, &self.repo);
        serde_json::from_str(&text).expect("the payload is still JSON")
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        let is_completed = self.action == "completed";
        let status = if self.action == "requested" { "queued" } else { &self.action };
        let is_rerun = self.attempt > 1;
        let created_at = if is_rerun { self.started_at - DAY_S } else { self.started_at };
        let run = format!("https://api.github.com/repos/{}/{}/actions/runs/{}", self.owner, self.repo, self.id);
        let previous = is_rerun.then(|| format!("{run}/attempts/{}", self.attempt - 1));
        vec![
            ("/action", json!(self.action)),
            ("/workflow_run/status", json!(status)),
            ("/workflow_run/conclusion", json!(self.conclusion.as_ref().filter(|_| is_completed))),
            ("/workflow_run/run_attempt", json!(self.attempt)),
            ("/workflow_run/previous_attempt_url", json!(previous)),
            ("/workflow_run/created_at", json!(time(created_at))),
            ("/workflow_run/head_commit/timestamp", json!(time(created_at - 9))),
            ("/workflow_run/run_started_at", json!(time(self.started_at))),
            ("/workflow_run/updated_at", json!(time(self.updated_at))),
        ]
    }

    /// The head repository of the payload, as somebody's fork.
    fn fork_of(&self, payload: &Value) -> Value {
        let base = payload.pointer("/workflow_run/head_repository").expect("the fixture has it").to_string();
        let owner = in_json(&self.owner);
        let text = base
            .replace(&format!("\"{owner}\""), &format!("\"{FORK_OWNER}\""))
            .replace(&format!("\"{owner}/"), &format!("\"{FORK_OWNER}/"))
            .replace(&format!("/{owner}"), &format!("/{FORK_OWNER}"));
        let mut head: Value = serde_json::from_str(&text).expect("the repository is still JSON");
        put(&mut head, "/id", json!(FORK_ID));
        put(&mut head, "/fork", json!(true));
        put(&mut head, "/owner/type", json!("User"));
        head
    }
}

/// A recorded payload with another run's ID, owner and name wherever they stand, addresses included.
fn renamed(payload: &str, run_id: u64, owner: &str, repo: &str) -> String {
    let (owner, repo) = (in_json(owner), in_json(repo));
    payload
        .replace(&format!("{RECORDED_OWNER}/{RECORDED_REPOSITORY}"), &format!("{owner}/{repo}"))
        .replace(&format!("\"{RECORDED_OWNER}\""), &format!("\"{owner}\""))
        .replace(&format!("/{RECORDED_OWNER}"), &format!("/{owner}"))
        .replace(&format!("\"name\":\"{RECORDED_REPOSITORY}\""), &format!("\"name\":\"{repo}\""))
        .replace(RECORDED_ID, &run_id.to_string())
}

/// A text as it stands between the quotes of a JSON string.
fn in_json(text: &str) -> String {
    let quoted = json!(text).to_string();
    quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned()
}

/// A time as GitHub writes it.
fn time(second: i64) -> String {
    Timestamp::from_second(second).expect("a second that can be written as a time").to_string()
}

fn put(payload: &mut Value, pointer: &str, value: Value) {
    *payload.pointer_mut(pointer).unwrap_or_else(|| panic!("the payload has no {pointer}")) = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(run: &RunBuilder) -> Value {
        serde_json::from_str(&run.body()).unwrap()
    }

    #[test]
    fn the_published_vector_is_what_we_sign() {
        let signed = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(sign("It's a Secret to Everybody", b"Hello, World!"), signed);
    }

    #[test]
    fn an_unchanged_run_is_the_recorded_one() {
        let recorded: Value = serde_json::from_str(&PAYLOAD).unwrap();
        assert_eq!(parsed(&workflow_run(RECORDED_ID.parse().unwrap())), recorded);
    }

    #[test]
    fn what_was_set_stands_in_the_payload_and_nothing_of_the_recording_beside_it() {
        let run = workflow_run(u64::MAX)
            .attempt(3)
            .conclusion(None)
            .owner("Widget \"Works\"")
            .repo("gears")
            .workflow("Nightly")
            .branch("topic/a")
            .default_branch("trunk")
            .event("pull_request")
            .started_at(1_800_000_000)
            .updated_at(1_800_000_042)
            .sender_type("Bot")
            .set("/workflow_run/actor", Value::Null);
        let payload = parsed(&run);
        for (pointer, expected) in [
            ("/workflow_run/id", json!(u64::MAX)),
            ("/workflow_run/run_attempt", json!(3)),
            ("/workflow_run/conclusion", Value::Null),
            ("/workflow_run/head_branch", json!("topic/a")),
            ("/workflow_run/event", json!("pull_request")),
            ("/workflow_run/run_started_at", json!("2027-01-15T08:00:00Z")),
            ("/workflow_run/updated_at", json!("2027-01-15T08:00:42Z")),
            ("/workflow_run/actor", Value::Null),
            ("/workflow/name", json!("Nightly")),
            ("/repository/name", json!("gears")),
            ("/repository/full_name", json!("Widget \"Works\"/gears")),
            ("/repository/owner/login", json!("Widget \"Works\"")),
            ("/repository/default_branch", json!("trunk")),
            ("/sender/type", json!("Bot")),
        ] {
            assert_eq!(payload.pointer(pointer), Some(&expected), "{pointer}");
        }
        let body = run.body();
        assert!(!body.contains("acme-rockets") && !body.contains("telemetry/") && !body.contains(RECORDED_ID));
    }

    #[test]
    fn a_run_that_has_not_completed_has_no_conclusion() {
        let payload = parsed(&workflow_run(1).action("requested"));
        assert_eq!(payload.pointer("/workflow_run/status"), Some(&json!("queued")));
        assert_eq!(payload.pointer("/workflow_run/conclusion"), Some(&Value::Null));
    }

    #[test]
    fn a_forks_head_repository_is_another_one() {
        let payload = parsed(&workflow_run(1).fork(true));
        assert_ne!(payload.pointer("/workflow_run/head_repository/id"), payload.pointer("/repository/id"));
        let full_name = json!("rookwright-builds/telemetry");
        assert_eq!(payload.pointer("/workflow_run/head_repository/full_name"), Some(&full_name));
        assert_eq!(payload.pointer("/repository/full_name"), Some(&json!("acme-rockets/telemetry")));
    }

    #[test]
    fn a_big_payload_is_about_as_long_as_asked_for() {
        for bytes in [100_000, 5_000_000] {
            let body = workflow_run(1).big(bytes).body();
            assert!(body.len().abs_diff(bytes) < 300, "{}", body.len());
        }
        assert_eq!(workflow_run(1).big(10).body(), workflow_run(1).body());
    }
}
