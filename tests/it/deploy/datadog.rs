//! Datadog's dashboard and monitors, held against what runs, jobs and steps are sent with. That they are in Datadog's form
//! is checked by `deploy/datadog/validate.py`.

use super::{json, names_files_that_exist, path, prometheus::asks_for_what_there_is, under};
use crate::harness::program;
use runhound::admin::METRICS;
use serde_json::Value;
use std::{collections::BTreeMap, fs};

fn monitors() -> Vec<(String, Value)> {
    let files = fs::read_dir(path("datadog/monitors")).unwrap().map(|entry| entry.unwrap().path());
    let monitors: Vec<_> = files.map(|file| (file.display().to_string(), json(&file))).collect();
    assert!(monitors.len() >= 4, "{monitors:?}");
    monitors
}

fn dashboard() -> Value {
    json(&path("datadog/dashboard.json"))
}

/// What a query asks: `sum:METRIC{KEY:VALUE,!KEY:VALUE,$VARIABLE} by {KEY,…}`, or `{KEY IN (VALUE,…)}`.
#[derive(Debug, Default)]
struct Asked {
    metrics: Vec<String>,
    keys: Vec<String>,
    variables: Vec<String>,
    groups: Vec<String>,
}

fn asked(query: &str) -> Asked {
    let mut asked = Asked::default();
    for (at, _) in query.match_indices('{') {
        let (before, behind) = (query.get(..at).unwrap(), query.get(at + 1..).unwrap());
        let inside = behind.split('}').next().unwrap();
        if before.ends_with(" by ") {
            asked.groups.extend(inside.split(',').map(str::to_owned));
            continue;
        }
        asked.metrics.push(before.rsplit(':').next().unwrap().to_owned());
        let filter = inside.split(" IN (").next().unwrap();
        for word in filter.split(',').filter(|word| *word != "*") {
            match word.strip_prefix('$') {
                Some(variable) => asked.variables.push(variable.to_owned()),
                None => asked.keys.push(word.trim_start_matches('!').split(':').next().unwrap().to_owned()),
            }
        }
    }
    assert!(!asked.metrics.is_empty(), "{query}");
    asked
}

