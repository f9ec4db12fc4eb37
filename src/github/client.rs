//! Requests to the API and what comes of them: limits are waited for, passing faults are tried again.

use super::{
    App, Auth, GithubError, Place, api_root,
    verdict::{Verdict, verdict},
};
use crate::{
    explain::{cut, escaped},
    outgoing::{Timeouts, http_client, http_date},
};
use awc::http::{Method, header::HeaderMap};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    time::Duration,
};

/// How long an answer may take; one page of runs is a megabyte.
const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(5), whole: Duration::from_secs(30) };

/// The longest answer. A recorded delivery has a payload of 25 MB at the most.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// How often a request is made that fails in a passing way.
const TRIES: u32 = 4;

/// How much of GitHub's message is told, in characters.
const MESSAGE_MAX_CHARS: usize = 300;

/// A token of an installation is not used in its last minute.
const TOKEN_REST_S: i64 = 60;

/// What GitHub last said of its primary limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Requests in an hour.
    pub limit: u64,
    /// How many of them are left.
    pub remaining: u64,
    /// When there are all again, in seconds since 1970.
    pub reset: i64,
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reset = Timestamp::from_second(self.reset).unwrap_or_default();
        write!(f, "{} of {} requests left until {}", self.remaining, self.limit, reset.strftime("%H:%M:%S UTC"))
    }
}

/// An answer that is as it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) body: Vec<u8>,
    /// The next page, as a path.
    pub(super) next: Option<String>,
}

/// A page that was seen, and the tag by which GitHub knows whether it has changed.
#[derive(Debug, Clone)]
struct Seen {
    etag: String,
    reply: Reply,
}

/// A GitHub, and who asks it. It must be made and used in an actix runtime.
pub struct Github {
    http: awc::Client,
    root: String,
    auth: Auth,
    /// Tokens of an App's installations, each with the second at which it expires.
    installations: RefCell<HashMap<Place, (String, i64)>>,
    seen: RefCell<HashMap<String, Seen>>,
    limits: Cell<Option<Limits>>,
    requests: Cell<u64>,
    tell: RefCell<Tell>,
}

/// Tells of what goes on.
type Tell = Box<dyn Fn(Notice<'_>)>;

/// Something that goes on while a request is made.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// Its last try failed in a passing way.
    TryingAgain(&'a str),
    /// GitHub's limit is reached, until then.
    Waiting(Timestamp),
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TryingAgain(cause) => write!(f, "{cause}: trying again"),
            Self::Waiting(until) => {
                write!(f, "GitHub's rate limit is reached: waiting until {}", until.strftime("%H:%M:%S UTC"))
            }
        }
    }
}

impl fmt::Debug for Github {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Github").field("root", &self.root).field("auth", &self.auth).finish_non_exhaustive()
    }
}

