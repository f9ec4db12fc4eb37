//! `runhound backfill`: from the list of runs, by the real program.

use super::*;
use serde_json::Value;
use std::collections::BTreeSet;

/// The points of a metric that were pushed: tags and second.
fn points(scene: &Scene, metric: &str) -> BTreeSet<(Vec<String>, i64)> {
    let pushed = scene.intake.requests();
    let series = pushed.iter().map(|received| serde_json::from_str::<Value>(&received.unpacked).unwrap());
    let mut points = BTreeSet::new();
    for series in series.flat_map(|payload| payload["series"].as_array().unwrap().clone()) {
        if series["metric"] == metric {
            let tags: Vec<String> = serde_json::from_value(series["tags"].clone()).unwrap();
            let seconds = series["points"].as_array().unwrap().iter().map(|point| point["timestamp"].as_i64().unwrap());
            points.extend(seconds.map(|second| (tags.clone(), second)));
        }
    }
    points
}

#[test]
fn runs_that_were_never_delivered_count_as_if_they_had_been() {
    let scene = Scene::new();
    let end = now() - 300;
    let run = |id: u64| {
        let end = end - i64::try_from(id).unwrap();
        workflow_run(id).started_at(end - 60).updated_at(end).branch("topic").sender_type("Bot").event("pull_request")
    };
    let service = scene.service();
    service.deliver(&run(1));
    service.wait_for_pushes(1);
    service.stop();
    scene.hub.complete_silently(&run(1));
    scene.hub.complete_silently(&run(2).set("/workflow_run/triggering_actor/type", "Bot".into()));
    let said = scene.backfill(&[]);
    said.done();
    assert!(said.out.contains("2 completed runs with 2 attempts, 1 of them not recorded"), "{}", said.out);
    assert_eq!((said.counts("taken in"), said.counts("known"), said.counts("pushed")), (1, 1, 1), "{}", said.out);
    assert_eq!(scene.backfill(&[]).done().counts("known"), 2);
    scene.assert_counted(2);
    let tags: BTreeSet<Vec<String>> = points(&scene, TOTAL).into_iter().map(|(tags, _)| tags).collect();
    assert_eq!(tags.len(), 1, "the tags are those of a delivery: {tags:#?}");
    assert_eq!(scene.intake.count(DURATION_TOTAL), 120.0);
}

#[test]
fn each_attempt_that_is_missing_is_taken_in_and_no_other() {
    let scene = Scene::new();
    let at = |attempt: u32| {
        ended(5, i64::from(600 - 60 * attempt))
            .attempt(attempt)
            .conclusion(Some(["failure", "success"][usize::from(attempt == 3)]))
    };
    let service = scene.service();
    service.deliver(&at(2));
    service.wait_for_pushes(1);
    service.stop();
    for attempt in 1..=3 {
        scene.hub.complete_silently(&at(attempt));
    }
    // A re-run keeps the day on which the run was made.
    let said = scene.run(&["backfill", "--repository", REPOSITORY, "--since", "2d"]);
    assert_eq!((said.done().counts("taken in"), said.counts("known")), (2, 1), "{}", said.out);
    let mut sent = scene.sent();
    sent.sort_unstable();
    assert_eq!(sent, ["5", "5/attempts/2", "5/attempts/3"]);
    scene.assert_counted(3);
    assert_eq!(scene.intake.count("github.actions.workflow_run.conclusion.failure_total"), 2.0);
}

#[test]
fn of_a_run_that_runs_again_what_has_ended_is_taken_in() {
    let scene = Scene::new();
    scene.hub.complete_silently(&ended(5, 600));
    scene.hub.complete_silently(&ended(5, 10).attempt(2).action("in_progress"));
    scene.hub.complete_silently(&ended(6, 10).action("in_progress"));
    scene.hub.complete_silently(&ended(7, 10).conclusion(Some("action_required")));
    let said = scene.run(&["backfill", "--repository", REPOSITORY, "--since", "2d"]);
    assert_eq!((said.done().counts("taken in"), said.counts("ignored")), (1, 0), "{}", said.out);
    assert_eq!(scene.sent(), ["5"]);
}

#[test]
fn a_run_that_was_changed_later_ended_with_its_last_job() {
    let scene = Scene::new();
    let end = now() - 900;
    scene.hub.complete_silently(&workflow_run(1).started_at(end - 60).updated_at(end));
    scene.hub.set_jobs(1, 1, &[(end - 50, Some(end - 30)), (end - 40, Some(end - 10)), (end - 40, None)]);
    scene.hub.set_updated_at(1, 1, now() - 5);
    scene.backfill(&[]).done();
    assert_eq!(scene.intake.count(DURATION_TOTAL), 50.0);
    // One without jobs has nothing else than its last change.
    scene.hub.complete_silently(&workflow_run(2).started_at(end - 60).updated_at(end));
    scene.hub.set_jobs(2, 1, &[]);
    scene.backfill(&[]).done();
    assert_eq!(scene.intake.count(DURATION_TOTAL), 110.0);
}

#[test]
fn a_search_with_more_than_a_thousand_results_is_halved_until_all_are_found() {
    let scene = Scene::new();
    // Most of them within a minute, so that it takes many halves.
    for id in 1..=1_250 {
        let made = now()
            - if id % 10 == 0 { 3600 + i64::try_from(id).unwrap() } else { 1800 + i64::try_from(id % 60).unwrap() };
        scene.hub.complete_silently(&workflow_run(id).started_at(made).updated_at(made + 60));
    }
    let said = scene.backfill(&["--plan"]);
    said.done();
    assert!(said.out.contains("1250 completed runs with 1250 attempts, 1250 of them not recorded"), "{}", said.out);
    assert!(said.out.contains("1250 are missing; nothing was taken in"), "{}", said.out);
    let listed = |asked: &crate::hub::Asked| asked.path.ends_with("/actions/runs");
    assert!(scene.hub.count(listed) < 40, "{}", scene.hub.count(listed));
    assert!(!has_files(&scene.cache_dir()));
}

