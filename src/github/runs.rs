//! Workflow runs, as the API tells of them after the fact, and the deliveries that they would have been.

use super::{Github, GithubError, ListedJob, Place};
use crate::event::{Attempt, RunId, RunKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::HashMap, num::NonZeroU32};

/// The most results that one search gives. Source: "List workflow runs for a repository".
pub const SEARCH_MAX: u64 = 1000;

/// A run that has changed so long after the end of its last job was changed by something else than its end. GitHub completes
/// a run some seconds after its last job.
const CHANGED_AFTER_S: i64 = 60;

/// How much later than the end of a job of it, above all of one that was skipped, an attempt may seem to have started.
const STARTED_BEFORE_S: i64 = 5;

/// An attempt of a run, with what a delivery would have told of it. Any field but the ID can be missing or null.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListedRun {
    /// The run's ID.
    pub id: u64,
    /// Which attempt this is; of a run, its last one.
    #[serde(default)]
    pub run_attempt: Option<NonZeroU32>,
    /// When it was last changed; at its completion that is its end.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    #[serde(default)]
    workflow_id: Option<u64>,
    #[serde(flatten)]
    more: More,
}

/// What is handed on as it stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct More {
    status: Value,
    event: Value,
    path: Value,
    head_branch: Value,
    conclusion: Value,
    run_started_at: Value,
    html_url: Value,
    actor: Option<Account>,
    triggering_actor: Option<Account>,
    head_repository: Option<HeadRepository>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Account {
    login: Value,
    #[serde(rename = "type")]
    kind: Value,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct HeadRepository {
    id: Value,
    full_name: Value,
}

impl ListedRun {
    /// The keys of its attempts that have completed, up to this one, the first one first. The approval gate of a fork's pull
    /// request is none: the same attempt runs later.
    pub fn keys(&self) -> impl Iterator<Item = RunKey> + use<> {
        let id = RunId(self.id);
        let is_over = self.is_over();
        let attempt = self.attempt();
        let keys = (1..=attempt.get()).filter_map(NonZeroU32::new).filter(move |key| *key < attempt || is_over);
        keys.map(move |attempt| RunKey { id, attempt: Attempt(attempt) })
    }

    /// The key of its last attempt, if that has not completed: jobs of it may have.
    #[must_use]
    pub fn unfinished(&self) -> Option<RunKey> {
        (!self.is_over()).then(|| RunKey { id: RunId(self.id), attempt: Attempt(self.attempt()) })
    }

    /// Whether it tells of this attempt.
    #[must_use]
    pub fn is_of(&self, key: RunKey) -> bool {
        key.id.0 == self.id && key.attempt.0 == self.attempt()
    }

    /// When it ended, by its jobs: when it was last changed, or at the latest end of its jobs, if it was changed by something
    /// else since. `None` where neither is known.
    #[must_use]
    pub fn end(&self, jobs: &[ListedJob]) -> Option<Timestamp> {
        // A job that did not run again has the times of an earlier attempt.
        let latest = jobs.iter().filter(|job| !self.is_before(job)).filter_map(|job| job.completed_at).max();
        match (self.updated_at, latest) {
            (Some(changed), Some(end)) if changed.as_second() - end.as_second() <= CHANGED_AFTER_S => Some(changed),
            (changed, end) => end.or(changed),
        }
    }

    /// Whether a job that is listed with this attempt ran in an earlier one: it ended before this one started, by more than
    /// such times can be apart.
    #[must_use]
    pub fn is_before(&self, job: &ListedJob) -> bool {
        let started_at: Option<Timestamp> = self.more.run_started_at.as_str().and_then(|time| time.parse().ok());
        let before_s = started_at.zip(job.completed_at).map(|(start, end)| start.as_second() - end.as_second());
        self.attempt() > NonZeroU32::MIN && before_s.is_some_and(|before_s| before_s > STARTED_BEFORE_S)
    }

    fn is_over(&self) -> bool {
        self.more.status.as_str() == Some("completed") && self.more.conclusion.as_str() != Some("action_required")
    }

    /// GitHub sends a completion in the name of who triggered the attempt.
    fn sender(&self) -> Option<&Account> {
        self.more.triggering_actor.as_ref().or(self.more.actor.as_ref())
    }

    fn attempt(&self) -> NonZeroU32 {
        self.run_attempt.unwrap_or(NonZeroU32::MIN)
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    total_count: u64,
    workflow_runs: Vec<ListedRun>,
}

/// A repository and its workflows: what the deliveries of its runs say of them.
#[derive(Debug)]
pub struct Workflows {
    repository: Value,
    workflows: HashMap<u64, Value>,
}

impl Workflows {
    /// The payload of the delivery that tells of this attempt, which ended then.
    #[must_use]
    pub fn payload(&self, run: &ListedRun, end: Option<Timestamp>) -> String {
        let sender = run.sender();
        let workflow = run.workflow_id.and_then(|id| self.workflows.get(&id));
        let run = ListedRun { updated_at: end.or(run.updated_at), ..run.clone() };
        json!({
            "action": "completed",
            "workflow_run": run,
            "workflow": workflow,
            "repository": self.repository,
            "sender": sender,
        })
        .to_string()
    }

    /// The payload of the delivery that tells of a job of this attempt.
    #[must_use]
    pub fn job_payload(&self, run: &ListedRun, job: &ListedJob) -> String {
        json!({
            "action": "completed",
            "workflow_job": job.told_in(run.attempt()),
            "repository": self.repository,
            "sender": run.sender(),
        })
        .to_string()
    }
}

impl Github {
    /// What the deliveries of a repository's runs would say of it and of its workflows.
    ///
    /// # Errors
    /// GitHub does not tell.
    pub async fn workflows(&self, place: &Place) -> Result<Workflows, GithubError> {
        #[derive(Deserialize)]
        struct Page {
            workflows: Vec<Value>,
        }
        let path = place.path();
        let mut repository: Value = Self::read(&path, &self.get(place, &path).await?)?;
        if let Some(fields) = repository.as_object_mut() {
            fields
                .retain(|field, _| matches!(field.as_str(), "id" | "name" | "full_name" | "owner" | "default_branch"));
        }
        let mut workflows = HashMap::new();
        let mut next = Some(format!("{path}/actions/workflows?per_page=100"));
        while let Some(path) = next {
            let reply = self.get(place, &path).await?;
            for workflow in Self::read::<Page>(&path, &reply)?.workflows {
                let about = json!({"name": workflow.get("name"), "path": workflow.get("path")});
                workflows.extend(workflow.get("id").and_then(Value::as_u64).map(|id| (id, about)));
            }
            next = reply.next;
        }
        Ok(Workflows { repository, workflows })
    }

    /// A page of the runs that were made from `since` to `until`, both seconds included, the newest first: how many
    /// there are in all, those of the page, and the path of the next one. The first has no path.
    ///
    /// # Errors
    /// GitHub does not tell.
    pub async fn runs(
        &self,
        place: &Place,
        (since, until): (i64, i64),
        path: Option<String>,
    ) -> Result<(u64, Vec<ListedRun>, Option<String>), GithubError> {
        let time = |second| Timestamp::from_second(second).unwrap_or_default();
        let first = || {
            let runs = format!("{}/actions/runs", place.path());
            format!("{runs}?per_page=100&created={}..{}", time(since), time(until))
        };
        let path = path.unwrap_or_else(first);
        let reply = self.get(place, &path).await?;
        let Page { total_count, workflow_runs } = Self::read(&path, &reply)?;
        Ok((total_count, workflow_runs, reply.next))
    }

    /// One attempt of a run.
    ///
    /// # Errors
    /// GitHub does not tell.
    pub async fn attempt(&self, place: &Place, key: RunKey) -> Result<ListedRun, GithubError> {
        let path = attempt_path(place, key);
        Self::read(&path, &self.get(place, &path).await?)
    }
}

pub(super) fn attempt_path(place: &Place, key: RunKey) -> String {
    format!("{}/actions/runs/{}/attempts/{}", place.path(), key.id.0, key.attempt.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Completed, Detail, Event, parse};

    /// As the API writes a run, cut to what matters and some that does not.
    fn listed(change: impl FnOnce(&mut Value)) -> ListedRun {
        let account = |login: &str, kind: &str| json!({"login": login, "id": 7, "type": kind, "site_admin": false});
        let mut run = json!({
            "id": 18_446_744_073_709_551_615_u64,
            "name": "PR #166",
            "run_attempt": 3,
            "status": "completed",
            "conclusion": "failure",
            "event": "push",
            "workflow_id": 21,
            "path": ".github/workflows/ci.yml@main",
            "head_branch": "main",
            "created_at": "2026-02-02T17:00:00Z",
            "run_started_at": "2026-03-02T17:13:07Z",
            "updated_at": "2026-03-02T17:14:07Z",
            "html_url": "https://github.com/acme/web/actions/runs/1",
            "actor": account("ada", "User"),
            "triggering_actor": account("bot", "Bot"),
            "head_repository": {"id": 5, "full_name": "acme/web", "owner": account("acme", "Organization")},
        });
        change(&mut run);
        serde_json::from_value(run).unwrap()
    }

    fn workflows() -> Workflows {
        Workflows {
            repository: json!({
                "id": 5, "name": "web", "full_name": "acme/web", "default_branch": "main", "owner": {"login": "acme"},
            }),
            workflows: HashMap::from([(21, json!({"name": "CI", "path": ".github/workflows/ci.yml"}))]),
        }
    }

    fn completed(run: &ListedRun, end: Option<&str>) -> Completed {
        let payload = workflows().payload(run, end.map(|end| end.parse().unwrap()));
        match parse(Some("workflow_run"), payload.as_bytes(), Detail::Runs).unwrap() {
            Event::Completed(completed) => *completed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_listed_run_derives_to_what_its_delivery_would_have() {
        let run = completed(&listed(|_| {}), None);
        assert_eq!(run.key.to_string(), "18446744073709551615/attempts/3");
        assert_eq!(run.repository.to_string(), "acme/web");
        let texts = [
            &run.workflow,
            &run.workflow_path,
            &run.event,
            &run.branch,
            &run.conclusion,
            &run.sender_type,
            &run.sender,
        ];
        let texts = texts.map(|text| text.as_deref().unwrap());
        assert_eq!(texts, ["CI", ".github/workflows/ci.yml", "push", "main", "failure", "Bot", "bot"]);
        assert!(run.on_default_branch);
        assert_eq!((run.actor.as_deref(), run.triggering_actor.as_deref()), (Some("ada"), Some("bot")));
        assert_eq!(run.duration().ms, Some(60_000));
    }

    #[test]
    fn an_end_that_is_told_stands_in_place_of_the_last_change() {
        assert_eq!(completed(&listed(|_| {}), Some("2026-03-02T17:13:37Z")).duration().ms, Some(30_000));
    }

    #[test]
    fn what_is_missing_or_null_costs_no_run() {
        let run = listed(|run| {
            for field in [
                "actor",
                "triggering_actor",
                "head_repository",
                "conclusion",
                "run_started_at",
                "updated_at",
                "run_attempt",
            ] {
                run[field] = Value::Null;
            }
            run["workflow_id"] = json!(22);
            run.as_object_mut().unwrap().remove("event");
        });
        let run = completed(&run, None);
        assert_eq!(run.key.to_string(), "18446744073709551615");
        assert_eq!(run.workflow.as_deref(), Some("ci.yml"), "a workflow that is no longer there has its file's name");
        assert_eq!((run.duration().ms, run.on_default_branch, run.sender), (None, false, None));
    }

    #[test]
    fn a_run_has_the_keys_of_all_its_attempts() {
        let keys = |attempt: Value| {
            let run = listed(|run| (run["id"], run["run_attempt"]) = (json!(5), attempt));
            run.keys().map(|key| key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(keys(json!(3)), ["5", "5/attempts/2", "5/attempts/3"]);
        assert_eq!(keys(json!(1)), ["5"]);
        assert_eq!(keys(Value::Null), ["5"]);
        for (status, conclusion) in [("in_progress", Value::Null), ("completed", json!("action_required"))] {
            let run = listed(|run| {
                (run["id"], run["status"], run["conclusion"]) = (json!(5), json!(status), conclusion.clone());
            });
            let keys: Vec<RunKey> = run.keys().collect();
            assert_eq!(keys.iter().map(ToString::to_string).collect::<Vec<_>>(), ["5", "5/attempts/2"], "{status}");
            assert!(keys.iter().all(|key| !run.is_of(*key)));
            assert!(run.unfinished().is_some_and(|key| run.is_of(key)));
        }
    }
}
