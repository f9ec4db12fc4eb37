//! Runs, their attempts and jobs, and workflows, as the API lists and shows them.
//!
//! Invariant: each attempt keeps its own object; a run is shown as its latest attempt, and listed by when it was created.

use super::{
    jobs::Job,
    reply::{Query, Reply},
    shapes,
    state::{Repository, State},
};
use crate::github::{Event, RunBuilder};
use serde_json::{Value, json};
use std::{cmp::Reverse, collections::BTreeMap};

/// No search shows more. GitHub says so of those with a filter; here it is so of all.
pub(super) const SEARCH_MAX: usize = 1000;

const DAY_S: i64 = 86_400;

/// A run with all its attempts.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) attempts: BTreeMap<u64, Attempt>,
}

/// An attempt as the API has it.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) object: Value,
    pub(super) run: RunBuilder,
    /// What was delivered of it, or would have been.
    pub(super) payload: Value,
    pub(super) jobs: Vec<Job>,
    /// Whether its jobs are a test's.
    pub(super) has_own_jobs: bool,
}

impl Run {
    fn latest(&self) -> Option<&Attempt> {
        self.attempts.values().next_back()
    }
}

/// Something that can happen in a repository.
pub(crate) trait Happens {
    /// From now on it is in the API. What is delivered of it, in this order.
    fn happen(&self, state: &mut State) -> Vec<Happened>;
}

/// What is delivered of something that happened in a repository.
#[derive(Debug)]
pub(crate) struct Happened {
    pub(super) repository_id: u64,
    pub(super) organisation_id: u64,
    pub(super) event: &'static str,
    pub(super) payload: Value,
}

impl Happens for RunBuilder {
    /// Unless it was given others, the attempt has one job, from its start to its end.
    fn happen(&self, state: &mut State) -> Vec<Happened> {
        let body = self.body();
        let payload: Value = serde_json::from_str(&body).expect("the payload is JSON");
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let index = state.repository_made(&text("/repository/owner/login"), &text("/repository/name"));
        let (base, job_id) = (state.base.clone(), state.next_id());
        let fresh_workflow_id = state.next_id();
        let repository = &mut state.repositories[index];
        let workflow_id = repository.workflow_id(&payload, fresh_workflow_id);
        let body = shapes::with_ids(&body, repository)
            .replace(&shapes::RECORDED_WORKFLOW_ID.to_string(), &workflow_id.to_string());
        let mut payload: Value = serde_json::from_str(&body).expect("the payload is still JSON");
        repository.keep_workflow(workflow_id, &payload, &base);
        let id = payload["workflow_run"]["id"].as_u64().expect("a run has an ID");
        let number = payload["workflow_run"]["run_attempt"].as_u64().expect("a run has an attempt");
        let run = repository.run_made(id);
        if let Some((_, first)) = run.attempts.iter().next().filter(|(first, _)| **first < number) {
            payload["workflow_run"]["created_at"] = first.object["created_at"].clone();
        }
        let object = shapes::at(&payload["workflow_run"], &base);
        let own_jobs = run.attempts.remove(&number).filter(|known| known.has_own_jobs).map(|known| known.jobs);
        let has_own_jobs = own_jobs.is_some();
        let jobs = own_jobs.unwrap_or_else(|| vec![Job::of_run(job_id, &payload, None, &base)]);
        let attempt = Attempt { object, run: self.clone(), payload: payload.clone(), jobs, has_own_jobs };
        run.attempts.insert(number, attempt);
        let (repository_id, organisation_id) = (repository.id, repository.organisation_id);
        vec![Happened { repository_id, organisation_id, event: Self::NAME, payload }]
    }
}

impl State {
    /// The attempt of whichever repository.
    pub(super) fn attempt_mut(&mut self, id: u64, number: u32) -> &mut Attempt {
        let attempt = self.repositories.iter_mut().find_map(|repository| repository.attempt_mut(id, u64::from(number)));
        attempt.unwrap_or_else(|| panic!("run {id} has no attempt {number}"))
    }
}

impl Repository {
    /// The ID of the workflow of this payload: the recorded one for the first, `fresh` for another new one.
    fn workflow_id(&self, payload: &Value, fresh: u64) -> u64 {
        let is_same =
            |known: &&Value| ["name", "path"].iter().all(|field| known[*field] == payload["workflow"][*field]);
        match self.workflows.iter().find(is_same) {
            Some(known) => known["id"].as_u64().unwrap_or(fresh),
            None if self.workflows.is_empty() => shapes::RECORDED_WORKFLOW_ID,
            None => fresh,
        }
    }

    fn keep_workflow(&mut self, id: u64, payload: &Value, base: &str) {
        if payload["workflow"].is_object() && !self.workflows.iter().any(|known| known["id"] == json!(id)) {
            self.workflows.push(shapes::at(&payload["workflow"], base));
        }
    }

    fn run_made(&mut self, id: u64) -> &mut Run {
        let index = self.runs.iter().position(|run| run.id == id).unwrap_or_else(|| {
            self.runs.push(Run { id, attempts: BTreeMap::new() });
            self.runs.len() - 1
        });
        &mut self.runs[index]
    }

    pub(super) fn attempt_mut(&mut self, id: u64, number: u64) -> Option<&mut Attempt> {
        self.runs.iter_mut().find(|run| run.id == id).and_then(|run| run.attempts.get_mut(&number))
    }

