//! Requests to the API and what comes of them: limits are waited for, passing faults are tried again.

use super::{
    Auth, Place, api_root,
    verdict::{Verdict, verdict},
};
use crate::{
    datadog::{ClientError, Timeouts, http_client},
    explain::{cut, escaped},
};
use awc::http::{Method, header::HeaderMap};
use indicatif::ProgressBar;
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

/// GitHub did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GithubError {
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody answers, or only with faults.
    #[error("{what}: {cause}")]
    NoAnswer {
        /// The request.
        what: String,
        /// What happened at the last try.
        cause: String,
    },
    /// The token is not valid.
    #[error("{what}: GitHub does not know the token: {message}")]
    Unauthorized {
        /// The request.
        what: String,
        /// GitHub's words.
        message: String,
    },
    /// The token has not the right.
    #[error("{what}: GitHub forbids it: {message}")]
    Forbidden {
        /// The request.
        what: String,
        /// GitHub's words.
        message: String,
    },
    /// There is no such thing, or the token may not see it.
    #[error("{what}: GitHub finds nothing there")]
    NotFound {
        /// The request.
        what: String,
    },
    /// GitHub refuses what was asked for.
    #[error("{what}: GitHub refuses it: {message}")]
    Invalid {
        /// The request.
        what: String,
        /// GitHub's words.
        message: String,
    },
    /// An answer that nobody expects.
    #[error("{what}: {cause}")]
    Unexpected {
        /// The request.
        what: String,
        /// What is odd.
        cause: String,
    },
}

impl GithubError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Client(_) => "the certificates of this machine cannot be used",
            Self::NoAnswer { .. } => {
                "see to --github-url, name resolution, proxies and outgoing HTTPS, and to githubstatus.com; then run it again: \
                 what was done is not done twice"
            }
            Self::Unauthorized { .. } => {
                "GITHUB_TOKEN, or GITHUB_TOKEN_FILE, must be a token that has not expired; the GITHUB_TOKEN of a workflow cannot \
                 see webhooks. For an App, ID and key must be of the same one"
            }
            Self::Forbidden { .. } => {
                "give the token the rights: for webhooks `Webhooks: read and write` (a classic token: admin:repo_hook, or \
                 admin:org_hook), for runs `Actions: read` (a classic token: repo); where the organization has SSO, authorize the \
                 token for it"
            }
            Self::NotFound { .. } => {
                "check the name; GitHub also hides what a token may not see: for webhooks it needs `Webhooks: read and write` (a \
                 classic token: admin:repo_hook, or admin:org_hook), for runs `Actions: read` (a classic token: repo)"
            }
            Self::Invalid { .. } => "mend what GitHub names",
            Self::Unexpected { .. } => {
                "--github-url must be GitHub itself, or an Enterprise Server: https://github.example.com"
            }
        }
    }
}

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
    /// What a line of the log must not be written into.
    bar: RefCell<ProgressBar>,
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
            bar: RefCell::new(ProgressBar::hidden()),
        })
    }

    /// Tells of waits above this bar.
    pub fn tell_above(&self, bar: ProgressBar) {
        self.bar.replace(bar);
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
        let bearer = match &self.auth {
            Auth::Token(token) => token.text(),
            Auth::App(_) => Box::pin(self.installation(place)).await?,
        };
        self.ask_as(&bearer, method, path, body, etag).await
    }

    /// The token of the App's installation at a place.
    async fn installation(&self, place: &Place) -> Result<String, GithubError> {
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
        let Auth::App(app) = &self.auth else { return Ok(String::new()) };
        let unsigned =
            || GithubError::Unexpected { what: "the App's key".to_owned(), cause: "it cannot sign".to_owned() };
        let jwt = app.jwt(now).ok_or_else(unsigned)?;
        let path = format!("{}/installation", place.path());
        let (found, _) = self.ask_as(&jwt, &Method::GET, &path, None, None).await?;
        let Installation { id } = Self::read(&path, &found)?;
        let path = format!("/app/installations/{id}/access_tokens");
        let (made, _) = self.ask_as(&jwt, &Method::POST, &path, Some(&json!({})), None).await?;
        let Made { token, expires_at } = Self::read(&path, &made)?;
        self.installations.borrow_mut().insert(place.clone(), (token.clone(), expires_at.as_second()));
        Ok(token)
    }

    /// Asks until there is an answer that counts. With it comes its tag, if it has one.
    async fn ask_as(
        &self,
        bearer: &str,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<(Reply, Option<String>), GithubError> {
        let what = format!("{method} {}", path.split('?').next().unwrap_or(path));
        let mut failures = 0;
        loop {
            let answer = self.once(bearer, method, path, body, etag).await;
            self.requests.set(self.requests.get() + 1);
            let (cause, verdict) = match answer {
                Ok(Answer { verdict: Verdict::Done, reply, etag, .. }) => return Ok((reply, etag)),
                Ok(Answer { verdict, status, message, .. }) => (told(status, &message, bearer), verdict),
                Err(cause) => (cause, Verdict::Passing),
            };
            let message = cause.clone();
            match verdict {
                Verdict::Limited(wait) => self.wait_for_limit(wait).await,
                // What was posted may have been done, and must not be done twice.
                Verdict::Passing if failures + 1 < TRIES && method != Method::POST => {
                    failures += 1;
                    let wait = Duration::from_secs(1 << failures).mul_f64(fastrand::f64());
                    self.tell(|| log::warn!("{what}: {cause}: trying again"));
                    tokio::time::sleep(wait).await;
                }
                Verdict::Passing => return Err(GithubError::NoAnswer { what, cause }),
                Verdict::Unauthorized => return Err(GithubError::Unauthorized { what, message }),
                Verdict::Forbidden => return Err(GithubError::Forbidden { what, message }),
                Verdict::NotFound => return Err(GithubError::NotFound { what }),
                Verdict::Invalid => return Err(GithubError::Invalid { what, message }),
                Verdict::Unexpected | Verdict::Done => return Err(GithubError::Unexpected { what, cause }),
            }
        }
    }

    async fn wait_for_limit(&self, wait: Duration) {
        let until = Timestamp::now() + wait;
        self.tell(|| log::warn!("GitHub's rate limit is reached: waiting until {}", until.strftime("%H:%M:%S UTC")));
        tokio::time::sleep(wait).await;
    }

    fn tell(&self, tell: impl FnOnce()) {
        self.bar.borrow().suspend(tell);
    }

    async fn once(
        &self,
        bearer: &str,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Answer, String> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.root))
            .insert_header(("Accept", "application/vnd.github+json"))
            .insert_header(("X-GitHub-Api-Version", "2022-11-28"))
            .bearer_auth(bearer);
        if let Some(etag) = etag {
            request = request.insert_header(("If-None-Match", etag));
        }
        let sent = match body {
            Some(body) => request.send_json(body),
            None => request.send(),
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
            verdict: verdict(status, header, &message, Timestamp::now().as_second()),
            status,
            message,
            etag: header("etag").map(str::to_owned).filter(|_| status != 304),
            reply: Reply { body: body.into(), next: self.next(headers) },
        })
    }

    /// The path of the next page. Only the path is taken: no token goes where a header says.
    fn next(&self, headers: &HeaderMap) -> Option<String> {
        let link = headers.get("link")?.to_str().ok()?;
        let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
        let url = next.split_once('<')?.1.split_once('>')?.0;
        let path = |url: &str| Some(url.split_once("://")?.1.split_once('/')?.1.to_owned());
        let below = path(&format!("{}/", self.root))?;
        path(url)?.strip_prefix(&below).map(|path| format!("/{path}"))
    }
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
mod tests {
    use super::*;
    use crate::github::Token;
    use awc::http::header::{HeaderName, HeaderValue};

