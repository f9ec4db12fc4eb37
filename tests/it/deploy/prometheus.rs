//! The alerts, held against what `/metrics` tells and against the table of when to be woken.

use super::{names_files_that_exist, path, promtool, root};
use prometheus::core::Collector;
use runhound::{
    admin::{METRICS, Reason},
    datadog::Verdict,
    vitals::{Outcome, Vitals},
};
use std::{collections::BTreeMap, fs};

/// A label and all its values, where they are a closed list.
type Label = (&'static str, Option<Vec<&'static str>>);

/// Each name that `/metrics` has, with its label.
fn exposed() -> BTreeMap<String, Option<Label>> {
    let label = |name: &'static str| {
        let values: Option<Vec<&'static str>> = match name {
            "reason" => Some(Reason::ALL.map(Reason::name).into()),
            "outcome" => Some(Outcome::ALL.map(Outcome::name).into()),
            "verdict" => Some(Verdict::NAMES.into()),
            _ => None,
        };
        (name, values)
    };
    let own = METRICS.iter().map(|metric| (metric.name.to_owned(), metric.label.map(label)));
    let families = Vitals::default().histograms().map(Collector::collect).concat();
    let of_families = families.iter().flat_map(|family| {
        let part = |suffix: &str, label| (format!("{}_{suffix}", family.name()), label);
        [part("bucket", Some(("le", None))), part("sum", None), part("count", None)]
    });
    own.chain(of_families).collect()
}

/// Each metric of an expression exists, has the labels that it is asked for, and these the values.
pub(super) fn asks_for_what_there_is(expression: &str) {
    let exposed = exposed();
    let is_of_a_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut labels = Vec::new();
    for (at, _) in expression.match_indices("runhound_") {
        let rest = expression.get(at..).unwrap();
        let name = rest.split(|char| !is_of_a_name(char)).next().unwrap();
        let label = exposed.get(name).unwrap_or_else(|| panic!("there is no {name}: {expression}"));
        labels.extend(label.as_ref().map(|(label, _)| *label));
        let Some(matchers) = rest.get(name.len()..).unwrap().strip_prefix('{') else { continue };
        for matcher in matchers.split('}').next().unwrap().split(',') {
            let (key, values) = matcher.trim().split_once(['=', '!']).unwrap();
            if ["instance", "job"].contains(&key) {
                continue;
            }
            let (_, known) =
                label.as_ref().filter(|(label, _)| *label == key).unwrap_or_else(|| panic!("{name} has no {key}"));
            for value in values.split('"').nth(1).unwrap().split('|') {
                assert!(known.as_ref().is_some_and(|known| known.contains(&value)), "{name} has no {key} {value}");
            }
        }
    }
    for by in expression.split(" by (").skip(1) {
        for key in by.split(')').next().unwrap().split(", ") {
            assert!(labels.contains(&key), "nothing has the label {key}: {expression}");
        }
    }
}

/// A rule, as its lines.
#[derive(Debug)]
struct Rule {
    expression: String,
    text: String,
}

fn rules() -> Vec<Rule> {
    let file = fs::read_to_string(path("prometheus/alerts.yaml")).unwrap();
    let rules: Vec<Rule> = file
        .split("- alert: ")
        .skip(1)
        .map(|text| {
            let expression = text.lines().find_map(|line| line.trim().strip_prefix("expr: ")).unwrap().to_owned();
            Rule { expression, text: text.to_owned() }
        })
        .collect();
    assert!(rules.len() > 5);
    rules
}

#[test]
fn every_alert_asks_for_what_the_metrics_tell_and_names_files_that_exist() {
    for rule in rules() {
        asks_for_what_there_is(&rule.expression);
        names_files_that_exist(&rule.text);
    }
}

#[test]
fn the_alerts_are_those_of_the_page_for_operators() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let table = page.split("## When to be woken").nth(1).unwrap().split("\n## ").next().unwrap();
    let rules = rules();
    let mut rows = 0;
    for row in table.lines().filter(|line| line.contains('`')) {
        let when = row.split('|').nth(2).unwrap();
        let expression = when.split('`').nth(1).unwrap();
        // Where the page says "any other" or "beyond", the rule is held by its metric alone.
        let needle = if expression.contains(['{', '(']) || expression.ends_with("== 0") {
            expression
        } else {
            expression.split(' ').next().unwrap()
        };
        let severity = if row.starts_with("| page ") { "severity: page\n" } else { "severity: ticket\n" };
        let pending = when.split(" for ").nth(1).map(|rest| format!("for: {}m\n", rest.split(' ').next().unwrap()));
        let is_it = |rule: &&Rule| {
            rule.expression.contains(needle)
                && rule.text.contains(severity)
                && pending.as_ref().is_none_or(|pending| rule.text.contains(pending))
        };
        assert!(rules.iter().any(|rule| is_it(&rule)), "no alert is {row}");
        rows += 1;
    }
    assert_eq!(rows, 8, "{table}");
}

#[test]
fn every_alert_fires_when_it_should_and_not_otherwise() {
    promtool(&["check", "rules", path("prometheus/alerts.yaml").to_str().unwrap()]);
    promtool(&["test", "rules", path("prometheus/alerts.test.yaml").to_str().unwrap()]);
    let tests = fs::read_to_string(path("prometheus/alerts.test.yaml")).unwrap();
    for rule in rules() {
        let name = rule.text.lines().next().unwrap();
        assert!(
            tests.contains(&format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"")),
            "{name} is never seen to fire"
        );
    }
}
