//! Hooks of repositories and organisations, and what can be done with them over the API.
//!
//! Invariant: a secret comes in and is never given back; no two hooks of one place have the same URL.

use super::{
    deliveries::Errand,
    reply::{Query, Reply},
    shapes,
    state::{Place, State},
};
use serde_json::{Value, json};

/// What stands for a secret that is set.
const HIDDEN: &str = "********";

/// How many hooks of one place may be subscribed to one event.
const HOOKS_MAX: usize = 20;

/// Events that are known here; GitHub knows more.
const EVENTS: [&str; 8] =
    ["*", "check_run", "check_suite", "pull_request", "push", "release", "workflow_job", "workflow_run"];

/// Where a hook delivers, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where it posts to.
    pub(crate) url: String,
    /// `json` or `form`.
    pub(crate) content_type: String,
    /// What it signs with.
    pub(crate) secret: Option<String>,
    /// `0` if certificates are checked, `1` if not.
    pub(crate) insecure_ssl: String,
}

/// A webhook.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    /// Its ID.
    pub(crate) id: u64,
    /// What it belongs to.
    pub(crate) place: Place,
    /// Whether it delivers.
    pub(crate) active: bool,
    /// What it is subscribed to.
    pub(crate) events: Vec<String>,
    /// Where it delivers, and how.
    pub(crate) config: Config,
    created_at: i64,
    updated_at: i64,
    pub(super) last_response: Value,
}

impl Config {
    /// A config by GitHub's defaults, or why it is none.
    fn of(config: &Value) -> Result<Self, Reply> {
        let text = |name: &str, default: &str| match &config[name] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => default.to_owned(),
        };
        let url = text("url", "");
        if url.is_empty() {
            return Err(Reply::invalid("Config must contain URL for webhooks"));
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Reply::invalid("Config url is not supported"));
        }
        let content_type = text("content_type", "form");
        if !["json", "form"].contains(&content_type.as_str()) {
            return Err(Reply::invalid("Config content_type must be either 'json' or 'form'"));
        }
        let secret = Some(text("secret", "")).filter(|secret| !secret.is_empty());
        Ok(Self { url, content_type, secret, insecure_ssl: text("insecure_ssl", "0") })
    }

    fn shown(&self) -> Value {
        let mut shown =
            json!({ "url": self.url, "content_type": self.content_type, "insecure_ssl": self.insecure_ssl });
        if self.secret.is_some() {
            shown["secret"] = json!(HIDDEN);
        }
        shown
    }
}

impl Hook {
    /// Whether it delivers this event of that place.
    pub(super) fn wants(&self, event: &str, places: &[Place]) -> bool {
        self.active && places.contains(&self.place) && self.events.iter().any(|known| known == event || known == "*")
    }

    /// The object of the API; `address` is that of its place.
    pub(super) fn shown(&self, address: &str) -> Value {
        let url = format!("{address}/hooks/{}", self.id);
        let mut shown = json!({
            "type": "Organization",
            "id": self.id,
            "name": "web",
            "active": self.active,
            "events": self.events,
            "config": self.config.shown(),
            "created_at": shapes::time(self.created_at),
            "updated_at": shapes::time(self.updated_at),
            "url": url,
            "ping_url": format!("{url}/pings"),
            "deliveries_url": format!("{url}/deliveries"),
        });
        if let Place::Repository(_) = self.place {
            shown["type"] = json!("Repository");
            shown["test_url"] = json!(format!("{url}/test"));
            shown["last_response"] = self.last_response.clone();
        }
        shown
    }
}

impl State {
    /// A hook that did not come by the API.
    pub(super) fn hook_made(&mut self, place: Place, config: Config) -> u64 {
        let (id, now) = (self.next_id(), self.clock());
        self.hooks.push(Hook {
            id,
            place,
            active: true,
            events: vec!["workflow_run".to_owned()],
            config,
            created_at: now,
            updated_at: now,
            last_response: json!({ "code": null, "status": "unused", "message": null }),
        });
        id
    }

    /// What is answered at `…/hooks/<segments>` of a place.
    pub(super) fn webhooks(&mut self, asked: &Call, place: &Place) -> Reply {
        let Some((id, rest)) = asked.segments.split_first() else {
            return match asked.method {
                "GET" => {
                    let address = self.address(place);
                    let hooks = self.hooks.iter().filter(|hook| hook.place == *place);
                    let shown: Vec<Value> = hooks.map(|hook| hook.shown(&address)).collect();
                    asked.query.page(asked.url, None, &shown, shown.len())
                }
                "POST" => self.create(asked.body, place).unwrap_or_else(|refusal| refusal),
                _ => Reply::not_found(),
            };
        };
        let is_it = |hook: &Hook| hook.place == *place && hook.id.to_string() == *id;
        let Some(index) = self.hooks.iter().position(is_it) else {
            return Reply::not_found();
        };
        let id = self.hooks[index].id;
        match (asked.method, rest) {
            ("GET", []) => Reply::ok(self.shown(index)),
            ("PATCH", []) => self.change(index, asked.body).unwrap_or_else(|refusal| refusal),
            ("DELETE", []) => {
                self.hooks.remove(index);
                Reply::empty()
            }
            ("GET", ["config"]) => Reply::ok(self.hooks[index].config.shown()),
            ("PATCH", ["config"]) => self.change_config(index, asked.body).unwrap_or_else(|refusal| refusal),
            ("POST", ["pings"]) => Reply::empty().errand(self.ping(index)),
            (_, ["deliveries", rest @ ..]) => self.delivery_log(asked, id, rest),
            _ => Reply::not_found(),
        }
    }