    /// What `GET /repos/…/actions/<segments>` answers.
    pub(super) fn actions(&self, segments: &[&str], query: &Query, url: &str) -> Reply {
        let run = |id: &str| self.runs.iter().find(|run| run.id.to_string() == id);
        let attempt = |id: &str, number: &str| run(id)?.attempts.get(&number.parse().ok()?);
        let object = |found: Option<&Attempt>| found.map(|attempt| Reply::ok(attempt.object.clone()));
        let found = match segments {
            ["runs"] => Some(self.search(query, url, None)),
            ["runs", id] => object(run(id).and_then(Run::latest)),
            ["runs", id, "attempts", number] => object(attempt(id, number)),
            ["runs", id, "attempts", number, "jobs"] => {
                attempt(id, number).map(|attempt| jobs(attempt.jobs.iter(), query, url))
            }
            ["runs", id, "jobs"] if query.get("filter") == Some("all") => {
                run(id).map(|run| jobs(run.attempts.values().flat_map(|attempt| &attempt.jobs), query, url))
            }
            ["runs", id, "jobs"] => run(id).and_then(Run::latest).map(|attempt| jobs(attempt.jobs.iter(), query, url)),
            ["workflows"] => Some(query.page(url, Some("workflows"), &self.workflows, self.workflows.len())),
            ["workflows", id] => self.workflow(id).map(|workflow| Reply::ok(workflow.clone())),
            ["workflows", id, "runs"] => self.workflow(id).map(|workflow| self.search(query, url, Some(workflow))),
            _ => None,
        };
        found.unwrap_or_else(Reply::not_found)
    }

    /// A workflow by its ID or the name of its file.
    fn workflow(&self, id: &str) -> Option<&Value> {
        self.workflows.iter().find(|workflow| {
            let path = workflow["path"].as_str().unwrap_or_default();
            workflow["id"].as_u64() == id.parse().ok() || path.rsplit('/').next() == Some(id)
        })
    }

    fn search(&self, query: &Query, url: &str, workflow: Option<&Value>) -> Reply {
        let created = match query.get("created").map(Span::of) {
            Some(None) => return Reply::error(422, "The created parameter is no date"),
            Some(span) => span,
            None => None,
        };
        let is_found = |run: &Value| {
            let is = |name: &str, value: &Value| query.get(name).is_none_or(|wanted| value.as_str() == Some(wanted));
            let is_status = is("status", &run["status"]) || is("status", &run["conclusion"]);
            let is_created =
                created.as_ref().is_none_or(|span| shapes::second(&run["created_at"]).is_some_and(|at| span.has(at)));
            let is_workflow = workflow.is_none_or(|workflow| workflow["id"] == run["workflow_id"]);
            is_status
                && is_created
                && is_workflow
                && is("event", &run["event"])
                && is("branch", &run["head_branch"])
                && is("head_sha", &run["head_sha"])
                && is("actor", &run["actor"]["login"])
        };
        let latest = self.runs.iter().filter_map(Run::latest).map(|attempt| &attempt.object);
        let mut found: Vec<Value> = latest.filter(|run| is_found(run)).cloned().collect();
        found.sort_by_key(|run| Reverse((shapes::second(&run["created_at"]), run["id"].as_u64())));
        let total = found.len();
        found.truncate(SEARCH_MAX);
        query.page(url, Some("workflow_runs"), &found, total)
    }
}

fn jobs<'a>(jobs: impl Iterator<Item = &'a Job>, query: &Query, url: &str) -> Reply {
    let jobs: Vec<Value> = jobs.map(|job| job.object.clone()).collect();
    query.page(url, Some("jobs"), &jobs, jobs.len())
}

/// Seconds from one to another, both included.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    from: i64,
    to: i64,
}

impl Span {
    /// GitHub's forms: `A`, `A..B`, `>=A`, `>A`, `<=A`, `<A`, with `*` for an open end; each a day or a time.
    fn of(text: &str) -> Option<Self> {
        let open = Self { from: i64::MIN, to: i64::MAX };
        if let Some((from, to)) = text.split_once("..") {
            let from = if from == "*" { open.from } else { Self::one(from)?.from };
            let to = if to == "*" { open.to } else { Self::one(to)?.to };
            return Some(Self { from, to });
        }
        let strip = |sign: &str| text.strip_prefix(sign).map(Self::one);
        if let Some(one) = strip(">=") {
            return Some(Self { from: one?.from, ..open });
        }
        if let Some(one) = strip("<=") {
            return Some(Self { to: one?.to, ..open });
        }
        if let Some(one) = strip(">") {
            return Some(Self { from: one?.to + 1, ..open });
        }
        if let Some(one) = strip("<") {
            return Some(Self { to: one?.from - 1, ..open });
        }
        Self::one(text)
    }

    /// A day, or the second of a time.
    fn one(text: &str) -> Option<Self> {
        if let Some(at) = shapes::second(&json!(text)) {
            return Some(Self { from: at, to: at });
        }
        let from = shapes::second(&json!(format!("{text}T00:00:00Z")))?;
        Some(Self { from, to: from + DAY_S - 1 })
    }

    fn has(&self, second: i64) -> bool {
        (self.from..=self.to).contains(&second)
    }
}
