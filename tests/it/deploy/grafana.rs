//! Grafana's dashboard, held against what `/metrics` tells.

use super::{json, path, prometheus::asks_for_what_there_is, promtool, under};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

#[test]
fn every_panel_asks_for_what_the_metrics_tell() {
    let dashboard = json(&path("grafana/dashboard.json"));
    let expressions: Vec<&str> = under(&dashboard, "expr").into_iter().map(|text| text.as_str().unwrap()).collect();
    assert!(expressions.len() > 20, "{}", expressions.len());
    for expression in &expressions {
        asks_for_what_there_is(expression);
        assert!(expression.contains("{instance=~\"$instance\""), "{expression}");
    }
    let instances = &dashboard["templating"]["list"][1]["query"]["query"];
    asks_for_what_there_is(instances.as_str().unwrap());
    // A file of rules is what promtool reads expressions from; it knows no variable of Grafana's.
    let expressions = expressions.iter().map(|expression| expression.replace("$__rate_interval", "5m"));
    let rules: Vec<Value> =
        expressions.enumerate().map(|(at, expr)| json!({"record": format!("panel_{at}"), "expr": expr})).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    fs::write(&file, json!({"groups": [{"name": "panels", "rules": rules}]}).to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn every_panel_has_a_place_of_its_own_a_unit_and_the_chosen_data_source() {
    let dashboard = json(&path("grafana/dashboard.json"));
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = &panel["title"];
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        assert!(panel["description"].is_string(), "{title}");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + width <= 24, "{title}");
        for square in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(square), "{title} lies over another");
        }
    }
    let sources = under(&dashboard, "datasource");
    assert!(sources.len() > 10, "{sources:?}");
    assert!(sources.iter().all(|source| source["uid"] == "${datasource}"));
}
