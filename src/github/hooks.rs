//! Webhooks and their deliveries.

use super::{Github, GithubError, Place};
use awc::http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// A webhook, as far as we set it.
#[derive(Debug, Clone, Deserialize)]
pub struct Hook {
    /// Its ID.
    pub id: u64,
    /// Whether anything is delivered.
    pub active: bool,
    /// The events that are delivered; `*` for all.
    pub events: Vec<String>,
    /// How they are delivered.
    pub config: HookConfig,
}

/// How a webhook's events are delivered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct HookConfig {
    /// Where to.
    pub url: String,
    /// `json` or `form`.
    pub content_type: String,
    /// `0` where the receiver's certificate is verified; a text or a number.
    pub insecure_ssl: Value,
    /// Asterisks, if there is one.
    pub secret: Option<String>,
}

impl Hook {
    /// Whether it delivers this event.
    #[must_use]
    pub fn is_for(&self, event: &str) -> bool {
        self.events.iter().any(|wanted| wanted == event || wanted == "*")
    }
}

/// A delivery in a webhook's log: one try to bring one event.
#[derive(Debug, Clone, Deserialize)]
pub struct Delivered {
    /// The try's own ID.
    pub id: u64,
    /// The event's ID, which all tries share.
    pub guid: String,
    /// When it was tried.
    pub delivered_at: Timestamp,
    /// `OK`, or what went wrong. The one field that tells: a try that did not connect has no code.
    pub status: String,
    /// The receiver's own status, if it answered; 0 means that it did not.
    #[serde(default)]
    pub status_code: Option<u16>,
    /// The event.
    pub event: String,
    /// Its action, if it has one.
    pub action: Option<String>,
}

impl Delivered {
    /// Whether the receiver answered 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == "OK"
    }
}

impl Github {
    /// All webhooks of a place.
    ///
    /// # Errors
    /// GitHub does not tell.
    pub async fn hooks(&self, place: &Place) -> Result<Vec<Hook>, GithubError> {
        let mut path = format!("{}/hooks?per_page=100", place.path());
        let mut hooks = Vec::new();
        loop {
            let reply = self.get_again(place, &path).await?;
            hooks.extend(Self::read::<Vec<Hook>>(&path, &reply)?);
            match reply.next {
                Some(next) => path = next,
                None => return Ok(hooks),
            }
        }
    }

    /// Makes a webhook, or sets one anew: active, JSON, with certificates verified.
    ///
    /// # Errors
    /// GitHub does not do it.
    pub async fn set_hook(
        &self,
        place: &Place,
        hook: Option<u64>,
        url: &str,
        events: &[String],
        secret: &str,
    ) -> Result<Hook, GithubError> {
        let config = json!({"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"});
        let wanted = json!({"name": "web", "active": true, "events": events, "config": config});
        let (method, path) = match hook {
            Some(id) => (Method::PATCH, format!("{}/hooks/{id}", place.path())),
            None => (Method::POST, format!("{}/hooks", place.path())),
        };
        let reply = self.send(method, place, &path, wanted).await?;
        Self::read(&path, &reply)
    }

    /// Has GitHub deliver a ping.
    ///
    /// # Errors
    /// GitHub does not do it.
    pub async fn ping(&self, place: &Place, hook: u64) -> Result<(), GithubError> {
        let path = format!("{}/hooks/{hook}/pings", place.path());
        self.send(Method::POST, place, &path, json!({})).await.map(drop)
    }

    /// A page of a webhook's log, the newest first, and the path of the next one. The first has no path.
    ///
    /// # Errors
    /// GitHub does not tell.
    pub async fn deliveries(
        &self,
        place: &Place,
        hook: u64,
        path: Option<String>,
    ) -> Result<(Vec<Delivered>, Option<String>), GithubError> {
        let (path, reply) = match path {
            None => {
                let first = format!("{}/hooks/{hook}/deliveries?per_page=100", place.path());
                let reply = self.get_again(place, &first).await?;
                (first, reply)
            }
            Some(path) => {
                let reply = self.get(place, &path).await?;
                (path, reply)
            }
        };
        Ok((Self::read(&path, &reply)?, reply.next))
    }

    /// One delivery with what was sent, as text: what [`crate::event::Recorded::read`] reads.
    ///
    /// # Errors
    /// GitHub does not tell.
    pub async fn delivery(&self, place: &Place, hook: u64, id: u64) -> Result<String, GithubError> {
        let path = format!("{}/hooks/{hook}/deliveries/{id}", place.path());
        let reply = self.get(place, &path).await?;
        String::from_utf8(reply.body)
            .map_err(|_| GithubError::Unexpected { what: format!("GET {path}"), cause: "not UTF-8".to_owned() })
    }

    /// Has GitHub deliver an event once more.
    ///
    /// # Errors
    /// GitHub does not do it.
    pub async fn redeliver(&self, place: &Place, hook: u64, id: u64) -> Result<(), GithubError> {
        let path = format!("{}/hooks/{hook}/deliveries/{id}/attempts", place.path());
        self.send(Method::POST, place, &path, json!({})).await.map(drop)
    }
}
