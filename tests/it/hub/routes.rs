//! From a request to what answers it, by GitHub's rules.
//!
//! Invariant: who asks and how often they have asked is looked at before what they ask for.

use super::{
    access::{Caller, Rights},
    reply::{Query, Reply},
    state::{Place, State},
    webhooks::Call,
};
use crate::http::{Answer, Request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The versions of the API that there are.
const VERSIONS: [&str; 2] = ["2022-11-28", "2026-03-10"];

impl State {
    /// Does what is asked.
    pub(super) fn act(&mut self, request: &Request) -> Reply {
        let clock = self.clock();
        self.budget.turn(clock);
        let is_free = request.path.ends_with("/rate_limit");
        let mut reply = match self.budget.refused().filter(|_| !is_free) {
            Some(refused) => refused,
            None => self.ruled(request, clock).unwrap_or_else(|refused| refused),
        };
        if request.method == "GET" && reply.status == 200 {
            let answer = reply.answer();
            let etag = format!("W/\"{}\"", hex::encode(Sha256::digest(answer.body)));
            if request.header("if-none-match").is_some_and(|known| known.split(", ").any(|known| known == etag)) {
                reply = Reply { status: 304, body: None, headers: Vec::new(), errands: Vec::new() };
            }
            reply = reply.header("ETag", etag);
        }
        if reply.status != 304 && !is_free {
            self.budget.used = self.budget.limit.min(self.budget.used + 1);
        }
        reply
    }

    /// Adds what each answer has.
    pub(super) fn finish(&self, answer: &mut Answer) {
        for (name, value) in self.budget.headers() {
            answer.add_default(name, &value);
        }
        answer.add_default("X-GitHub-Request-Id", "7C04:F2E:1A2B3C:4D5E6F:69A5");
        answer.add_default("Server", "github.com");
    }

    fn ruled(&mut self, request: &Request, clock: i64) -> Result<Reply, Reply> {
        if request.header("user-agent").is_none_or(str::is_empty) {
            let message =
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header";
            return Err(Reply::error(403, message));
        }
        if request.header("x-github-api-version").is_some_and(|version| !VERSIONS.contains(&version)) {
            return Err(Reply::error(400, "The requested API version is not supported"));
        }
        let path = request.path.strip_prefix("/api/v3/").ok_or_else(Reply::not_found)?;
        let caller = self.access.caller(request.header("authorization"), clock)?;
        let body = match request.body.as_slice() {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes).map_err(|_| Reply::error(400, "Problems parsing JSON"))?,
        };
        let segments: Vec<&str> = path.split('/').collect();
        let url = format!("{}/{path}", self.api());
        let query = Query::of(&request.query);
        let call = Call { method: &request.method, segments: &segments, query: &query, url: &url, body: &body };
        self.route(caller, &call)
    }

    fn route(&mut self, caller: Caller, call: &Call) -> Result<Reply, Reply> {
        match (call.method, call.segments) {
            ("GET", ["rate_limit"]) => Ok(Reply::ok(self.budget.overview())),
            ("GET", ["meta"]) => Ok(Reply::ok(json!({
                "verifiable_password_authentication": false,
                "hooks": ["127.0.0.0/8"],
                "installed_version": "3.19.0",
            }))),
            ("POST", ["app", "installations", id, "access_tokens"]) => Ok(self.installation_token(caller, id)),
            (_, ["repos", owner, name, rest @ ..]) => self.route_repository(caller, call, [owner, name], rest),
            (method, ["orgs", login, rest @ ..]) => {
                let known = self.organisation(login).map(|known| known.id);
                let id = known.ok_or_else(|| self.unknown(caller))?;
                match (method, rest) {
                    ("GET", ["installation"]) => Ok(self.installation(caller, id)),
                    (_, ["hooks", rest @ ..]) => {
                        self.allow(caller, Rights::All)?;
                        Ok(self.webhooks(&Call { segments: rest, ..*call }, &Place::Organisation(id)))
                    }
                    _ => Err(Reply::not_found()),
                }
            }
            _ => Err(Reply::not_found()),
        }
    }

    fn route_repository(
        &mut self,
        caller: Caller,
        call: &Call,
        [owner, name]: [&str; 2],
        rest: &[&str],
    ) -> Result<Reply, Reply> {
        let repository = self.repository(owner, name).ok_or_else(|| self.unknown(caller))?;
        match (call.method, rest) {
            ("GET", ["installation"]) => Ok(self.installation(caller, repository.organisation_id)),
            ("GET", []) => {
                self.allow(caller, Rights::ActionsRead)?;
                Ok(Reply::ok(repository.object.clone()))
            }
            ("GET", ["actions", rest @ ..]) => {
                self.allow(caller, Rights::ActionsRead)?;
                Ok(repository.actions(rest, call.query, call.url))
            }
            (_, ["hooks", rest @ ..]) => {
                self.allow(caller, Rights::All)?;
                let place = Place::Repository(repository.id);
                Ok(self.webhooks(&Call { segments: rest, ..*call }, &place))
            }
            _ => Err(Reply::not_found()),
        }
    }

    fn allow(&self, caller: Caller, needed: Rights) -> Result<(), Reply> {
        match caller {
            Caller::Token(Rights::All) => Ok(()),
            Caller::Token(rights) if rights == needed => Ok(()),
            _ => Err(self.access.refuse(caller)),
        }
    }

    /// What is not there is not found by those only who have shown who they are.
    fn unknown(&self, caller: Caller) -> Reply {
        if caller == Caller::Nobody { self.access.refuse(caller) } else { Reply::not_found() }
    }
}
