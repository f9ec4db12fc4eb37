//! One request to the intake, and its answer.

use super::{
    Intake,
    key::ApiKey,
    verdict::{Verdict, says_valid, unexpected, verdict},
};
use crate::{
    metrics::MetricPayload,
    outgoing::{self, ClientError, Timeouts, http_client, http_date},
};
use awc::{
    error::{ConnectError, PayloadError, SendRequestError},
    http::{Uri, header::HeaderMap},
};
use flate2::{Compression, write::GzEncoder};
use futures_util::{Stream, StreamExt};
use std::{
    cell::RefCell,
    fmt,
    io::{ErrorKind, Write},
};
use tokio::time::{Instant, timeout_at};

/// No more of an answer is read than this; one that goes on is not one we know.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// How much of an answer is kept for logs and for `rejected.jsonl`, in bytes, with control characters escaped.
const ANSWER_KEPT_BYTES: usize = 1000;

const NOT_IN_TIME: &str = "no answer in time";
const BROKE_OFF: &str = "the answer broke off";

/// Where the intake is: a base URL, which may have a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: String,
    series: Uri,
    validate: Uri,
}

impl Endpoint {
    /// An endpoint from its base URL; `None` unless that is an `http` or `https` URL with a host, perhaps a port, and without
    /// query, fragment, user or password.
    #[must_use]
    pub fn new(base: &str) -> Option<Self> {
        let base = outgoing::plain_url(base)?.to_owned();
        let below = |path: &str| format!("{base}{path}").parse().ok();
        Some(Self { series: below("/api/v2/series")?, validate: below("/api/v1/validate")?, base })
    }

    /// The endpoint of a Datadog site, such as `datadoghq.eu`.
    #[must_use]
    pub fn of_site(site: &str) -> Option<Self> {
        let is_host = site.chars().all(|char| char.is_ascii_alphanumeric() || ".-".contains(char));
        if is_host && !site.is_empty() { Self::new(&format!("https://api.{site}")) } else { None }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// What came of one request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What it means.
    pub verdict: Verdict,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// The second of the answer's own `Date`.
    pub date: Option<i64>,
    /// The beginning of the answer, or why there is none. Control characters are escaped.
    pub text: String,
}

impl Answer {
    /// What an answer of `status` means. `headers` finds a header's text by its lower-case name.
    pub(crate) fn new<'a>(status: u16, headers: impl Fn(&str) -> Option<&'a str>, body: &[u8]) -> Self {
        let date = headers("date").and_then(http_date);
        let verdict = verdict(status, headers, body, second(date));
        Self { verdict, status: Some(status), date, text: kept_text(body) }
    }

    /// The second of the answer, for a `Retry-After` that is a date.
    fn now(&self) -> i64 {
        second(self.date)
    }

    /// There was none, and `why`.
    pub(crate) fn none(surely_failed: bool, why: &str) -> Self {
        let verdict = Verdict::Retry { after: None, surely_failed, is_unexpected: false };
        Self { verdict, status: None, date: None, text: why.to_owned() }
    }
}

fn second(date: Option<i64>) -> i64 {
    date.unwrap_or_else(|| jiff::Timestamp::now().as_second())
}

/// Sends payloads to one endpoint with one key.
#[derive(Clone)]
pub struct Client {
    http: awc::Client,
    timeouts: Timeouts,
    endpoint: Endpoint,
    key: RefCell<ApiKey>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; it connects at the first request. It must be made and used in an actix runtime.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(endpoint: Endpoint, key: ApiKey) -> Result<Self, ClientError> {
        Self::with_timeouts(endpoint, key, Timeouts::default())
    }

    fn with_timeouts(endpoint: Endpoint, key: ApiKey, timeouts: Timeouts) -> Result<Self, ClientError> {
        Ok(Self { http: http_client(timeouts)?, timeouts, endpoint, key: RefCell::new(key) })
    }

    /// The key as it is now.
    fn key(&self) -> ApiKey {
        let mut key = self.key.borrow_mut();
        key.renew();
        key.clone()
    }

