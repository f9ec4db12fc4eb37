//! `runhound recover`: from the delivery log, by the real program.

use super::*;
use crate::{
    harness::{PATIENCE, signal},
    hub::{Asked, Denial, Order},
    intake,
};
use serde_json::json;
use std::process::Stdio;

#[test]
fn what_failed_while_the_receiver_was_down_is_taken_in_by_the_service_once() {
    let scene = Scene::new();
    let service = scene.service();
    let url = "https://runhound.example.com/webhook";
    scene.hub.hook(REPOSITORY, url, SECRET);
    scene.hub.road(url, service.address);
    for id in 1..=3 {
        scene.hub.complete(&ended(id, 30));
    }
    service.stop();
    for id in 4..=6 {
        let tried = scene.hub.complete(&ended(id, 20));
        assert_eq!(tried[0].status_code, 0, "it has no code: {tried:?}");
    }
    let service = scene.service();
    scene.hub.road(url, service.address);
    scene.hub.complete(&ended(7, 10));
    for (taken, known) in [(3, 0), (0, 3)] {
        let said = scene.recover(&["--to", &webhook(&service)]);
        said.done();
        assert_eq!((said.counts("taken in"), said.counts("known")), (taken, known), "{}", said.out);
        assert!(
            said.out.contains("7 deliveries since") && said.out.contains("3 completions not delivered"),
            "{}",
            said.out
        );
        assert!(said.out.contains("requests left until"), "{}", said.out);
    }
    scene.intake.wait_until(|state| state.count(TOTAL) >= 7.0, PATIENCE);
    service.stop();
    scene.assert_counted(7);
    assert_eq!(scene.intake.count(DURATION_TOTAL), 420.0);
}

#[test]
fn without_a_service_the_files_are_opened_and_all_is_pushed() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    for id in 1..=4 {
        scene.hub.complete_unheard(&ended(id, 600), 503);
    }
    let said = scene.recover(&[]);
    said.done();
    assert_eq!(["taken in", "pushed", "pending", "failed"].map(|what| said.counts(what)), [4, 4, 0, 0], "{}", said.out);
    scene.assert_counted(4);
    assert_eq!(scene.sent(), ["1", "2", "3", "4"]);
}

#[test]
fn files_that_a_service_has_are_not_waited_for_but_told_of() {
    let scene = Scene::new();
    let service = scene.service();
    scene.hub.hook(REPOSITORY, &webhook(&service), SECRET);
    scene.recover(&[]).failed("held by process", "--to http://127.0.0.1:8080/webhook");
}

#[test]
fn only_completions_that_no_try_has_delivered_are_missing() {
    let scene = Scene::new();
    let service = scene.service();
    scene.hub.hook(REPOSITORY, &webhook(&service), SECRET);
    scene.hub.complete_unheard(&ended(1, 10).action("requested"), 503);
    scene.hub.complete_unheard(&ended(2, 10).action("in_progress"), 502);
    scene.hub.complete_unheard(&ended(3, 10), 503);
    assert_eq!(scene.recover(&["--redeliver"]).done().counts("taken in"), 1, "GitHub's second try comes through");
    scene.hub.complete_unheard(&ended(4, 10).conclusion(Some("action_required")), 503);
    scene.hub.complete_unheard(&ended(5, 10), 0);
    let said = scene.recover(&["--to", &webhook(&service)]);
    said.done();
    assert_eq!((said.counts("taken in"), said.counts("known"), said.counts("ignored")), (1, 0, 1), "{}", said.out);
    assert!(said.out.contains("1 × conclusion action_required"), "{}", said.out);
    scene.intake.wait_until(|state| state.count(TOTAL) >= 2.0, PATIENCE);
    service.stop();
    scene.assert_counted(2);
}