#[test]
fn every_query_asks_for_metrics_and_tags_that_are_sent_with_them() {
    let arguments = ["metrics", "--format=json", "--extra-tags=run_attempt", "--jobs", "--steps"];
    let output = program(&arguments).env("DD_ENV", "test").output().unwrap();
    let catalogue: Value = serde_json::from_slice(&output.stdout).unwrap();
    let metrics: BTreeMap<&str, &Value> =
        catalogue.as_array().unwrap().iter().map(|metric| (metric["name"].as_str().unwrap(), metric)).collect();
    let dashboard = dashboard();
    let variables: BTreeMap<&str, &str> = dashboard["template_variables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| (variable["name"].as_str().unwrap(), variable["prefix"].as_str().unwrap()))
        .collect();
    let monitors = monitors();
    let documents = monitors.iter().map(|(_, monitor)| monitor).chain([&dashboard]);
    let queries: Vec<&str> =
        documents.flat_map(|document| under(document, "query")).map(|query| query.as_str().unwrap()).collect();
    assert!(queries.len() > 40, "{}", queries.len());
    for query in queries {
        let Asked { metrics: names, keys, variables: used, groups } = asked(query);
        let of_variables = used.iter().map(|name| {
            *variables.get(name.as_str()).unwrap_or_else(|| panic!("there is no variable {name}: {query}"))
        });
        let keys: Vec<&str> = keys.iter().chain(&groups).map(String::as_str).chain(of_variables).collect();
        for name in &names {
            let metric = metrics.get(name.as_str()).unwrap_or_else(|| panic!("there is no metric {name}: {query}"));
            // A mean of the gauge over time would give a second with one run the weight of one with ten.
            assert_eq!(metric["type"], "count", "{query}");
            let tags = metric["tags"].as_array().unwrap();
            for key in &keys {
                assert!(tags.iter().any(|tag| tag == key), "there is no tag {key}: {query}");
            }
        }
        assert_eq!(query.matches(".as_count()").count(), names.len(), "a count is asked for as such: {query}");
    }
}

/// Titles of what asks for a tag that is only sent with `--extra-tags` say so.
#[test]
fn a_widget_that_needs_an_extra_tag_says_so() {
    let dashboard = dashboard();
    let needs = |widget: &&Value| widget["requests"].to_string().contains("run_attempt");
    let widgets: Vec<&Value> = under(&dashboard, "definition").into_iter().filter(needs).collect();
    assert!(!widgets.is_empty());
    for widget in widgets {
        assert!(widget["title"].as_str().unwrap().contains("needs run_attempt"), "{}", widget["title"]);
    }
}

/// Metrics of jobs and steps are only sent where a flag says so: groups of the dashboard, and monitors, name it.
#[test]
fn what_asks_for_jobs_or_steps_says_so() {
    let (dashboard, monitors) = (dashboard(), monitors());
    let groups = dashboard["widgets"].as_array().unwrap().iter().map(|group| (&group["definition"]["title"], group));
    let asking = groups.chain(monitors.iter().map(|(_, monitor)| (&monitor["name"], monitor)));
    let mut told = BTreeMap::from([("--jobs", 0), ("--steps", 0)]);
    for (title, document) in asking {
        let title = title.as_str().unwrap();
        let queries = under(document, "query").into_iter().map(|query| query.as_str().unwrap());
        let metrics: Vec<String> = queries.flat_map(|query| asked(query).metrics).collect();
        for (kind, flag) in [("job", "--jobs"), ("step", "--steps")] {
            let prefix = format!("github.actions.{kind}.");
            let is_asked = metrics.iter().any(|metric| metric.starts_with(&prefix));
            assert_eq!(title.contains(&format!("only with {flag}")), is_asked, "{title}: {flag}");
            *told.get_mut(flag).unwrap() += u32::from(is_asked);
        }
    }
    assert_eq!(told, BTreeMap::from([("--jobs", 2), ("--steps", 1)]));
}

#[test]
fn a_monitor_says_what_happened_and_where() {
    for (name, monitor) in monitors() {
        let (query, message) = (monitor["query"].as_str().unwrap(), monitor["message"].as_str().unwrap());
        let threshold: f64 = query.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(monitor["options"]["thresholds"]["critical"].as_f64(), Some(threshold), "{name}");
        let groups = asked(query).groups;
        for part in message.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap()) {
            let is_known = match part.strip_prefix(['#', '^']) {
                Some(block) => message.contains(&format!("{{{{/{block}}}}}")),
                None => {
                    part.starts_with('/')
                        || part.strip_suffix(".name").is_some_and(|key| groups.iter().any(|group| group == key))
                }
            };
            assert!(is_known, "{name}: {{{{{part}}}}}");
        }
        names_files_that_exist(message);
    }
}

/// Apart from all of the above: what an Agent reads of `/metrics`, and the one monitor on it.
#[test]
fn the_monitor_on_what_an_agent_reads_asks_for_what_the_agent_is_told_to_read() {
    let check = fs::read_to_string(path("datadog/agent/openmetrics.yaml")).unwrap();
    let read: BTreeMap<&str, &str> = check
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ^")?.split_once("$: "))
        .map(|(metric, name)| (name, metric))
        .collect();
    for metric in read.values() {
        assert!(METRICS.iter().any(|known| known.name == *metric), "there is no {metric}");
    }
    let monitor = json(&path("datadog/agent/rejected-runs.json"));
    let Asked { metrics, keys, groups, .. } = asked(monitor["query"].as_str().unwrap());
    let name = metrics[0].strip_prefix("runhound.").unwrap();
    asks_for_what_there_is(&format!("{}{{{}=\"runs_rejected\"}}", read[name], keys[0]));
    assert_eq!((metrics.len(), groups), (1, vec!["host".to_owned()]));
    names_files_that_exist(monitor["message"].as_str().unwrap());
}
