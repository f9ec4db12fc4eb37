//! The tags of a run or job, in the form Datadog gives them, before they become part of a slot.
//!
//! Two texts that Datadog would make one must be one here already: it keeps only the last value of a
//! tag set and second, so tags that differ here and not there would overwrite each other.
//!
//! Source of the form: Datadog, "Getting started with tags": lower case; letters, digits and `_ - : . /`;
//! a letter first; 200 characters with the key; no `_` or `:` at the end.

use super::{
    JobTimes, METRIC_NAME_MAX_CHARS, Run, Subject, TagSet,
    jobs::{fold_matrix, runs_on, without_run},
};
use crate::event::{Completed, Detail, Job};
use globset::GlobSet;
use std::{iter, sync::Arc};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// The longest tag, in characters, with its key.
pub const TAG_MAX_CHARS: usize = 200;

/// A tag that is only sent where it is asked for, because each of its values is a line on the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ExtraTag {
    /// Which attempt of the run this was
    RunAttempt,
    /// Login of the sender of the event
    Sender,
    /// Login of who started the run
    Actor,
    /// Login of who triggered this attempt
    TriggeringActor,
    /// Path of the workflow's file
    WorkflowPath,
}

impl ExtraTag {
    /// The tag's key.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::RunAttempt => "run_attempt",
            Self::Sender => "sender",
            Self::Actor => "actor",
            Self::TriggeringActor => "triggering_actor",
            Self::WorkflowPath => "workflow_path",
        }
    }
}

/// What the steps of one job may take in a payload, which is sent whole: Datadog takes 5,242,880 bytes unpacked. Source:
/// Datadog, "Submit metrics".
const STEPS_MAX_BYTES: usize = 4_500_000;

/// What an entry of a payload takes beside its metric's name and its tags: names of fields, type, unit, a point.
const REST_MAX_BYTES: usize = 160;

/// The keys of the tags that runs, jobs and steps set themselves. `DD_TAGS` may not set them too.
pub const TAG_KEYS: [&str; 17] = [
    "repository_owner",
    "repository_name",
    "workflow_name",
    "event",
    "branch",
    "default_branch",
    "conclusion",
    "sender_type",
    "run_attempt",
    "sender",
    "actor",
    "triggering_actor",
    "workflow_path",
    "job_name",
    "runs_on",
    "runner_group",
    "step_name",
];

/// The key of the tag by which runs are counted at their own time, however long ago.
pub const BACKFILL_TAG: &str = "backfill";

/// What is counted, and how it is tagged: everything about it that is configuration.
#[derive(Debug, Clone)]
pub struct Tagging {
    /// What stands before every metric's name: `github.actions`.
    pub prefix: String,
    /// Branches sent verbatim beside the default one; every other is `other`.
    pub branches: GlobSet,
    /// Of what there are metrics.
    pub detail: Detail,
    /// Whether jobs of one matrix have one name.
    pub fold_matrix: bool,
    /// Tags sent beside the bounded ones.
    pub extra: Vec<ExtraTag>,
    /// Whole tags for all of it: `env:…` of `DD_ENV`, and those of `DD_TAGS`.
    pub constant: Vec<String>,
}

impl Tagging {
    /// The run that is counted: its tags, and an end that is `accepted_at` (seconds) where GitHub told none.
    #[must_use]
    pub fn run(&self, completed: &Completed, accepted_at: i64) -> Run {
        let tags = self.tags(completed);
        let (subject, steps, job) = match &completed.job {
            None => (Subject::Run, Vec::new(), None),
            Some(job) => {
                let (steps, steps_ms) = self.steps(job, &tags);
                (Subject::Job, steps, Some(JobTimes { queued_ms: completed.queued().ms, steps_ms }.into()))
            }
        };
        Run {
            key: completed.key,
            end: completed.ended_at.map_or(accepted_at, jiff::Timestamp::as_second),
            duration_ms: completed.duration().ms,
            job,
            tag_set: Arc::new(TagSet { prefix: self.prefix.clone(), subject, tags, steps }),
        }
    }