#[test]
fn what_something_else_has_answered_is_looked_at_where_all_is_asked_for() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.complete_unheard(&ended(1, 10), 200);
    assert_eq!(scene.recover(&[]).done().counts("taken in"), 0);
    assert_eq!(scene.recover(&["--all"]).done().counts("taken in"), 1);
    assert_eq!(scene.recover(&["--all"]).done().counts("known"), 1);
    scene.assert_counted(1);
}

#[test]
fn what_is_missing_is_delivered_again_by_github_where_that_is_asked_for() {
    let scene = Scene::new();
    let service = scene.service();
    scene.hub.hook(REPOSITORY, &webhook(&service), SECRET);
    service.deliver(&ended(1, 10));
    for id in 1..=3 {
        scene.hub.complete_unheard(&ended(id, 10), 504);
    }
    let said = scene.recover(&["--redeliver"]);
    said.done();
    assert_eq!((said.counts("taken in"), said.counts("known")), (2, 1), "{}", said.out);
    let again: Vec<_> = scene.hub.deliveries().into_iter().filter(|delivery| delivery.redelivery).collect();
    assert_eq!(again.len(), 2);
    assert_eq!(scene.recover(&["--redeliver"]).done().counts("taken in"), 0, "they are delivered");
    scene.intake.wait_until(|state| state.count(TOTAL) >= 3.0, PATIENCE);
    service.stop();
    scene.assert_counted(3);
}

#[test]
fn of_several_webhooks_only_one_that_is_named_is_asked_to_deliver_again() {
    let scene = Scene::new();
    let service = scene.service();
    let ours = scene.hub.hook(REPOSITORY, &webhook(&service), SECRET);
    scene.hub.hook(REPOSITORY, "https://user:hush@stranger.example.com/x?token=hush", "");
    scene.hub.complete_unheard(&ended(1, 10), 504);
    let said = scene.recover(&["--redeliver"]);
    said.failed("has several webhooks", "--hook");
    assert!(
        said.err.contains("https://stranger.example.com/x") && !format!("{said:?}").contains("hush"),
        "{}",
        said.err
    );
    assert_eq!(scene.recover(&["--redeliver", "--hook", &ours.to_string()]).done().counts("taken in"), 1);
    service.stop();
}

#[test]
fn a_redelivery_that_fails_again_is_told() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.complete_unheard(&ended(1, 10), 504);
    let said = scene.recover(&["--redeliver"]);
    said.failed("1 could not be taken in", "run it again");
    assert!(said.out.contains("delivered again: failed to connect to host"), "{}", said.out);
    assert!(!has_files(&scene.cache_dir()), "they are not opened");
}

#[test]
fn a_plan_names_what_is_missing_and_takes_nothing_in() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    let failed = scene.hub.complete_unheard(&ended(1, 10), 0);
    let said = scene.recover(&["--plan"]);
    said.done();
    assert!(
        said.out.contains(&failed[0].guid) && said.out.contains("1 are missing; nothing was taken in"),
        "{}",
        said.out
    );
    assert!(!has_files(&scene.cache_dir()));
    scene.recover(&[]).done();
    assert!(scene.recover(&["--plan"]).done().out.contains("0 are missing"));
}

#[test]
fn a_long_log_is_read_page_by_page_and_no_further_back_than_asked() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.set_clock_offset(-7200);
    scene.hub.complete_unheard(&ended(1, 10), 503);
    scene.hub.set_clock_offset(0);
    for id in 2..=251 {
        scene.hub.complete_unheard(&ended(id, 10), 503);
    }
    let said = scene.recover(&["--since", "1h"]);
    assert_eq!(said.done().counts("taken in"), 250, "{}", said.out);
    assert_eq!(scene.recover(&["--since", "1d"]).done().counts("taken in"), 1);
    scene.intake.assert_contract();
    assert_eq!(scene.intake.count(TOTAL), 251.0);
}

