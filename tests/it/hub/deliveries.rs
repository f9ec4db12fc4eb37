//! Deliveries: what is to be delivered, the log of what was, and what the API shows of it.
//!
//! Invariant: each try is one entry of the log, successful or not; a redelivery has the GUID and the payload of the first.

use super::{
    post::{self, Outcome, Post},
    reply::Reply,
    shapes,
    state::{Place, State},
    webhooks::Call,
};
use crate::github;
use ring::hmac;
use serde_json::{Map, Value, json};
use std::{fmt, fmt::Write};

/// Older ones are forgotten. Source: GitHub's documentation on redelivering.
const KEPT_S: i64 = 3 * 86_400;

/// Begins each cursor; what follows means nothing to a client.
const CURSOR: &str = "v1_";

/// Makes of an ID what is not seen to be one.
const CURSOR_MASK: u64 = 0x5bd1_e995_9d1b_54a5;

/// Something that a hook is to deliver.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    pub(super) hook_id: u64,
    guid: String,
    event: String,
    action: Option<String>,
    payload: String,
    repository_id: Option<u64>,
    is_redelivery: bool,
}

impl Errand {
    pub(super) fn new(hook_id: u64, event: &str, payload: &Value, repository_id: Option<u64>) -> Self {
        Self {
            hook_id,
            guid: guid(),
            event: event.to_owned(),
            action: payload["action"].as_str().map(str::to_owned),
            payload: payload.to_string(),
            repository_id,
            is_redelivery: false,
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    /// Grows with each try.
    pub(crate) id: u64,
    /// The hook it was made for.
    pub(crate) hook_id: u64,
    /// The same for all tries of one delivery.
    pub(crate) guid: String,
    /// In seconds since 1970.
    pub(crate) delivered_at: i64,
    /// Whether it was asked for again.
    pub(crate) redelivery: bool,
    /// In seconds.
    pub(crate) duration: f64,
    /// `OK`, or what went wrong.
    pub(crate) status: String,
    /// The answer's; 0 if there was none.
    pub(crate) status_code: u16,
    /// `X-GitHub-Event`.
    pub(crate) event: String,
    /// The payload's `action`.
    pub(crate) action: Option<String>,
    /// The repository, unless it is something of the organisation.
    pub(crate) repository_id: Option<u64>,
    /// Where it was posted to.
    pub(crate) url: String,
    /// The headers it was posted with.
    pub(crate) headers: Vec<(String, String)>,
    /// The payload as text.
    pub(crate) payload: String,
    /// The answer's headers.
    pub(crate) response_headers: Vec<(String, String)>,
    /// The answer's body.
    pub(crate) response: String,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, guid, event, status, .. } = self;
        write!(f, "{id} {guid} {event}: {status}")
    }
}

impl Delivery {
    fn item(&self) -> Value {
        json!({
            "id": self.id,
            "guid": self.guid,
            "delivered_at": shapes::time(self.delivered_at),
            "redelivery": self.redelivery,
            "duration": self.duration,
            "status": self.status,
            "status_code": self.status_code,
            "event": self.event,
            "action": self.action,
            "installation_id": null,
            "repository_id": self.repository_id,
            "throttled_at": null,
        })
    }

    fn whole(&self) -> Value {
        let payload: Value = serde_json::from_str(&self.payload).unwrap_or_default();
        let mut whole = self.item();
        whole["url"] = json!(self.url);
        whole["request"] = json!({ "headers": object(&self.headers), "payload": payload });
        whole["response"] = json!({ "headers": object(&self.response_headers), "payload": self.response });
        whole
    }

    fn errand(&self) -> Errand {
        Errand {
            hook_id: self.hook_id,
            guid: self.guid.clone(),
            event: self.event.clone(),
            action: self.action.clone(),
            payload: self.payload.clone(),
            repository_id: self.repository_id,
            is_redelivery: true,
        }
    }
}

fn object(headers: &[(String, String)]) -> Value {
    headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<String, Value>>().into()
}

impl State {
    /// What is delivered of something that happened at these places, in the order of the hooks.
    pub(super) fn errands(&self, places: &[Place], event: &str, payload: &Value) -> Vec<Errand> {
        let repository_id = places.iter().find_map(|place| match place {
            Place::Repository(id) => Some(*id),
            Place::Organisation(_) => None,
        });
        let hooks = self.hooks.iter().filter(|hook| hook.wants(event, places));
        hooks.map(|hook| Errand::new(hook.id, event, payload, repository_id)).collect()
    }

