//! The catalogue of metrics and tags: what is sent, for people, for documents and for Datadog's metric metadata.
//!
//! Invariant: it is made of what payloads are made of, so that it cannot tell anything else.

use super::{ExtraTag, Metric, MetricKind, Subject, TAG_KEYS, Tagging};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt;

/// The metrics, with their metadata in Datadog's words. As JSON it is a list of objects with `name`, `type`, `unit` (or
/// null), `description` and `tags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Catalogue(Vec<Described>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Described {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    unit: Option<&'static str>,
    description: &'static str,
    tags: Vec<String>,
    /// What it is of.
    #[serde(skip)]
    subject: Subject,
}

impl Catalogue {
    /// What is sent by a service that tags its runs so.
    #[must_use]
    pub fn new(tagging: &Tagging) -> Self {
        let described = |(subject, metric): (Subject, &Metric)| Described {
            name: metric.of(&tagging.prefix, subject, "{conclusion}"),
            kind: metric.kind().name(),
            unit: metric.unit(),
            description: metric.description(subject),
            tags: tags(tagging, subject),
            subject,
        };
        let metrics = Subject::of(tagging.detail)
            .iter()
            .flat_map(|subject| subject.metrics().iter().map(move |metric| (*subject, metric)));
        Self(metrics.map(described).collect())
    }
}

/// The keys of the tags that its metrics have.
fn tags(tagging: &Tagging, subject: Subject) -> Vec<String> {
    let is_extra = |key: &str| ExtraTag::value_variants().iter().any(|extra| extra.key() == key);
    let is_asked_for = |key: &str| tagging.extra.iter().any(|extra| extra.key() == key);
    let of_it = TAG_KEYS.into_iter().filter(|key| has(subject, key)).filter(|key| !is_extra(key) || is_asked_for(key));
    let mut tags: Vec<String> = of_it.map(str::to_owned).collect();
    for key in tagging.constant.iter().filter_map(|tag| tag.split(':').next()) {
        if !tags.iter().any(|known| known == key) {
            tags.push(key.to_owned());
        }
    }
    tags
}

/// Whether GitHub tells what the tag is made of.
fn has(subject: Subject, key: &str) -> bool {
    match key {
        "event" | "actor" | "triggering_actor" | "workflow_path" => subject == Subject::Run,
        "job_name" | "runs_on" | "runner_group" => subject != Subject::Run,
        "step_name" => subject == Subject::Step,
        _ => true,
    }
}

impl fmt::Display for Catalogue {
    /// A table of the metrics, and under it their tags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|metric| metric.name.len()).max().unwrap_or_default();
        writeln!(f, "{:width$}  type   unit    description", "metric")?;
        for Described { name, kind, unit, description, .. } in &self.0 {
            writeln!(f, "{name:width$}  {kind:5}  {:6}  {description}", unit.unwrap_or("-"))?;
        }
        let mut tags: Vec<&str> = Vec::new();
        for tag in self.0.iter().flat_map(|metric| &metric.tags) {
            if !tags.contains(&tag.as_str()) {
                tags.push(tag);
            }
        }
        let width = tags.iter().map(|tag| tag.len()).max().unwrap_or_default();
        writeln!(f, "\n{:width$}  what it is", "tag")?;
        for tag in tags {
            let of =
                |has: bool| self.0.iter().filter(move |metric| metric.tags.iter().any(|known| known == tag) == has);
            let mut subjects: Vec<&str> = of(true).map(|metric| metric.subject.name()).collect();
            subjects.dedup();
            let only = of(false).next().map(|_| format!(" (only of {})", subjects.join(" and "))).unwrap_or_default();
            writeln!(f, "{tag:width$}  {}{only}", describe(tag))?;
        }
        Ok(())
    }
}