    fn shown(&self, index: usize) -> Value {
        let hook = &self.hooks[index];
        hook.shown(&self.address(&hook.place))
    }

    fn create(&mut self, body: &Value, place: &Place) -> Result<Reply, Reply> {
        if body["name"].as_str().unwrap_or("web") != "web" {
            return Err(Reply::invalid("Name must be 'web'"));
        }
        let config = Config::of(&body["config"])?;
        let events = events(&body["events"])?.unwrap_or_else(|| vec!["push".to_owned()]);
        self.refuse_twice(place, &config.url, None)?;
        self.refuse_too_many(place, &events)?;
        let id = self.hook_made(place.clone(), config);
        let index = self.hooks.len() - 1;
        self.hooks[index].events = events;
        self.hooks[index].active = body["active"].as_bool().unwrap_or(true);
        let shown = self.shown(index);
        let reply = Reply::new(201, shown).header("Location", format!("{}/hooks/{id}", self.address(place)));
        Ok(if self.hooks[index].active { reply.errand(self.ping(index)) } else { reply })
    }

    /// A config that is given replaces the old one as a whole: without a secret there is none any more.
    fn change(&mut self, index: usize, body: &Value) -> Result<Reply, Reply> {
        let mut hook = self.hooks[index].clone();
        if !body["config"].is_null() {
            hook.config = Config::of(&body["config"])?;
            self.refuse_twice(&hook.place, &hook.config.url, Some(hook.id))?;
        }
        if let Some(events) = events(&body["events"])? {
            hook.events = events;
        }
        if matches!(hook.place, Place::Repository(_)) {
            hook.events.extend(events(&body["add_events"])?.unwrap_or_default());
            let removed = events(&body["remove_events"])?.unwrap_or_default();
            hook.events.retain(|event| !removed.contains(event));
            hook.events.sort();
            hook.events.dedup();
        }
        hook.active = body["active"].as_bool().unwrap_or(hook.active);
        hook.updated_at = self.clock();
        self.hooks[index] = hook;
        Ok(Reply::ok(self.shown(index)))
    }

    /// What is not given stays as it is.
    fn change_config(&mut self, index: usize, body: &Value) -> Result<Reply, Reply> {
        let hook = &self.hooks[index];
        let mut config = hook.config.shown();
        config["secret"] = json!(hook.config.secret);
        for (name, value) in body.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        let config = Config::of(&config)?;
        self.refuse_twice(&hook.place, &config.url, Some(hook.id))?;
        self.hooks[index].config = config;
        self.hooks[index].updated_at = self.clock();
        Ok(Reply::ok(self.hooks[index].config.shown()))
    }

    fn refuse_twice(&self, place: &Place, url: &str, but: Option<u64>) -> Result<(), Reply> {
        let is_same = |hook: &Hook| hook.place == *place && hook.config.url == url && Some(hook.id) != but;
        let whose = match place {
            Place::Repository(_) => "repository",
            Place::Organisation(_) => "organization",
        };
        let message = format!("Hook already exists on this {whose}");
        if self.hooks.iter().any(is_same) { Err(Reply::invalid(&message)) } else { Ok(()) }
    }

    fn refuse_too_many(&self, place: &Place, events: &[String]) -> Result<(), Reply> {
        for event in events {
            let has_it = |hook: &&Hook| hook.place == *place && hook.events.contains(event);
            if self.hooks.iter().filter(has_it).count() >= HOOKS_MAX {
                let message = format!("The \"{event}\" event cannot have more than {HOOKS_MAX} hooks");
                return Err(Reply::invalid(&message));
            }
        }
        Ok(())
    }

    fn ping(&self, index: usize) -> Errand {
        let hook = &self.hooks[index];
        let mut payload =
            json!({ "zen": "Responsive is better than fast.", "hook_id": hook.id, "hook": self.shown(index) });
        let repository_id = match hook.place {
            Place::Repository(id) => Some(id),
            Place::Organisation(_) => None,
        };
        if let Some(known) = self.repositories.iter().find(|known| Some(known.id) == repository_id) {
            payload["repository"] = known.object.clone();
        }
        Errand::new(hook.id, "ping", &payload, repository_id)
    }
}

/// One call of the API, below the address of what it is about.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    /// What of the path is left.
    pub(super) segments: &'a [&'a str],
    pub(super) query: &'a Query,
    /// The whole URL without its query.
    pub(super) url: &'a str,
    pub(super) body: &'a Value,
}

/// A list of events, if it is given.
fn events(value: &Value) -> Result<Option<Vec<String>>, Reply> {
    if value.is_null() {
        return Ok(None);
    }
    let given = value.as_array().ok_or_else(|| Reply::invalid("Events must be an array"))?;
    let events: Vec<String> = given.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
        Some(unknown) => Err(Reply::invalid(&format!("Events contains an unknown event: {unknown}"))),
        None => Ok(Some(events)),
    }
}