impl Github {
    /// The API at `root`, see [`api_root`]; it connects at the first request.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(root: String, auth: Auth) -> Result<Self, GithubError> {
        debug_assert!(api_root(&root).is_some(), "{root}");
        Ok(Self {
            http: http_client(TIMEOUTS)?,
            root,
            auth,
            installations: RefCell::default(),
            seen: RefCell::default(),
            limits: Cell::default(),
            requests: Cell::default(),
            tell: RefCell::new(Box::new(|notice| log::warn!("{notice}"))),
        })
    }

    /// Tells so of what goes on; else it is logged.
    pub fn tell_by(&self, tell: impl Fn(Notice<'_>) + 'static) {
        *self.tell.borrow_mut() = Box::new(tell);
    }

    /// How many requests were made.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// What is left of the primary limit, once that is known.
    #[must_use]
    pub const fn limits(&self) -> Option<Limits> {
        self.limits.get()
    }

    pub(super) async fn get(&self, place: &Place, path: &str) -> Result<Reply, GithubError> {
        self.ask(&Method::GET, place, path, None, None).await.map(|(reply, _)| reply)
    }

    /// Asks for a page that is asked for time and again: while it is as it was, that costs nothing of the limit.
    pub(super) async fn get_again(&self, place: &Place, path: &str) -> Result<Reply, GithubError> {
        let seen = self.seen.borrow().get(path).cloned();
        let etag = seen.as_ref().map(|seen| seen.etag.as_str());
        let (reply, etag) = self.ask(&Method::GET, place, path, None, etag).await?;
        match (seen, etag) {
            (Some(seen), None) if reply.body.is_empty() => Ok(seen.reply),
            (_, Some(etag)) => {
                self.seen.borrow_mut().insert(path.to_owned(), Seen { etag, reply: reply.clone() });
                Ok(reply)
            }
            (_, None) => Ok(reply),
        }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        place: &Place,
        path: &str,
        body: Value,
    ) -> Result<Reply, GithubError> {
        self.ask(&method, place, path, Some(&body), None).await.map(|(reply, _)| reply)
    }

    /// Reads JSON.
    pub(super) fn read<T: DeserializeOwned>(path: &str, reply: &Reply) -> Result<T, GithubError> {
        serde_json::from_slice(&reply.body).map_err(|cause| GithubError::Unexpected {
            what: format!("GET {path}"),
            cause: format!("not as GitHub writes it: {cause}"),
        })
    }

    async fn ask(
        &self,
        method: &Method,
        place: &Place,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<(Reply, Option<String>), GithubError> {
        let request = Request { method, path, body, etag, is_repeatable: method != Method::POST };
        let asked = self.ask_as(async || self.bearer(place).await, &request).await;
        match asked {
            // A token of an installation can be withdrawn before its time.
            Err(GithubError::Unauthorized { .. }) if self.installations.borrow_mut().remove(place).is_some() => {
                self.ask_as(async || self.bearer(place).await, &request).await
            }
            asked => asked,
        }
    }

    /// Who asks, as of now.
    async fn bearer(&self, place: &Place) -> Result<String, GithubError> {
        match &self.auth {
            Auth::Token(token) => Ok(token.text()),
            Auth::App(app) => Box::pin(self.installation(app, place)).await,
        }
    }

    /// The token of the App's installation at a place.
    async fn installation(&self, app: &App, place: &Place) -> Result<String, GithubError> {
        #[derive(Deserialize)]
        struct Installation {
            id: u64,
        }
        #[derive(Deserialize)]
        struct Made {
            token: String,
            expires_at: Timestamp,
        }
        let now = Timestamp::now().as_second();
        let known = self.installations.borrow().get(place).cloned();
        if let Some((token, _)) = known.filter(|(_, expires)| now + TOKEN_REST_S < *expires) {
            return Ok(token);
        }
        let jwt = async || {
            let odd =
                || GithubError::Unexpected { what: "the App's key".to_owned(), cause: "it cannot sign".to_owned() };
            app.jwt(Timestamp::now().as_second()).ok_or_else(odd)
        };
        let path = format!("{}/installation", place.path());
        let find = Request { method: &Method::GET, path: &path, body: None, etag: None, is_repeatable: true };
        let (found, _) = self.ask_as(jwt, &find).await.map_err(|error| match error {
            GithubError::NotFound { .. } => GithubError::NotInstalled(place.clone()),
            error => error,
        })?;
        let Installation { id } = Self::read(&path, &found)?;
        let (path, body) = (format!("/app/installations/{id}/access_tokens"), json!({}));
        // A token that nobody has heard of does no harm.
        let new_token =
            Request { method: &Method::POST, path: &path, body: Some(&body), etag: None, is_repeatable: true };
        let (made, _) = self.ask_as(jwt, &new_token).await?;
        let Made { token, expires_at } = Self::read(&path, &made)?;
        self.installations.borrow_mut().insert(place.clone(), (token.clone(), expires_at.as_second()));
        Ok(token)
    }

    /// Asks until there is an answer that counts, each time as who it is by then. With it comes its tag, if it has one.
    async fn ask_as(
        &self,
        bearer: impl AsyncFn() -> Result<String, GithubError>,
        request: &Request<'_>,
    ) -> Result<(Reply, Option<String>), GithubError> {
        let what = format!("{} {}", request.method, request.path.split('?').next().unwrap_or_default());
        let mut failures = 0;
        loop {
            let bearer = bearer().await?;
            let answer = self.once(&bearer, request).await;
            self.requests.set(self.requests.get() + 1);
            let (cause, verdict) = match answer {
                Ok(Answer { verdict: Verdict::Done, reply, etag, .. }) => return Ok((reply, etag)),
                Ok(Answer { verdict, status, message, .. }) => (told(status, &message, &bearer), verdict),
                Err(cause) => (cause, Verdict::Passing),
            };
            match verdict {
                Verdict::Limited(wait) => {
                    self.tell(Notice::Waiting(Timestamp::now() + wait));
                    tokio::time::sleep(wait).await;
                }
                // What was posted may have been done, and must not be done twice.
                Verdict::Passing if failures + 1 < TRIES && request.is_repeatable => {
                    failures += 1;
                    self.tell(Notice::TryingAgain(&format!("{what}: {cause}")));
                    tokio::time::sleep(Duration::from_secs(1 << failures).mul_f64(fastrand::f64())).await;
                }
                Verdict::Passing => return Err(GithubError::NoAnswer { what, cause }),
                Verdict::Unauthorized => return Err(GithubError::Unauthorized { what, message: cause }),
                Verdict::Forbidden => return Err(GithubError::Forbidden { what, message: cause }),
                Verdict::NotFound => return Err(GithubError::NotFound { what }),
                Verdict::Moved => return Err(GithubError::Moved { what }),
                Verdict::Invalid => return Err(GithubError::Invalid { what, message: cause }),
                Verdict::Unexpected | Verdict::Done => return Err(GithubError::Unexpected { what, cause }),
            }
        }
    }

    fn tell(&self, notice: Notice<'_>) {
        (self.tell.borrow())(notice);
    }

    async fn once(&self, bearer: &str, request: &Request<'_>) -> Result<Answer, String> {
        let mut asked = self
            .http
            .request(request.method.clone(), format!("{}{}", self.root, request.path))
            .insert_header(("Accept", "application/vnd.github+json"))
            .insert_header(("X-GitHub-Api-Version", "2022-11-28"))
            .bearer_auth(bearer);
        if let Some(etag) = request.etag {
            asked = asked.insert_header(("If-None-Match", etag));
        }
        let sent = match request.body {
            Some(body) => asked.send_json(body),
            None => asked.send(),
        };
        let mut response = sent.await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response.body().limit(ANSWER_MAX_BYTES).await.map_err(|error| error.to_string())?;
        let headers = response.headers();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(limits) = limits(header) {
            self.limits.set(Some(limits));
        }
        let message = message(&body);
        Ok(Answer {
            verdict: verdict(status, header, &message, answered_at(header)),
            status,
            message,
            etag: header("etag").map(str::to_owned).filter(|_| status != 304),
            reply: Reply { body: body.into(), next: self.next(headers) },
        })
    }

    /// The path of the next page. Only the path is taken: no token goes where a header says. A proxy's links may still be
    /// GitHub's own, below another root.
    fn next(&self, headers: &HeaderMap) -> Option<String> {
        let link = headers.get("link")?.to_str().ok()?;
        let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
        let url = next.split_once('<')?.1.split_once('>')?.0;
        let path = |url: &str| Some(format!("/{}", url.split_once("://")?.1.split_once('/')?.1));
        let (path, below) = (path(url)?, path(&format!("{}/", self.root))?);
        Some(path.strip_prefix(below.trim_end_matches('/')).map_or(path.clone(), str::to_owned))
    }
}

/// A request, whoever makes it.
#[derive(Debug)]
struct Request<'a> {
    method: &'a Method,
    path: &'a str,
    body: Option<&'a Value>,
    etag: Option<&'a str>,
    /// Whether it does no harm twice.
    is_repeatable: bool,
}

