//! The public listener: a delivery comes in, is verified, understood, recorded, and answered.
//!
//! Invariant: signature first. A request without a well-formed signature is answered before its body is read, and an
//! unsigned one learns nothing and costs no parsing. Nothing answers 202 before the ledger says that it is on disk.

mod body;
mod ran;
mod server;

use crate::{
    answers::{healthz, not_found, wrong_method},
    config::Repositories,
    event::{self, Completed, Detail, Event, NotOurs},
    explain::{self, explain},
    ledger::{Accepted, Ledger, Reruns, Unavailable},
    limits::Limits,
    metrics::{BACKFILL_TAG, Tagging},
    secrets::Secrets,
    signature::Signature,
    tls::Tls,
    vitals::{Delivered, Outcome, Way},
};
use actix_web::{
    HttpRequest, HttpResponse,
    dev::Server,
    http::{
        StatusCode,
        header::{self, HeaderMap},
    },
    web,
};
use body::{Bodies, BodyError, Unreading};
use ran::Ran;
use serde_json::json;
use std::{borrow::Cow, io, net::TcpListener, sync::Arc, time::Instant};

pub use body::BODY_MAX_BYTES;

/// How much of a delivery's GUID is told, in characters. GitHub's have 36.
const GUID_MAX_CHARS: usize = 64;

/// What a sender is told to wait before it tries again, in seconds.
const RETRY_AFTER_S: &str = "5";

/// What every request needs.
#[derive(Debug)]
pub struct Receiver {
    secrets: Arc<Secrets>,
    repositories: Option<Repositories>,
    tagging: Tagging,
    reruns: Reruns,
    ran: Ran,
    ledger: Ledger,
    limits: Limits,
    bodies: Bodies,
}

impl Receiver {
    /// A receiver that takes deliveries of all repositories that are signed with any of `secrets`, within the usual limits.
    #[must_use]
    pub fn new(secrets: Arc<Secrets>, tagging: Tagging, ledger: Ledger) -> Self {
        let limits = Limits::default();
        let (repositories, reruns, bodies) = (None, Reruns::default(), Bodies::new(&limits));
        Self { secrets, repositories, tagging, reruns, ran: Ran::default(), ledger, limits, bodies }
    }

    /// The same, with re-runs taken for this. On those of runs the ledger decides.
    #[must_use]
    pub fn reruns(self, reruns: Reruns) -> Self {
        Self { reruns, ..self }
    }

    /// The same, within these limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, bodies: Bodies::new(&limits), ..self }
    }

    /// The same, and it ignores runs of all other repositories than these, if there are any.
    #[must_use]
    pub fn repositories(self, repositories: Option<Repositories>) -> Self {
        Self { repositories, ..self }
    }

    /// The same on the same ledger, but what it takes in is counted at its own time, however long ago, beside what is counted at
    /// its end: with a tag of its own.
    pub(crate) fn backfilling(&self, since: &str) -> Self {
        let mut tagging = self.tagging.clone();
        tagging.constant.push(format!("{BACKFILL_TAG}:{since}"));
        let Self { secrets, repositories, reruns, ledger, limits, .. } = self;
        let receiver = Self::new(Arc::clone(secrets), tagging, ledger.clone()).reruns(*reruns);
        receiver.limits(*limits).repositories(repositories.clone())
    }

    /// Of what things are counted.
    pub(crate) const fn detail(&self) -> Detail {
        self.tagging.detail
    }

    /// Serves on a bound listener, in TLS if a pair is given, until stopped through the server's handle.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn serve(self: Arc<Self>, tls: Option<&Tls>, listener: TcpListener) -> io::Result<Server> {
        server::serve(self, tls, listener)
    }
}

fn routes(app: &mut web::ServiceConfig) {
    let wrong_method = || async { wrong_method("POST") };
    let webhook = web::resource("/webhook").route(web::post().to(webhook)).default_service(web::to(wrong_method));
    app.service(webhook).service(healthz()).default_service(web::to(not_found));
}

async fn webhook(receiver: web::Data<Receiver>, request: HttpRequest, mut payload: web::Payload) -> HttpResponse {
    let begun = Instant::now();
    let result = receiver.receive(&request, &mut payload).await;
    let outcome = result.as_ref().map_or_else(Refusal::outcome, Reception::outcome);
    receiver.ledger.vitals().answered(outcome, begun.elapsed());
    match result {
        Ok(reception) => {
            server::keep_connection(&request);
            reception.response()
        }
        Err(refusal) => refusal.response(payload),
    }
}