impl Metric {
    const fn description(self, subject: Subject) -> &'static str {
        match (self, subject) {
            (Self::Total, Subject::Run) => "runs",
            (Self::Total, Subject::Job) => "jobs",
            (Self::Total, Subject::Step) => "steps",
            (Self::ConclusionTotal, Subject::Run) => "runs of that conclusion",
            (Self::ConclusionTotal, Subject::Job) => "jobs of that conclusion",
            (Self::ConclusionTotal, Subject::Step) => "steps of that conclusion",
            (Self::Queued, _) => "from creation to start; the mean where several jobs share a second",
            (Self::QueuedTotal, _) => "the sum of queue times, so that means over any time are exact",
            (Self::Duration, Subject::Run) => "from start to end; the mean where several runs share a second",
            (Self::Duration, Subject::Job) => "from start to end; the mean where several jobs share a second",
            (Self::Duration, Subject::Step) => "from start to end; the mean where several steps share a second",
            (Self::DurationTotal, _) => "the sum of durations, so that means over any time are exact",
        }
    }
}

impl MetricKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Gauge => "gauge",
        }
    }
}

/// What a tag's values are, and what bounds them.
fn describe(key: &str) -> String {
    let extra = ExtraTag::value_variants().iter().find(|extra| extra.key() == key);
    if let Some(help) = extra.and_then(ExtraTag::to_possible_value).as_ref().and_then(|value| value.get_help()) {
        return help.to_string();
    }
    let text = match key {
        "repository_owner" => "Login of the repository's owner",
        "repository_name" => "The repository's name, without its owner",
        "workflow_name" => "The workflow's name, else the name of its file",
        "event" => "What triggered the run: push, pull_request, schedule, …",
        "branch" => "The default branch, and those of --branches, by name; else other",
        "default_branch" => "true or false",
        "conclusion" => "success, failure, cancelled, …; unknown where GitHub tells none",
        "sender_type" => "user, bot or organization",
        "job_name" => "The job's name, without the values of its matrix unless --fold-matrix false",
        "runs_on" => "The labels that the job asks for, in one text",
        "runner_group" => "The group of the runner that the job ran on",
        "step_name" => "The step's name, else the action or command that it runs",
        "env" => "As DD_ENV says",
        _ => "As DD_TAGS says",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Detail,
        metrics::{
            Series, Slot, payload,
            tests::{completed, completed_job},
        },
    };
    use std::{collections::BTreeSet, sync::Arc};

    fn tagging() -> Tagging {
        let extra = ExtraTag::value_variants().to_vec();
        let constant = ["env:prod", "team:a", "team:b"].map(str::to_owned).to_vec();
        Tagging { extra, constant, ..crate::metrics::tests::tagging() }
    }

    #[test]
    fn the_catalogue_tells_what_a_payload_holds() {
        let tagging = Tagging { detail: Detail::Steps, ..tagging() };
        let sent: Vec<Series> = [completed(), completed_job()]
            .into_iter()
            .flat_map(|completed| {
                let run = Arc::new(tagging.run(&completed, 0));
                payload(&[Slot { second: run.end, runs: vec![run] }]).series
            })
            .collect();
        let Catalogue(told) = Catalogue::new(&tagging);
        assert_eq!(told.len(), 4 + 6 + 4);
        for told in told {
            let sent = sent.iter().find(|sent| told.name.replace("{conclusion}", "success") == sent.metric).unwrap();
            assert_eq!((told.kind, told.unit), (sent.kind.name(), sent.unit.as_deref()));
            let keys = |tags: &[String]| -> BTreeSet<String> {
                tags.iter().map(|tag| tag.split(':').next().unwrap().to_owned()).collect()
            };
            assert_eq!(keys(&told.tags), keys(&sent.tags), "{}", told.name);
        }
    }

    #[test]
    fn every_tag_is_described_and_extra_ones_are_left_out_unless_asked_for() {
        let table = Catalogue::new(&tagging()).to_string();
        assert_eq!(table.matches("As DD_TAGS says").count(), 1, "{table}");
        assert!(table.contains("triggering_actor  Login of who triggered this attempt"), "{table}");
        let plain = Catalogue::new(&crate::metrics::tests::tagging()).to_string();
        assert!(!plain.contains("actor") && !plain.contains("DD_"), "{plain}");
    }
}