#[test]
fn a_limit_that_is_used_up_is_waited_for_and_told() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    for id in 1..=5 {
        scene.hub.complete_unheard(&ended(id, 10), 503);
    }
    scene.hub.set_rate_limit(5000, 3, 3);
    let said = scene.recover(&[]);
    assert_eq!(said.done().counts("taken in"), 5, "{}", said.out);
    assert!(said.err.contains("GitHub's rate limit is reached: waiting until "), "{}", said.err);
    scene.assert_counted(5);
}

#[test]
fn secondary_limits_are_waited_for_and_passing_faults_tried_again() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.complete_unheard(&ended(1, 10), 503);
    let is_delivery = |asked: &Asked| asked.path.contains("/deliveries/");
    scene.hub.order(Order::Secondary(429, Some(1)), 1, is_delivery);
    scene.hub.order(Order::Status(502), 1, is_delivery);
    scene.hub.order(Order::Reset, 1, is_delivery);
    let said = scene.recover(&[]);
    assert_eq!(said.done().counts("taken in"), 1, "{}", said.out);
    assert!(said.err.contains("GitHub's rate limit is reached: waiting until "), "{}", said.err);
    assert!(said.err.contains(": 502 ") && said.err.contains("trying again"), "{}", said.err);
    scene.assert_counted(1);
}

#[test]
fn what_is_odd_with_one_delivery_keeps_no_other_from_being_taken_in() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    let first = scene.hub.complete_unheard(&ended(1, 10), 503).remove(0);
    scene.hub.complete_unheard(&ended(2, 10), 503);
    scene.hub.order(
        Order::Text(200, r#"{"request": {"headers": {}, "payload": null}}"#.to_owned()),
        1,
        move |asked: &Asked| asked.path.ends_with(&format!("/deliveries/{}", first.id)),
    );
    let said = scene.recover(&[]);
    said.failed("1 could not be taken in", "run it again");
    assert!(said.counts("taken in") == 1 && said.out.contains("GitHub has kept no payload of it"), "{}", said.out);
    scene.assert_counted(1);
}

#[test]
fn told_to_stop_it_pushes_what_it_has_taken_in_and_says_so() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    for id in 1..=3 {
        scene.hub.complete_unheard(&ended(id, 10), 503);
    }
    let last = scene.hub.deliveries().iter().map(|delivery| delivery.id).max().unwrap();
    scene.hub.order(Order::Hang, 1, move |asked: &Asked| asked.path.ends_with(&format!("/deliveries/{last}")));
    let mut command = scene.command(&["recover", "--repository", REPOSITORY]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    scene.hub.wait_until(
        |state| state.requests().iter().any(|asked| asked.path.ends_with(&format!("/deliveries/{last}"))),
        PATIENCE,
    );
    signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("runhound: interrupted\nhint: run it again"), "{err}");
    assert!(out.contains("taken in       2") && out.contains("pending        0"), "{out}");
    scene.assert_counted(2);
    assert_eq!(scene.recover(&[]).done().counts("taken in"), 1);
    scene.assert_counted(3);
}