/// What a delivery that was taken care of came to.
#[derive(Debug)]
pub(crate) enum Reception {
    Recorded(Accepted, String),
    Ignored(String),
}

/// Why a request was not taken, as it is told to the sender.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no valid X-Hub-Signature-256")]
    NotSigned,
    #[error("the body is over 25 MiB")]
    TooLarge,
    #[error("Content-Type must be application/json or application/x-www-form-urlencoded")]
    MediaType,
    #[error("{0}")]
    Malformed(String),
    #[error("the body broke off")]
    Broken,
    #[error("the body did not come in time")]
    Slow,
    #[error("too much is in flight")]
    Busy,
    #[error("the delivery cannot be recorded at the moment")]
    Unavailable,
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::Busy => Self::Busy,
            BodyError::Broken => Self::Broken,
            BodyError::Slow => Self::Slow,
        }
    }
}

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        log::error!("a delivery was not accepted: {error}");
        Self::Unavailable
    }
}

impl Receiver {
    async fn receive(&self, request: &HttpRequest, payload: &mut web::Payload) -> Result<Reception, Refusal> {
        let headers = request.headers();
        let signature = headers
            .get("x-hub-signature-256")
            .and_then(|value| Signature::parse(value.as_bytes()))
            .ok_or(Refusal::NotSigned)?;
        let body = self.bodies.read(headers, payload).await?;
        if !self.secrets.verify(&body, &signature, Instant::now()) {
            log::debug!("a wrong signature from {:?}", request.peer_addr());
            return Err(Refusal::NotSigned);
        }
        let body = self.bodies.verified(body)?;
        let json = json_of(headers, &body)?;
        let event = text(headers, "x-github-event");
        let guid = text(headers, "x-github-delivery");
        self.take(event, guid, &json, Way::Delivered).await
    }

    /// Takes in a delivery that is known to be GitHub's.
    pub(crate) async fn take(
        &self,
        event: Option<&str>,
        guid: Option<&str>,
        json: &[u8],
        way: Way,
    ) -> Result<Reception, Refusal> {
        let guid = guid.map(|guid| explain::cut(guid, GUID_MAX_CHARS));
        let parsed =
            event::parse(event, json, self.tagging.detail).map_err(|error| Refusal::Malformed(explain(&error)))?;
        match parsed {
            Event::Completed(completed) => match self.unwanted(&completed) {
                Some(why) => Ok(self.ignored(why, guid, Some(completed.repository.to_string()))),
                None => self.accept(completed, guid, way).await,
            },
            Event::NotOurs(why) => {
                let repository = event::repository(json);
                Ok(self.ignored(why.to_string(), guid, repository.map(|repository| repository.to_string())))
            }
            Event::Unusable(why) => {
                let text = String::from_utf8_lossy(json);
                let line = event::misunderstood(now(), event, guid, why, &text)
                    .map_err(|error| Refusal::Malformed(explain(&error)))?;
                self.ledger.set_aside(line).await?;
                log::warn!("{why}: a delivery was set aside in the file of rejected ones");
                Ok(self.ignored(why.to_owned(), guid, None))
            }
        }
    }

    /// Why this is not counted, if it is not.
    fn unwanted(&self, completed: &Completed) -> Option<String> {
        if self.repositories.as_ref().is_some_and(|repositories| !repositories.take(&completed.repository)) {
            return Some("repository not in --repositories".to_owned());
        }
        if completed.job.as_ref().is_some_and(|job| self.reruns.drops_jobs_of(job.attempt)) {
            return Some("job of a re-run".to_owned());
        }
        self.ran.is_known(completed).then(|| NotOurs::NotRunAgain.to_string())
    }

