//! What an intake knows, what it has been ordered, and how it therefore answers a request.
//!
//! Invariant: a push is recorded, judged and stored in one step under one lock, before anything of the answer is sent.

use super::described::Payload;
use super::rules::{self, Dropped, Judged, Overwritten, PointKey, Refusal, Store};
use crate::http::{Answer, Request};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use serde_json::json;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// What the intake does with one push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Acts by the rules: stores and answers 202, or refuses.
    Take,
    /// Stores nothing and answers with this status, body and headers, whatever the rules say.
    Status(u16, String, Vec<(String, String)>),
    /// Stores nothing and drops the connection without an answer.
    Reset,
    /// Stores nothing and does not answer; [`Intake::release`] or [`Intake::stop`] drops the connection.
    Hang,
    /// Stores by the rules, then drops the connection without an answer.
    StoreThenDrop,
    /// Stores by the rules, then answers with this status. What the rules refuse is answered by the rules.
    StoreThenStatus(u16),
    /// Drops the connection without an answer and keeps the payload; it is stored at [`Intake::land_late`].
    StoreLater,
}

impl Order {
    /// Answers with this status and an error in Datadog's form.
    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, errors(&[format!("ordered to answer {status}")]), Vec::new())
    }

    /// Answers with this status, an error in Datadog's form, and `Retry-After`.
    pub(crate) fn retry_after(status: u16, seconds: u64) -> Self {
        let headers = vec![("Retry-After".to_owned(), seconds.to_string())];
        Self::Status(status, errors(&[format!("ordered to answer {status}")]), headers)
    }
}

/// One push that came in.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The path, with what the base URL put before it.
    pub(crate) path: String,
    /// Headers by their lower-case names.
    pub(crate) headers: BTreeMap<String, String>,
    /// Length of the body as sent.
    pub(crate) wire_bytes: usize,
    /// `Content-Encoding`.
    pub(crate) encoding: Option<String>,
    /// The JSON text; empty if it could not be unpacked.
    pub(crate) unpacked: String,
    /// The payload; without series if the text could not be read as one.
    pub(crate) payload: Payload,
    /// The status it was answered with; `None` if it was not answered.
    pub(crate) answered: Option<u16>,
    /// When its last byte had come in.
    pub(crate) at: Instant,
}

impl Received {
    /// Whether any series of the payload has this tag.
    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.payload.series.iter().flat_map(|series| series.tags.iter().flatten()).any(|known| known == tag)
    }
}

/// What decides over a push for which there is no order.
pub(super) type Policy = Box<dyn FnMut(&Received) -> Order + Send>;

/// Everything that an intake has seen and kept.
#[derive(Default)]
pub(crate) struct State {
    pub(super) key: String,
    pub(super) clock_offset_s: i64,
    pub(super) omits_date: bool,
    pub(super) validate: Option<Order>,
    pub(super) orders: VecDeque<Order>,
    pub(super) policy: Option<Policy>,
    pub(super) store: Store,
    pub(super) late: Vec<Payload>,
    requests: Vec<Received>,
    validations: usize,
    violations: Vec<String>,
    /// Grows whenever those that hang are let go.
    releases: u64,
    /// While it is set, none hangs.
    is_stopped: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("answered", &self.requests.iter().map(|received| received.answered).collect::<Vec<_>>())
            .field("stored", &self.store.points.len())
            .field("dropped", &self.store.dropped.len())
            .field("late", &self.late.len())
            .field("validations", &self.validations)
            .field("violations", &self.violations)
            .finish_non_exhaustive()
    }
}

/// How a push ends.
enum Ending {
    Answered(Answer),
    Dropped,
    Hanging,
}

impl State {
    /// The sum of a metric over all tag sets and seconds.
    pub(crate) fn count(&self, metric: &str) -> f64 {
        self.store.points.iter().filter(|((name, _, _), _)| name == metric).map(|(_, value)| value).sum()
    }

    /// The last value of each metric, tag set and second.
    pub(crate) fn stored(&self) -> &BTreeMap<PointKey, f64> {
        &self.store.points
    }

    /// The points that were taken and thrown away.
    pub(crate) fn dropped(&self) -> &[Dropped] {
        &self.store.dropped
    }

    /// The values that gave way to different ones.
    pub(crate) fn overwritten(&self) -> &[Overwritten] {
        &self.store.overwritten
    }

    /// All pushes, in the order in which they came in.
    pub(crate) fn requests(&self) -> &[Received] {
        &self.requests
    }

    /// How often `GET /api/v1/validate` was asked.
    pub(crate) fn validations(&self) -> usize {
        self.validations
    }

    /// All that was wrong with what came in.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The second it is for this intake.
    pub(crate) fn clock(&self) -> i64 {
        Timestamp::now().as_second().saturating_add(self.clock_offset_s)
    }

    fn next_order(&mut self, received: &Received) -> Order {
        match (self.orders.pop_front(), &mut self.policy) {
            (Some(order), _) => order,
            (None, Some(policy)) => policy(received),
            (None, None) => Order::Take,
        }
    }