#[test]
fn runs_of_more_than_an_hour_ago_are_told_of_beforehand_and_counted_now_or_left_out() {
    let scene = Scene::new();
    scene.hub.complete_silently(&ended(1, 7200));
    scene.hub.complete_silently(&ended(2, 60));
    let begun = now();
    let said = scene.backfill(&["--late", "skip"]);
    said.done();
    assert!(
        said.out.contains("at least 1 of those ended more than an hour ago") && said.out.contains("left out"),
        "{}",
        said.out
    );
    assert_eq!((said.counts("taken in"), said.counts("left out")), (1, 1), "{}", said.out);
    scene.assert_counted(1);
    let said = scene.backfill(&[]);
    assert!(said.done().out.contains("counted at the time at which they are sent"), "{}", said.out);
    scene.assert_counted(2);
    let latest = points(&scene, TOTAL).into_iter().map(|(_, second)| second).max().unwrap();
    assert!(latest >= begun, "{latest}");
}

#[test]
fn historical_runs_are_sent_at_their_own_time_with_a_tag_of_their_own() {
    let scene = Scene::new();
    scene.intake.keep_history(true);
    let end = now() - 90_000;
    for id in 1..=3 {
        scene.hub.complete_silently(&workflow_run(id).started_at(end - 60).updated_at(end));
    }
    scene.hub.complete_silently(&ended(9, 60));
    let since = "2026-01-01";
    let late = ["backfill", "--repository", REPOSITORY, "--since", since, "--late", "historical"];
    let said = scene.run(&late);
    assert!(said.done().out.contains("enable Historical Metrics"), "{}", said.out);
    assert_eq!((said.counts("taken in"), said.counts("pushed")), (4, 4), "{}", said.out);
    scene.hub.complete_silently(&workflow_run(4).started_at(end - 60).updated_at(end));
    assert_eq!(scene.run(&late).done().counts("taken in"), 1, "what was sent is known");
    scene.assert_counted(5);
    let (historical, usual): (Vec<_>, Vec<_>) =
        points(&scene, TOTAL).into_iter().partition(|(tags, _)| tags.contains(&format!("backfill:{since}")));
    let seconds: Vec<i64> = historical.into_iter().map(|(_, second)| second).collect();
    // Those of one batch share a second; a later batch has one of its own.
    assert!(seconds.len() >= 2 && seconds == (end..).take(seconds.len()).collect::<Vec<_>>(), "{end} {seconds:?}");
    assert_eq!(usual.len(), 1, "one that is not late is as usual");
}

#[test]
fn historical_attempts_of_one_tag_set_keep_their_seconds_in_whatever_order_they_are_listed() {
    let scene = Scene::new();
    scene.intake.keep_history(true);
    let ends = [now() - 90_000, now() - 85_000, now() - 80_000];
    let at = |id: u64, end: i64| workflow_run(id).started_at(end - 60).updated_at(end);
    scene.hub.complete_silently(&at(5, ends[0]));
    scene.hub.complete_silently(&at(6, ends[1]));
    scene.hub.complete_silently(&at(5, ends[2]).attempt(2));
    scene.run(&["backfill", "--repository", REPOSITORY, "--since", "2026-01-01", "--late", "historical"]).done();
    let seconds: Vec<i64> = points(&scene, TOTAL).into_iter().map(|(_, second)| second).collect();
    assert_eq!(seconds, ends);
}

#[test]
fn a_service_that_runs_takes_in_what_its_files_lack() {
    let scene = Scene::new();
    let service = scene.service();
    service.deliver(&ended(1, 60));
    scene.hub.complete_silently(&ended(1, 60));
    scene.hub.complete_silently(&ended(2, 50));
    let said = scene.backfill(&["--to", &webhook(&service)]);
    assert_eq!((said.done().counts("taken in"), said.counts("known")), (1, 1), "{}", said.out);
    // From a machine that does not see its files, the service decides alone.
    let elsewhere = scene.dir.path().join("elsewhere");
    let mut command =
        scene.command(&["backfill", "--repository", REPOSITORY, "--since", "3h", "--to", &webhook(&service)]);
    let said = super::said(command.env("RUNHOUND_CACHE_DIR", &elsewhere));
    assert_eq!((said.done().counts("taken in"), said.counts("known")), (0, 2), "{}", said.out);
    scene.intake.wait_until(|state| state.count(TOTAL) >= 2.0, crate::harness::PATIENCE);
    service.stop();
    scene.assert_counted(2);
}

#[test]
fn what_stands_in_the_way_is_named_with_what_to_do() {
    let scene = Scene::new();
    let at = |since: &str, until: &str| {
        scene.run(&["backfill", "--repository", REPOSITORY, "--since", since, "--until", until])
    };
    at("1h", "2h").failed("--since is not before --until", "earlier --since");
    scene
        .run(&["backfill", "--repository", "acme-rockets/no-such", "--since", "1h"])
        .failed("finds nothing there", "Actions: read");
    let none = scene.hub.token(Rights::Nothing);
    let said =
        said(scene.command(&["backfill", "--repository", REPOSITORY, "--since", "1h"]).env("GITHUB_TOKEN", none));
    assert_eq!(said.status, 1, "{}", said.err);
}
