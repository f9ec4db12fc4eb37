//! Jobs of an attempt, as the API tells of them after the fact.

use super::{Github, GithubError, Place, runs::attempt_path};
use crate::event::{JobId, Key, RunKey};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::num::NonZeroU32;

/// A job, with what a delivery would have told of it. Any field but the ID can be missing or null.
#[derive(Debug, Clone, Deserialize)]
pub struct ListedJob {
    id: u64,
    /// When it completed.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// What is handed on as it stands.
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl ListedJob {
    /// Under which it is counted.
    #[must_use]
    pub const fn key(&self) -> Key {
        Key::Job(JobId(self.id))
    }

    /// Whether it has completed.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.more.get("status").and_then(Value::as_str) == Some("completed")
    }

    /// As a delivery tells of it, as a job of this attempt.
    pub(super) fn told_in(&self, attempt: NonZeroU32) -> Value {
        let mut job = self.more.clone();
        job.extend([
            ("id".to_owned(), json!(self.id)),
            ("run_attempt".to_owned(), json!(attempt)),
            ("completed_at".to_owned(), json!(self.completed_at)),
        ]);
        Value::Object(job)
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    jobs: Vec<ListedJob>,
}

impl Github {
    /// The jobs of an attempt, those of an earlier one that did not run again among them. None, where GitHub has them no
    /// longer.
    ///
    /// # Errors
    /// GitHub does not tell.
    pub async fn jobs(&self, place: &Place, key: RunKey) -> Result<Vec<ListedJob>, GithubError> {
        let mut jobs = Vec::new();
        let mut next = Some(format!("{}/jobs?per_page=100", attempt_path(place, key)));
        while let Some(path) = next {
            let reply = match self.get(place, &path).await {
                // A run whose jobs are no longer there is there all the same.
                Err(GithubError::NotFound { .. }) => break,
                reply => reply?,
            };
            jobs.extend(Self::read::<Page>(&path, &reply)?.jobs);
            next = reply.next;
        }
        Ok(jobs)
    }
}