    /// The answer to a request with this key. An answer may repeat what it was sent; the key goes no further.
    ///
    /// Once the head is here it counts, whatever becomes of the body. Only a 2xx must be known to its end, and what it says be
    /// `as_asked`.
    async fn answer(&self, sent: awc::SendClientRequest, key: &ApiKey, as_asked: fn(&[u8]) -> bool) -> Answer {
        let deadline = Instant::now() + self.timeouts.whole;
        let mut response = match timeout_at(deadline, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Answer::none(is_surely_failed(&error), &error.to_string()),
            Err(_) => return Answer::none(false, NOT_IN_TIME),
        };
        let mut body = Vec::new();
        let read = timeout_at(deadline, read(&mut response, &mut body)).await.unwrap_or(Err(NOT_IN_TIME));
        let headers = response.headers();
        let length = length(headers);
        let read =
            read.and_then(|()| if length.is_some_and(|length| body.len() < length) { Err(BROKE_OFF) } else { Ok(()) });
        let head = |name: &str| text_of(headers, name);
        let mut answer = Answer::new(response.status().as_u16(), head, &body);
        answer.text = kept_text(&key.hidden_in(&body, length != Some(body.len())));
        if response.status().is_success() && (read.is_err() || !as_asked(&body)) {
            answer.verdict = unexpected(head, answer.now());
        }
        if let Err(why) = read
            && response.status().is_success()
        {
            why.clone_into(&mut answer.text);
        }
        answer
    }
}

/// Reads a body as far as it is read; why that is not all of it.
async fn read(
    response: &mut (impl Stream<Item = Result<impl AsRef<[u8]>, PayloadError>> + Unpin),
    body: &mut Vec<u8>,
) -> Result<(), &'static str> {
    while let Some(chunk) = response.next().await {
        match chunk {
            Ok(chunk) => body.extend_from_slice(chunk.as_ref()),
            Err(PayloadError::Io(error)) if error.kind() == ErrorKind::TimedOut => return Err(NOT_IN_TIME),
            Err(_) => return Err(BROKE_OFF),
        }
        if body.len() > ANSWER_MAX_BYTES {
            body.truncate(ANSWER_MAX_BYTES);
            return Err("the answer does not end");
        }
    }
    Ok(())
}

/// How long a body says it is. awc takes a connection that is closed early for the end of the body. Of one without a length
/// only its text can tell: half a JSON is none.
fn length(headers: &HeaderMap) -> Option<usize> {
    let length = text_of(headers, "content-length").filter(|_| !headers.contains_key("transfer-encoding"));
    length.and_then(|length| length.parse().ok())
}

impl Intake for Client {
    async fn push(&self, payload: &MetricPayload) -> Answer {
        let key = self.key();
        let request = self
            .http
            .post(&self.endpoint.series)
            .insert_header(("DD-API-KEY", key.header()))
            .insert_header(("Content-Type", "application/json"))
            .insert_header(("Content-Encoding", "gzip"));
        self.answer(request.send_body(gzip(payload)), &key, |_| true).await
    }

    async fn validate(&self) -> Answer {
        let key = self.key();
        let request = self.http.get(&self.endpoint.validate).insert_header(("DD-API-KEY", key.header()));
        self.answer(request.send(), &key, says_valid).await
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Without a connection nothing was sent. A connection that was lost later is `Disconnected`, and proves nothing.
fn is_surely_failed(error: &SendRequestError) -> bool {
    match error {
        SendRequestError::Connect(error) => !matches!(error, ConnectError::Disconnected | ConnectError::H2(_)),
        _ => false,
    }
}

fn kept_text(body: &[u8]) -> String {
    let mut kept = String::new();
    for char in String::from_utf8_lossy(body).trim().chars() {
        let before = kept.len();
        if char.is_control() {
            kept.extend(char.escape_default());
        } else {
            kept.push(char);
        }
        if kept.len() > ANSWER_KEPT_BYTES {
            kept.truncate(before);
            break;
        }
    }
    kept
}

fn gzip(payload: &MetricPayload) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(payload.line().as_bytes());
    match written.and_then(|()| encoder.finish()) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("memory takes every write: {error}"),
    }
}

#[cfg(test)]
mod tests;
