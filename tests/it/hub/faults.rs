//! What was asked, and what a hub is ordered to do wrong.
//!
//! Invariant: an order is for the next requests that it matches; the first order that matches is obeyed, and used up by it.

use super::reply::Reply;
use crate::http::{Answer, Request};
use std::{collections::BTreeMap, fmt};

/// One request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `GET`, `POST` and so on.
    pub(crate) method: String,
    /// The path below `/api/v3`, without its query.
    pub(crate) path: String,
    /// What stands behind the question mark, as it came.
    pub(crate) query: String,
    /// `Bearer` and the like; empty without authorisation. What it authorises by is kept nowhere.
    pub(crate) scheme: String,
    /// All other headers, by their lower-case names.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body, as text.
    pub(crate) body: String,
    /// The status it was answered with; `None` while it is not.
    pub(crate) answered: Option<u16>,
}

impl Asked {
    pub(super) fn of(request: &Request) -> Self {
        let mut headers = request.headers.clone();
        let authorisation = headers.remove("authorization").unwrap_or_default();
        let path = request.path.strip_prefix("/api/v3").unwrap_or(&request.path);
        Self {
            method: request.method.clone(),
            path: path.to_owned(),
            query: request.query.clone(),
            scheme: authorisation.split(' ').next().unwrap_or_default().to_owned(),
            headers,
            body: String::from_utf8_lossy(&request.body).into_owned(),
            answered: None,
        }
    }

    /// Whether it is this method and path.
    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.query.is_empty() { "" } else { "?" };
        let answered = self.answered.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        write!(f, "{} {}{mark}{} -> {answered}", self.method, self.path, self.query)
    }
}

/// What the hub does with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Does nothing and answers with this status and an error.
    Status(u16),
    /// Does nothing and answers with this status and text, whatever it is.
    Text(u16, String),
    /// Does nothing and answers that a secondary limit is exceeded: 403 or 429, with `Retry-After` in seconds if given.
    Secondary(u16, Option<u64>),
    /// Does nothing and drops the connection without an answer.
    Reset,
    /// Does nothing and does not answer until [`super::Hub::release`], or the hub's end, drops the connection.
    Hang,
    /// Does what is asked, and drops the connection without an answer.
    ActThenReset,
}

impl Order {
    /// The answer, where there is one.
    pub(super) fn answer(&self) -> Option<Answer> {
        match self {
            Self::Status(status) => Some(Reply::error(*status, &format!("ordered to answer {status}")).answer()),
            Self::Text(status, text) => Some(Answer { status: *status, headers: Vec::new(), body: text.clone() }),
            Self::Secondary(status, retry_after) => {
                let message =
                    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
                let reply = Reply::error(*status, message);
                Some(match retry_after {
                    Some(seconds) => reply.header("Retry-After", seconds.to_string()).answer(),
                    None => reply.answer(),
                })
            }
            Self::Reset | Self::Hang | Self::ActThenReset => None,
        }
    }
}

/// Which requests an order is for.
pub(super) type Predicate = Box<dyn Fn(&Asked) -> bool + Send>;

/// An order, and for how many requests it still is.
pub(super) struct Ordered {
    pub(super) order: Order,
    pub(super) left: usize,
    pub(super) matches: Predicate,
}

/// The order for this request, if there is one.
pub(super) fn take(orders: &mut Vec<Ordered>, asked: &Asked) -> Option<Order> {
    let ordered = orders.iter_mut().find(|ordered| (ordered.matches)(asked))?;
    ordered.left -= 1;
    let order = ordered.order.clone();
    orders.retain(|ordered| ordered.left > 0);
    Some(order)
}