    fn tags(&self, run: &Completed) -> Vec<String> {
        let verbatim = |branch: &&str| run.on_default_branch || self.branches.is_match(*branch);
        let branch = run.branch.as_deref();
        let mut tags = vec![
            tag("repository_owner", run.repository.owner.as_deref()),
            tag("repository_name", Some(&run.repository.name)),
            tag("workflow_name", run.workflow.as_deref()),
            tag("event", run.event.as_deref()),
            tag("branch", branch.map(|name| Some(name).filter(verbatim).unwrap_or("other"))),
            tag("default_branch", Some(if run.on_default_branch { "true" } else { "false" })),
            Some(conclusion(run.conclusion.as_deref())),
            tag("sender_type", run.sender_type.as_deref()),
        ];
        tags.extend(run.job.iter().flat_map(|job| self.of_job(job)));
        tags.extend(self.extra.iter().map(|extra| {
            let attempt = run.attempt().0.to_string();
            let value = match extra {
                ExtraTag::RunAttempt => Some(attempt.as_str()),
                ExtraTag::Sender => run.sender.as_deref(),
                ExtraTag::Actor => run.actor.as_deref(),
                ExtraTag::TriggeringActor => run.triggering_actor.as_deref(),
                ExtraTag::WorkflowPath => run.workflow_path.as_deref(),
            };
            tag(extra.key(), value)
        }));
        let mut tags: Vec<String> = tags.into_iter().flatten().collect();
        tags.extend(self.constant.iter().filter_map(|constant| tag_form(constant)));
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// The tags that a job has and a run has not.
    fn of_job(&self, job: &Job) -> [Option<String>; 3] {
        let name = job.name.as_deref().map(|name| if self.fold_matrix { fold_matrix(name) } else { name.to_owned() });
        [
            tag("job_name", name.map(|name| without_run(&name, job.run)).as_deref()),
            tag("runs_on", runs_on(&job.labels, job.run).as_deref()),
            tag("runner_group", job.runner_group.as_deref()),
        ]
    }

    /// What a job's steps differ in from it, in order, and how long each took: of as many as a request has room for.
    fn steps(&self, job: &Job, tags: &[String]) -> (Vec<Vec<String>>, Vec<Option<u64>>) {
        if self.detail < Detail::Steps {
            return <(Vec<_>, Vec<_>)>::default();
        }
        let own = |name: Option<&str>| tag("step_name", name.map(|name| without_run(name, job.run)).as_deref());
        let mut steps: Vec<(Vec<String>, Option<u64>)> = job
            .steps
            .iter()
            .map(|step| {
                let name = own(step.name.as_deref());
                let tags = iter::once(conclusion(step.conclusion.as_deref())).chain(name).collect();
                (tags, step.duration.ms)
            })
            .collect();
        let entry = METRIC_NAME_MAX_CHARS + REST_MAX_BYTES + tags.iter().map(|tag| tag.len() + 3).sum::<usize>();
        let mut room = STEPS_MAX_BYTES;
        let fits = |(own, _): &&(Vec<String>, Option<u64>)| {
            let bytes = entry + own.iter().map(|tag| tag.len() + 3).sum::<usize>();
            room = room.saturating_sub(bytes * Subject::Step.metrics().len());
            room > 0
        };
        let kept = steps.iter().take_while(fits).count();
        steps.truncate(kept);
        steps.sort_unstable();
        steps.into_iter().unzip()
    }
}

fn conclusion(conclusion: Option<&str>) -> String {
    tag("conclusion", conclusion).unwrap_or_else(|| "conclusion:unknown".to_owned())
}

/// `key:value` in Datadog's form; `None` where there is no value, or none is left of it. The key is taken as it
/// is: it must have that form already.
#[must_use]
pub fn tag(key: &str, value: Option<&str>) -> Option<String> {
    debug_assert_eq!(tag_form(key).as_deref(), Some(key), "a key in Datadog's form");
    let value = value?;
    let mut tag = Formed::of(key, value.len() + 1);
    tag.push(':');
    tag.push_all(value);
    tag.done().filter(|tag| tag.len() > key.len() + 1)
}

/// A whole tag in Datadog's form; `None` where nothing is left of it. Putting a formed tag in changes nothing.
#[must_use]
pub fn tag_form(text: &str) -> Option<String> {
    let mut tag = Formed::of("", text.len());
    tag.push_all(text);
    tag.done()
}

/// A tag that is being put into its form.
struct Formed {
    text: String,
    chars: usize,
}

impl Formed {
    /// Begins with a text that has the form, with room for so many bytes more.
    fn of(begun: &str, more_bytes: usize) -> Self {
        let mut text = String::with_capacity(begun.len() + more_bytes.min(TAG_MAX_CHARS * 4));
        text.push_str(begun);
        Self { text, chars: begun.chars().count() }
    }

    /// Takes a text, as far as it has a place.
    fn push_all(&mut self, text: &str) {
        for char in text.chars() {
            if self.chars == TAG_MAX_CHARS {
                break;
            }
            // Nearly all are of ASCII: one letter in lower case, found without Unicode's tables.
            if char.is_ascii() {
                self.push(char.to_ascii_lowercase());
            } else {
                char.to_lowercase().for_each(|char| self.push(char));
            }
        }
    }

    /// Takes a character in lower case, as far as it has a place.
    fn push(&mut self, char: char) {
        let kept =
            if is_letter(char) || is_digit(char) || matches!(char, '_' | '-' | ':' | '.' | '/') { char } else { '_' };
        let is_unwanted = (self.text.is_empty() && !is_letter(kept)) || (kept == '_' && self.text.ends_with('_'));
        if !is_unwanted && self.chars < TAG_MAX_CHARS {
            self.text.push(kept);
            self.chars += 1;
        }
    }

    /// Without what may not be at the end; `None` where nothing is left.
    fn done(mut self) -> Option<String> {
        self.text.truncate(self.text.trim_end_matches(['_', ':']).len());
        (!self.text.is_empty()).then_some(self.text)
    }
}

// Looking a character up in Unicode's tables is slow, and nearly all of a tag is ASCII.

fn is_letter(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_alphabetic();
    }
    char.general_category_group() == GeneralCategoryGroup::Letter
}

fn is_digit(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_digit();
    }
    char.general_category() == GeneralCategory::DecimalNumber
}