    async fn accept(&self, completed: Box<Completed>, guid: Option<&str>, way: Way) -> Result<Reception, Refusal> {
        let now = now();
        let run = self.tagging.run(&completed, now);
        let steps = run.steps_ms().len();
        let accepted = self.ledger.accept(run, now).await?;
        let outcome = match accepted {
            Accepted::New => Outcome::Accepted,
            Accepted::Duplicate => Outcome::Duplicate,
        };
        let run = completed.key.to_string();
        let repository = completed.repository.to_string();
        let delivery = guid.unwrap_or("-");
        if accepted == Accepted::New {
            self.ran.note(&completed);
            self.note_odd(&completed, &run, steps);
        }
        log::info!(delivery, run = run.as_str(), repository = repository.as_str(); "{}", outcome.name());
        self.ledger.vitals().delivered(Delivered {
            outcome,
            way,
            guid: guid.map(str::to_owned),
            run: Some(run.clone()),
            repository: Some(repository),
            duration_ms: completed.duration().ms,
            workflow: completed.workflow,
            job: completed.job.map(|job| job.name.unwrap_or_else(|| run.clone())),
            conclusion: completed.conclusion,
            url: completed.url,
            ..Delivered::at(jiff::Timestamp::now())
        });
        Ok(Reception::Recorded(accepted, run))
    }

    /// Tells of what was told and cannot be, or is too much.
    fn note_odd(&self, completed: &Completed, run: &str, steps: usize) {
        let odd = completed.odd_times(self.tagging.detail);
        if odd > 0 {
            self.ledger.vitals().note_odd_times(odd);
            log::warn!(run; "odd times: {odd} of its times cannot be: below 0 they count as 0, above 35 days they are left out");
        }
        let all = completed.job.as_ref().map_or(0, |job| job.steps.len() + job.steps_left_out);
        if all > steps && self.tagging.detail == Detail::Steps {
            log::warn!(run; "{} of its steps are left out: no more of a job are counted than one request has room for", all - steps);
        }
    }

    fn ignored(&self, reason: String, guid: Option<&str>, repository: Option<String>) -> Reception {
        let delivery = guid.unwrap_or("-");
        log::info!(delivery, repository = repository.as_deref().unwrap_or("-"); "ignored: {reason}");
        self.ledger.vitals().delivered(Delivered {
            outcome: Outcome::Ignored,
            guid: guid.map(str::to_owned),
            reason: Some(reason.clone()),
            repository,
            ..Delivered::at(jiff::Timestamp::now())
        });
        Reception::Ignored(reason)
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The JSON text in a body of either of GitHub's two content types.
fn json_of<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Refusal> {
    let content_type = text(headers, "content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(Cow::Borrowed(body));
    }
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refusal::MediaType);
    }
    let mut fields = form_urlencoded::parse(body);
    match fields.find(|(name, _)| name == "payload") {
        Some((_, payload)) => Ok(Cow::Owned(payload.into_owned().into_bytes())),
        None => Err(Refusal::Malformed("the form has no field `payload`".to_owned())),
    }
}

impl Reception {
    const fn outcome(&self) -> Outcome {
        match self {
            Self::Recorded(Accepted::New, _) => Outcome::Accepted,
            Self::Recorded(Accepted::Duplicate, _) => Outcome::Duplicate,
            Self::Ignored(_) => Outcome::Ignored,
        }
    }

    fn response(self) -> HttpResponse {
        let outcome = self.outcome();
        match self {
            Self::Recorded(accepted, id) => {
                let status = if accepted == Accepted::New { StatusCode::ACCEPTED } else { StatusCode::OK };
                // A key has nothing that JSON would have to escape.
                let body = format!(r#"{{"status":"{}","id":"{id}"}}"#, outcome.name());
                HttpResponse::build(status).content_type("application/json").body(body)
            }
            Self::Ignored(reason) => HttpResponse::Ok().json(json!({"status": "ignored", "reason": reason})),
        }
    }
}

impl Refusal {
    const fn outcome(&self) -> Outcome {
        match self {
            Self::NotSigned => Outcome::NotSigned,
            Self::TooLarge | Self::MediaType | Self::Malformed(_) | Self::Broken | Self::Slow => Outcome::Malformed,
            Self::Busy | Self::Unavailable => Outcome::Unavailable,
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::NotSigned => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Malformed(_) | Self::Broken => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn response(self, unread: web::Payload) -> HttpResponse {
        let (status, error) = (self.status(), self.to_string());
        let mut response = HttpResponse::build(status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER_S));
        }
        let text = json!({"error": error}).to_string();
        response.content_type("application/json").body(Unreading { text: Some(text.into()), _unread: unread })
    }
}
