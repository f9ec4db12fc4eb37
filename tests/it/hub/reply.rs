//! Answers in GitHub's form, and lists page by page.
//!
//! Invariant: each error has `message`, `documentation_url` and `status`, as GitHub's have.

use super::deliveries::Errand;
use crate::http::Answer;
use serde_json::{Value, json};

const DOCUMENTATION: &str = "https://docs.github.com/rest";

/// An answer in the making, and what is delivered once it is given.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Option<Value>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) errands: Vec<Errand>,
}

impl Reply {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), headers: Vec::new(), errands: Vec::new() }
    }

    pub(super) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    /// 204, which has no body.
    pub(super) fn empty() -> Self {
        Self { status: 204, body: None, headers: Vec::new(), errands: Vec::new() }
    }

    pub(super) fn error(status: u16, message: &str) -> Self {
        let status_text = status.to_string();
        Self::new(status, json!({ "message": message, "documentation_url": DOCUMENTATION, "status": status_text }))
    }

    pub(super) fn not_found() -> Self {
        Self::error(404, "Not Found")
    }

    /// 422 with one error of a hook.
    pub(super) fn invalid(message: &str) -> Self {
        let errors = json!([{ "resource": "Hook", "code": "custom", "message": message }]);
        Self::new(
            422,
            json!({
                "message": "Validation Failed",
                "errors": errors,
                "documentation_url": DOCUMENTATION,
                "status": "422",
            }),
        )
    }

    pub(super) fn header(mut self, name: &str, value: String) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }

    pub(super) fn errand(mut self, errand: Errand) -> Self {
        self.errands.push(errand);
        self
    }

    pub(super) fn answer(&self) -> Answer {
        let body = self.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut answer = Answer { status: self.status, headers: self.headers.clone(), body };
        if self.body.is_some() {
            answer.add_default("Content-Type", "application/json; charset=utf-8");
        }
        answer
    }
}

/// What stands behind the question mark.
#[derive(Debug, Clone)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `per_page`: 30 if it is not given, 100 at the most.
    pub(super) fn per_page(&self) -> usize {
        self.number("per_page", 30).clamp(1, 100)
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// `url` with this query, in which one value is another.
    pub(super) fn with(&self, url: &str, name: &str, value: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.0.iter().filter(|(known, _)| known != name)).append_pair(name, value);
        format!("{url}?{}", query.finish())
    }

    /// The page asked for, with a `Link` to the others. `name` is the list's field, beside `total_count`; without one the
    /// list itself is the body.
    pub(super) fn page(&self, url: &str, name: Option<&str>, items: &[Value], total: usize) -> Reply {
        let (page, per_page) = (self.number("page", 1).max(1), self.per_page());
        let last = items.len().div_ceil(per_page).max(1);
        let shown: Vec<&Value> = items.iter().skip((page - 1).saturating_mul(per_page)).take(per_page).collect();
        let reply = Reply::ok(match name {
            Some(name) => json!({ "total_count": total, name: shown }),
            None => json!(shown),
        });
        let mut links = Vec::new();
        let mut link = |to: usize, rel: &str| {
            links.push(format!("<{}>; rel=\"{rel}\"", self.with(url, "page", &to.to_string())));
        };
        if page > 1 {
            link(page - 1, "prev");
        }
        if page < last {
            link(page + 1, "next");
            link(last, "last");
        }
        if page > 1 {
            link(1, "first");
        }
        if links.is_empty() { reply } else { reply.header("Link", links.join(", ")) }
    }
}