/// The second of an answer by GitHub's own clock, if it tells.
fn answered_at<'a>(header: impl Fn(&str) -> Option<&'a str>) -> i64 {
    header("date").and_then(http_date).unwrap_or_else(|| Timestamp::now().as_second())
}

#[derive(Debug)]
struct Answer {
    verdict: Verdict,
    status: u16,
    message: String,
    etag: Option<String>,
    reply: Reply,
}

/// What is said of an answer: its status and GitHub's message, in which nobody finds the token.
fn told(status: u16, message: &str, bearer: &str) -> String {
    let message = message.replace(bearer, "(the token)");
    format!("{status} {}", escaped(cut(&message, MESSAGE_MAX_CHARS))).trim_end().to_owned()
}

fn limits<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Limits> {
    let number = |name: &str| header(name)?.parse().ok();
    Some(Limits {
        limit: number("x-ratelimit-limit")?,
        remaining: number("x-ratelimit-remaining")?,
        reset: i64::try_from(number("x-ratelimit-reset")?).ok()?,
    })
}

/// GitHub's message in an answer, with what it says of each fault.
fn message(body: &[u8]) -> String {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let text = |value: &Value| value.get("message").and_then(Value::as_str).map(str::to_owned);
    let errors = answer.get("errors").and_then(Value::as_array).into_iter().flatten();
    let errors = errors.filter_map(|error| text(error).or_else(|| error.as_str().map(str::to_owned)));
    text(&answer).into_iter().chain(errors).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