#[test]
fn files_of_another_service_that_nobody_has_named_are_not_looked_at() {
    let scene = Scene::new();
    let service = scene.service();
    scene.hub.complete_silently(&ended(1, 10));
    let elsewhere = scene.dir.path().join("elsewhere");
    std::fs::create_dir_all(elsewhere.join("cache")).unwrap();
    std::fs::write(elsewhere.join("cache/sent-workflows.json"), r#"{"sent": ["1"]}"#).unwrap();
    let mut command =
        scene.command(&["backfill", "--repository", REPOSITORY, "--since", "1h", "--to", &webhook(&service)]);
    let said = said(command.env_remove("RUNHOUND_CACHE_DIR").current_dir(&elsewhere));
    assert_eq!(said.done().counts("taken in"), 1, "{}", said.out);
    service.stop();
}

#[test]
fn an_app_asks_with_tokens_of_its_installation_and_renews_them() {
    let scene = Scene::new();
    let app = scene.hub.install("acme-rockets", Rights::All);
    // Each of them is too old for a second request.
    scene.hub.set_token_lifetime(59);
    let key = scene.dir.path().join("app.pem");
    std::fs::write(&key, &app.private_key).unwrap();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.complete_unheard(&ended(1, 10), 503);
    let mut command = scene.command(&["recover", "--repository", REPOSITORY]);
    command
        .env_remove("GITHUB_TOKEN")
        .env("RUNHOUND_GITHUB_APP_ID", app.id.to_string())
        .env("RUNHOUND_GITHUB_APP_KEY", &key);
    assert_eq!(said(&mut command).done().counts("taken in"), 1);
    assert!(scene.hub.count(|asked| asked.path.ends_with("/access_tokens")) > 1);
    scene.assert_counted(1);
}

#[test]
fn each_thing_that_stands_in_the_way_is_named_with_what_to_do() {
    let scene = Scene::new();
    scene.recover(&[]).failed("acme-rockets/telemetry has no webhook for workflow_run", "runhound register");
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.recover(&["--hook", "77"]).failed("with the ID 77", "--hook");
    scene
        .run(&["recover", "--repository", "acme-rockets/no-such"])
        .failed("GitHub finds nothing there", "Webhooks: read");
    let as_if = |token: &str| said(scene.command(&["recover", "--repository", REPOSITORY]).env("GITHUB_TOKEN", token));
    let without_rights = scene.hub.token(Rights::ActionsRead);
    as_if(&without_rights).failed("GitHub finds nothing there", "admin:repo_hook");
    scene.hub.set_denial(Denial::Forbidden);
    as_if(&without_rights).failed("Resource not accessible", "admin:repo_hook");
    let wrong = as_if("ghp_hush");
    wrong.failed("does not know the token: 401 Bad credentials", "GITHUB_TOKEN");
    assert!(!format!("{wrong:?}").contains("hush"));
    let none = said(scene.command(&["recover", "--repository", REPOSITORY]).env_remove("GITHUB_TOKEN"));
    none.failed("no GitHub token", "GITHUB_TOKEN_FILE");
    let to_nobody = scene.recover(&["--to", &nowhere()]);
    assert_eq!(to_nobody.done().counts("taken in"), 0, "there is nothing to send");
    scene.hub.complete_unheard(&ended(1, 10), 503);
    scene.recover(&["--to", &nowhere()]).failed("no answer from", "start the receiver");
}

#[test]
fn what_datadog_has_not_taken_in_time_is_kept_and_told() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.complete_unheard(&ended(1, 10), 503);
    scene.intake.set_policy(|_| intake::Order::status(503));
    scene.recover(&["--timeout", "1"]).failed("1 runs are pending", "kept in the ledger");
    scene.intake.recover();
    assert_eq!(scene.recover(&[]).done().counts("pushed"), 1);
    scene.assert_counted(1);
}

#[test]
fn a_dry_run_takes_in_and_pushes_nothing() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.complete_unheard(&ended(1, 10), 503);
    let said = scene.recover(&["--dry-run"]);
    assert_eq!((said.done().counts("taken in"), said.counts("pushed")), (1, 1));
    assert_eq!(scene.intake.requests().len(), 0);
    assert!(!has_files(&scene.cache_dir()) && scene.cache_dir().join("payloads-dry-run.jsonl").exists());
}

#[test]
fn other_events_of_the_webhook_are_nobodys_loss() {
    let scene = Scene::new();
    let config = crate::hub::Config {
        url: nowhere(),
        content_type: "form".to_owned(),
        secret: None,
        insecure_ssl: "0".to_owned(),
    };
    scene.hub.hook_of(REPOSITORY, config, &["*"]);
    scene.hub.deliver(REPOSITORY, "push", &json!({"ref": "refs/heads/main"}));
    scene.hub.complete(&ended(1, 10));
    assert_eq!(scene.recover(&[]).done().counts("taken in"), 1, "a form holds the same payload");
    scene.assert_counted(1);
}