    fn next(root: &str, link: &str) -> Option<String> {
        let github = Github::new(root.to_owned(), Auth::Token(Token::new("hush").unwrap())).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("link"), HeaderValue::from_str(link).unwrap());
        github.next(&headers)
    }

    #[actix_web::test]
    async fn a_next_page_is_a_path_below_the_root_whatever_its_host() {
        let root = "https://ghe.example.com/api/v3";
        let page = "repos/a/b/hooks/1/deliveries?per_page=100&cursor=v1_17";
        let both = |base: &str| format!("<{base}/x?page=1>; rel=\"first\", <{base}/{page}>; rel=\"next\"");
        for base in [root, "https://elsewhere.example.com/api/v3"] {
            assert_eq!(next(root, &both(base)).as_deref(), Some(format!("/{page}").as_str()), "{base}");
        }
        assert_eq!(next("https://api.github.com", &both("https://api.github.com")).unwrap(), format!("/{page}"));
        for odd in
            [&both("https://ghe.example.com"), "<nothing>; rel=\"next\"", "rel=\"next\"", "<https://x/y>; rel=\"prev\""]
        {
            assert_eq!(next(root, odd), None, "{odd}");
        }
    }

    #[test]
    fn what_github_says_is_told_in_one_line_and_without_the_token() {
        let body = r#"{"message": "Validation Failed", "errors": [{"message": "Hook already exists"}, "and more"]}"#;
        assert_eq!(message(body.as_bytes()), "Validation Failed: Hook already exists: and more");
        assert_eq!(
            (message(b"<html>"), message(b"[1]"), message(b"{}")),
            (String::new(), String::new(), String::new())
        );
        assert_eq!(told(401, "Bad\ncredentials: hush", "hush"), r"401 Bad\ncredentials: (the token)");
        assert_eq!(told(502, "", "hush"), "502");
        assert_eq!(told(403, &"x".repeat(999), "hush").len(), 4 + MESSAGE_MAX_CHARS);
    }

    #[test]
    fn limits_are_told_with_the_time_of_their_reset() {
        let of = |headers: &[(&str, &'static str)]| {
            limits(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
        };
        let all =
            [("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4986"), ("x-ratelimit-reset", "1772471647")];
        assert_eq!(of(&all).unwrap().to_string(), "4986 of 5000 requests left until 17:14:07 UTC");
        assert_eq!(of(&all[..2]), None);
    }
}