    /// What is posted for an errand; `None` if its hook is gone.
    pub(super) fn post(&self, errand: &Errand) -> Option<Post> {
        let hook = self.hooks.iter().find(|hook| hook.id == errand.hook_id)?;
        let (body, content_type) = if hook.config.content_type == "json" {
            (errand.payload.clone(), "application/json")
        } else {
            let mut form = form_urlencoded::Serializer::new(String::new());
            (form.append_pair("payload", &errand.payload).finish(), "application/x-www-form-urlencoded")
        };
        let (target, target_id) = match hook.place {
            Place::Repository(id) => ("repository", id),
            Place::Organisation(id) => ("organization", id),
        };
        let mut headers = vec![
            ("Accept", "*/*".to_owned()),
            ("Content-Type", content_type.to_owned()),
            ("User-Agent", "GitHub-Hookshot/7c04f2e".to_owned()),
            ("X-GitHub-Delivery", errand.guid.clone()),
            ("X-GitHub-Event", errand.event.clone()),
            ("X-GitHub-Hook-ID", hook.id.to_string()),
            ("X-GitHub-Hook-Installation-Target-ID", target_id.to_string()),
            ("X-GitHub-Hook-Installation-Target-Type", target.to_owned()),
        ];
        if let Some(secret) = &hook.config.secret {
            headers.push(("X-Hub-Signature", legacy_signature(secret, body.as_bytes())));
            headers.push(("X-Hub-Signature-256", github::sign(secret, body.as_bytes())));
        }
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let url = hook.config.url.clone();
        let address = post::address(&self.roads, &url);
        Some(Post { url, address, headers, body, timeout: self.delivery_timeout })
    }

    /// Logs how a try ended.
    pub(super) fn log(&mut self, errand: &Errand, post: Post, outcome: Outcome) -> Delivery {
        let delivery = Delivery {
            id: 178_687_561_362 + self.deliveries.len() as u64,
            hook_id: errand.hook_id,
            guid: errand.guid.clone(),
            delivered_at: self.clock(),
            redelivery: errand.is_redelivery,
            duration: outcome.duration.as_secs_f64(),
            status: outcome.status,
            status_code: outcome.status_code,
            event: errand.event.clone(),
            action: errand.action.clone(),
            repository_id: errand.repository_id,
            url: post.url,
            headers: post.headers,
            payload: errand.payload.clone(),
            response_headers: outcome.headers,
            response: outcome.body,
        };
        if let Some(hook) = self.hooks.iter_mut().find(|hook| hook.id == errand.hook_id) {
            let is_ok = delivery.status == "OK";
            let status = if is_ok { "active" } else { "misconfigured" };
            let code = Some(delivery.status_code).filter(|code| *code != 0);
            hook.last_response = json!({ "code": code, "status": status, "message": delivery.status });
        }
        self.deliveries.push(delivery.clone());
        delivery
    }

    /// What is answered at `…/hooks/<id>/deliveries/<segments>`.
    pub(super) fn delivery_log(&self, call: &Call, hook_id: u64, segments: &[&str]) -> Reply {
        let oldest = self.clock() - KEPT_S;
        let kept = self.deliveries.iter().rev();
        let mut kept = kept.filter(|delivery| delivery.hook_id == hook_id && delivery.delivered_at >= oldest);
        let Some((id, rest)) = segments.split_first() else {
            return if call.method == "GET" { list(kept, call) } else { Reply::not_found() };
        };
        let Some(delivery) = kept.find(|delivery| delivery.id.to_string() == *id) else {
            return Reply::not_found();
        };
        match (call.method, rest) {
            ("GET", []) => Reply::ok(delivery.whole()),
            ("POST", ["attempts"]) => Reply::new(202, json!({})).errand(delivery.errand()),
            _ => Reply::not_found(),
        }
    }
}

/// One page, from the newest delivery or the cursor on.
fn list<'a>(kept: impl Iterator<Item = &'a Delivery>, call: &Call) -> Reply {
    let before = match call.query.get("cursor").map(read_cursor) {
        Some(None) => return Reply::error(422, "The cursor is invalid"),
        Some(before) => before,
        None => None,
    };
    let has_status = |delivery: &&Delivery| match call.query.get("status") {
        Some("success") => (200..400).contains(&delivery.status_code),
        Some("failure") => (400..600).contains(&delivery.status_code),
        _ => true,
    };
    let mut left =
        kept.filter(|delivery| before.is_none_or(|before| delivery.id < before)).filter(has_status).peekable();
    let mut shown = Vec::new();
    let mut last = 0;
    while shown.len() < call.query.per_page() {
        let Some(delivery) = left.next() else { break };
        last = delivery.id;
        shown.push(delivery.item());
    }
    let reply = Reply::ok(json!(shown));
    if left.peek().is_none() {
        return reply;
    }
    let next = call.query.with(call.url, "cursor", &cursor(last));
    reply.header("Link", format!("<{next}>; rel=\"next\""))
}

/// What asks for the deliveries before this one.
fn cursor(id: u64) -> String {
    format!("{CURSOR}{:016x}", (id ^ CURSOR_MASK).rotate_left(13))
}

fn read_cursor(text: &str) -> Option<u64> {
    let masked = u64::from_str_radix(text.strip_prefix(CURSOR)?, 16).ok()?;
    Some(masked.rotate_right(13) ^ CURSOR_MASK)
}

/// `X-Hub-Signature`, by SHA-1.
fn legacy_signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    format!("sha1={}", hex::encode(hmac::sign(&key, body)))
}

/// A GUID as GitHub makes them.
fn guid() -> String {
    let mut guid = String::new();
    for (index, byte) in std::iter::repeat_with(|| fastrand::u8(..)).take(16).enumerate() {
        let dash = if [4, 6, 8, 10].contains(&index) { "-" } else { "" };
        write!(guid, "{dash}{byte:02x}").expect("memory");
    }
    guid
}