    /// Stores a payload, unless the rules refuse it.
    fn store(&mut self, payload: &Payload, refusal: Option<&Refusal>) {
        if refusal.is_none() {
            let clock = self.clock();
            self.store.take(payload, clock);
        }
    }

    fn obey(&mut self, order: Order, payload: &Payload, refusal: Option<&Refusal>) -> Ending {
        match (order, refusal) {
            (Order::Status(status, body, headers), _) => Ending::Answered(Answer { status, headers, body }),
            (Order::Hang, _) => Ending::Hanging,
            (Order::Reset, _) => Ending::Dropped,
            (Order::StoreThenDrop, _) => {
                self.store(payload, refusal);
                Ending::Dropped
            }
            (Order::StoreLater, _) => {
                self.late.extend(refusal.is_none().then(|| payload.clone()));
                Ending::Dropped
            }
            (Order::Take | Order::StoreThenStatus(_), Some(refusal)) => {
                Ending::Answered(answer(refusal.status, errors(&[&refusal.error])))
            }
            (Order::Take, None) => {
                self.store(payload, None);
                Ending::Answered(answer(202, errors::<&str>(&[])))
            }
            (Order::StoreThenStatus(status), None) => {
                self.store(payload, None);
                let told = if status < 300 { Vec::new() } else { vec![format!("ordered to answer {status}")] };
                Ending::Answered(answer(status, errors(&told)))
            }
        }
    }
}

/// A body in Datadog's form.
fn errors<T: AsRef<str>>(errors: &[T]) -> String {
    json!({ "errors": errors.iter().map(AsRef::as_ref).collect::<Vec<&str>>() }).to_string()
}

fn answer(status: u16, body: String) -> Answer {
    Answer { status, headers: Vec::new(), body }
}

/// What the connections' threads share with the tests.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a policy or a rule panicked in the intake")
    }

    pub(super) fn handle(&self, request: Request) -> Option<Answer> {
        let is_series = request.path.ends_with("/api/v2/series");
        let is_validate = request.path.ends_with("/api/v1/validate");
        let mut answer = match request.method.as_str() {
            "POST" if is_series => self.push(request)?,
            "GET" if is_validate => self.validate(&request),
            method => {
                self.lock().violations.push(format!("{method} {} is not served here", request.path));
                answer(if is_series || is_validate { 405 } else { 404 }, errors(&["not served here"]))
            }
        };
        let state = self.lock();
        if !state.omits_date {
            answer.add_default("Date", &http_date(state.clock()));
        }
        answer.add_default("Content-Type", "application/json");
        Some(answer)
    }

    fn push(&self, request: Request) -> Option<Answer> {
        let at = Instant::now();
        let Judged { unpacked, payload, refusal, violations } = rules::judge(&request);
        let mut state = self.lock();
        let is_known = request.header("dd-api-key") == Some(state.key.as_str());
        let refusal = if is_known { refusal } else { Some(forbidden()) };
        let mut received = Received {
            path: request.path,
            wire_bytes: request.body.len(),
            encoding: request.headers.get("content-encoding").cloned(),
            headers: request.headers,
            unpacked,
            payload,
            answered: None,
            at,
        };
        let order = state.next_order(&received);
        let ending = state.obey(order, &received.payload, refusal.as_ref());
        if let Ending::Answered(answer) = &ending {
            received.answered = Some(answer.status);
        }
        state.requests.push(received);
        state.violations.extend(violations);
        self.changed.notify_all();
        match ending {
            Ending::Answered(answer) => return Some(answer),
            Ending::Dropped => {}
            Ending::Hanging => {
                let begun = state.releases;
                drop(self.changed.wait_while(state, |state| state.releases == begun && !state.is_stopped));
            }
        }
        None
    }

    fn validate(&self, request: &Request) -> Answer {
        let mut state = self.lock();
        state.validations += 1;
        self.changed.notify_all();
        let is_known = request.header("dd-api-key") == Some(state.key.as_str());
        match &state.validate {
            Some(Order::Status(status, body, _)) => answer(*status, body.clone()),
            _ if is_known => answer(200, json!({ "valid": true }).to_string()),
            _ => answer(403, errors(&[forbidden().error])),
        }
    }

    /// Stores what [`Order::StoreLater`] kept.
    pub(super) fn land_late(&self) {
        let mut state = self.lock();
        for payload in std::mem::take(&mut state.late) {
            state.store(&payload, None);
        }
        self.changed.notify_all();
    }

    /// Lets go of those that hang.
    pub(super) fn release(&self) {
        self.lock().releases += 1;
        self.changed.notify_all();
    }

    /// Whether requests may hang. It works on a state that a panic has left behind, too, for a thread that hangs would
    /// keep its intake from stopping.
    pub(super) fn set_stopped(&self, is_stopped: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_stopped = is_stopped;
        self.changed.notify_all();
    }
}

fn forbidden() -> Refusal {
    Refusal { status: 403, error: "Forbidden".to_owned() }
}

/// A date as HTTP writes it. Source: RFC 9110, 5.6.7.
fn http_date(second: i64) -> String {
    let timestamp = Timestamp::from_second(second).expect("a second that can be written as a date");
    DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp).expect("a date that HTTP can write")
}
