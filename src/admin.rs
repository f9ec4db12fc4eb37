//! The admin listener: whether the service is alive, ready and well, for orchestrators, Prometheus and people.
//!
//! Invariant: it only looks. Ready means able to journal; trouble with Datadog shows as degraded and never makes it unready.
//! No answer holds a secret, and all show the same facts.

mod chart;
mod exposition;
mod facts;
mod health;
mod page;
mod words;

use crate::{
    answers::{healthz, not_found, readable},
    datadog::ApiKey,
    ledger::{Files, Ledger},
    metrics::SeriesCount,
    secrets::Secrets,
    tls::Tls,
};
use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    http::header,
    middleware::DefaultHeaders,
    web::{self, Data},
};
use jiff::Timestamp;
use serde_json::json;
use std::{
    io,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use exposition::{Kind, METRICS, Metric};
pub use facts::{Facts, FileSize, Leadership, Pending, Runs};
use health::Unready;
pub use health::{Reason, Trouble};
pub use page::{html, policy};

/// How long the ledger may take to say whether it can write.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(3);

/// What does not change while the service runs.
#[derive(Debug, Clone)]
pub struct About {
    /// Where pushes go; `None` for a dry run.
    pub target: Option<String>,
    /// The limit on distinct series in 30 days.
    pub max_series: usize,
    /// The files.
    pub files: Files,
    /// The database that has the ledger, if it is not in the files, as it can be shown.
    pub database: Option<String>,
    /// When the service started.
    pub started_at: Timestamp,
    /// What is read again from files when they change.
    pub rotating: Rotating,
}

impl About {
    /// What to do where nothing can be recorded.
    const fn hint(&self, unready: &Unready) -> &'static str {
        unready.hint(self.database.is_some())
    }
}

/// What is read again from files when they change.
#[derive(Debug, Clone, Default)]
pub struct Rotating {
    /// The webhook's secrets.
    pub secrets: Option<Arc<Secrets>>,
    /// Datadog's API key.
    pub key: Option<ApiKey>,
    /// The certificate of the public listener.
    pub tls: Option<Tls>,
}

impl Rotating {
    /// What cannot be read or used as it is now, so that what was before is in use.
    fn stale(&self) -> Vec<&'static str> {
        let stale = [
            ("the webhook's secrets", self.secrets.as_ref().is_some_and(|secrets| secrets.is_stale())),
            ("the API key", self.key.as_ref().is_some_and(ApiKey::is_stale)),
            ("the certificate and its key", self.tls.as_ref().is_some_and(Tls::is_stale)),
        ];
        stale.into_iter().filter_map(|(what, is_stale)| is_stale.then_some(what)).collect()
    }
}

/// What every request needs.
#[derive(Debug)]
pub struct Admin {
    about: About,
    ledger: Ledger,
    is_stopping: AtomicBool,
}

impl Admin {
    /// What looks at this ledger, and at what is noticed there.
    #[must_use]
    pub const fn new(about: About, ledger: Ledger) -> Self {
        Self { about, ledger, is_stopping: AtomicBool::new(false) }
    }

    /// From now on it is not ready.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Serves on a bound listener until stopped through the server's handle.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn serve(admin: Data<Self>, listener: TcpListener) -> io::Result<Server> {
        let server = HttpServer::new(move || {
            // What is shown is true for a moment only.
            let headers = DefaultHeaders::new()
                .add((header::CACHE_CONTROL, "no-store"))
                .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
            App::new()
                .wrap(headers)
                .app_data(Data::clone(&admin))
                .service(readable("/", web::get().to(look), web::head().to(look)))
                .service(healthz())
                .service(readable("/readyz", web::get().to(ready), web::head().to(ready)))
                .service(readable("/status.json", web::get().to(status), web::head().to(status)))
                .service(readable("/metrics", web::get().to(metrics), web::head().to(metrics)))
                .default_service(web::to(not_found))
        });
        Ok(server.workers(1).disable_signals().shutdown_timeout(1).listen(listener)?.run())
    }

    /// Why no run can be recorded now, if none can.
    async fn unready(&self) -> Option<Unready> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Some(Unready::Stopping);
        }
        match tokio::time::timeout(LEDGER_TIMEOUT, self.ledger.ready()).await {
            Ok(ready) => ready.err().map(|error| Unready::CannotWrite(error.to_string())),
            Err(_) => Some(Unready::Silent(LEDGER_TIMEOUT.as_secs())),
        }
    }

    /// All there is to tell, as of now.
    async fn facts(&self) -> Facts {
        let now = Timestamp::now();
        let unready = self.unready().await;
        let asked = async {
            let overview = self.ledger.overview().await.ok()?;
            let series = self.ledger.count_series(now.as_second()).await.ok()?;
            Some((overview, series))
        };
        let ledger = match unready {
            // It would be waited for in vain, and whoever scrapes waits no longer than ten seconds.
            Some(Unready::Silent(_)) => None,
            _ => tokio::time::timeout(LEDGER_TIMEOUT, asked).await.ok().flatten(),
        };
        let mut facts = Facts::new(&self.about, self.ledger.vitals(), now, unready, ledger);
        if self.about.database.is_some() {
            // Whether it delivers is known here, who else does is not.
            let leads = self.ledger.is_leading();
            facts.leadership.get_or_insert(Leadership { leads, leader: None, since: None });
        }
        facts
    }
}

async fn look(admin: Data<Admin>) -> HttpResponse {
    match page::html(&admin.facts().await) {
        Ok(html) => HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header((header::CONTENT_SECURITY_POLICY, page::policy()))
            .insert_header((header::REFERRER_POLICY, "no-referrer"))
            .body(html),
        Err(error) => HttpResponse::InternalServerError().json(json!({"error": error.to_string()})),
    }
}

async fn ready(admin: Data<Admin>) -> HttpResponse {
    match admin.unready().await {
        None => HttpResponse::Ok().json(json!({"status": "ready"})),
        Some(unready) => HttpResponse::ServiceUnavailable()
            .json(json!({"status": "unready", "reason": unready.to_string(), "hint": admin.about.hint(&unready)})),
    }
}

async fn status(admin: Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().json(admin.facts().await)
}

async fn metrics(admin: Data<Admin>) -> HttpResponse {
    let facts = admin.facts().await;
    match exposition::text(&facts, admin.ledger.vitals()) {
        Ok(text) => HttpResponse::Ok().content_type(prometheus::TEXT_FORMAT).body(text),
        Err(error) => HttpResponse::InternalServerError().json(json!({"error": error.to_string()})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Mode, Opened, Options, Reruns};

    #[actix_web::test]
    async fn a_service_that_is_stopping_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), Mode::DryRun);
        let started_at = Timestamp::now();
        let about = About {
            target: None,
            max_series: 1,
            files: files.clone(),
            database: None,
            started_at,
            rotating: Rotating::default(),
        };
        let Opened { ledger, owner, .. } =
            Ledger::open(Options::new(files, Reruns::Push, started_at.as_second())).unwrap();
        let admin = Admin::new(about, ledger);
        assert_eq!(admin.unready().await, None);
        admin.stop();
        assert_eq!(admin.unready().await, Some(Unready::Stopping));
        assert!(!admin.facts().await.ready);
        drop(admin);
        owner.join().unwrap();
    }
}
