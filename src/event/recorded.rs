//! Deliveries as files hold them: the shape of GitHub's deliveries API, `request.headers` and `request.payload`.
//!
//! `replay` reads it, and what is set aside for people is written in it, so that it can be replayed.

use crate::metrics::{Run, TagSet};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap};

/// A delivery from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// `X-GitHub-Event`, where recorded.
    pub event: Option<String>,
    /// `X-GitHub-Delivery`, where recorded.
    pub guid: Option<String>,
    /// Whether it came form-encoded.
    pub is_form: bool,
    /// The JSON payload, as it stands in the file.
    pub payload: String,
}

#[derive(Deserialize)]
struct Recording<'a> {
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Recorded {
    /// Reads a recorded delivery, or a bare payload.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        let whole: &RawValue = serde_json::from_str(text)?;
        let Ok(Recording { request: Some(request) }) = serde_json::from_str(text) else {
            return Ok(Self { event: None, guid: None, is_form: false, payload: whole.get().to_owned() });
        };
        let header = |name: &str| {
            let mut headers = request.headers.iter();
            headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
        };
        Ok(Self {
            event: header("x-github-event").map(str::to_owned),
            guid: header("x-github-delivery").map(str::to_owned),
            is_form: header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")),
            payload: request.payload.get().to_owned(),
        })
    }

    /// The body to send.
    #[must_use]
    pub fn body(&self) -> Cow<'_, str> {
        if self.is_form {
            let mut form = form_urlencoded::Serializer::new(String::new());
            Cow::Owned(form.append_pair("payload", &self.payload).finish())
        } else {
            Cow::Borrowed(&self.payload)
        }
    }

    /// The content type of the body.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        if self.is_form { "application/x-www-form-urlencoded" } else { "application/json" }
    }
}

#[derive(Serialize)]
struct Misunderstood<'a> {
    time: String,
    reason: &'a str,
    request: MisunderstoodRequest<'a>,
}

#[derive(Serialize)]
struct MisunderstoodRequest<'a> {
    headers: BTreeMap<&'static str, &'a str>,
    payload: Box<RawValue>,
}

/// A line about a signed delivery that could not be understood.
///
/// # Errors
/// `payload` is not JSON.
pub fn misunderstood(
    time: i64,
    event: Option<&str>,
    guid: Option<&str>,
    reason: &str,
    payload: &str,
) -> Result<String, serde_json::Error> {
    let headers = [("X-GitHub-Event", event), ("X-GitHub-Delivery", guid)];
    // A line feed in JSON stands between tokens only, and a line must not have one.
    let one_line = payload.trim().replace(['\n', '\r'], " ");
    serde_json::to_string(&Misunderstood {
        time: jiff::Timestamp::from_second(time).unwrap_or_default().to_string(),
        reason,
        request: MisunderstoodRequest {
            headers: headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            payload: RawValue::from_string(one_line)?,
        },
    })
}

/// The request of a delivery that derives to `run` again, made from its tags. Datadog's form of a tag is kept by
/// putting it in again, so the run comes out as it was.
#[must_use]
pub fn delivery_of(run: &Run) -> Value {
    let tag = |key: &str| tag_value(&run.tag_set, key);
    let branch = tag("branch");
    let is_default = tag("default_branch") == Some("true");
    let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).ok().map(|time| time.to_string());
    let end_ms = run.end.saturating_mul(1000);
    let start = run.duration_ms.and_then(|lasted| time(end_ms.saturating_sub_unsigned(lasted)));
    let account = |login: Option<&str>, kind: Option<&str>| json!({"login": login, "type": kind});
    json!({
        "headers": {"Content-Type": "application/json", "X-GitHub-Event": "workflow_run"},
        "payload": {
            "action": "completed",
            "workflow_run": {
                "id": run.key.id.0,
                "run_attempt": run.key.attempt.0,
                "event": tag("event"),
                "head_branch": branch,
                "conclusion": tag("conclusion").filter(|conclusion| *conclusion != "unknown"),
                "run_started_at": start,
                "updated_at": time(end_ms),
                "actor": account(tag("actor"), None),
                "triggering_actor": account(tag("triggering_actor"), None),
                "head_repository": if is_default { json!({"id": 0}) } else { Value::Null },
            },
            "workflow": {"name": tag("workflow_name"), "path": tag("workflow_path")},
            "repository": {
                "id": 0,
                "name": tag("repository_name").unwrap_or("unknown"),
                "owner": account(tag("repository_owner"), None),
                "default_branch": if is_default { branch } else { None },
            },
            "sender": account(tag("sender"), tag("sender_type")),
        },
    })
}

fn tag_value<'a>(tag_set: &'a TagSet, key: &str) -> Option<&'a str> {
    tag_set.tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix(':'))
}
