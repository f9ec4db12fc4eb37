//! `serve --recover-every`: in the background of the real service.

use super::*;
use serde_json::Value;

fn start(scene: &Scene, every: &str) -> Service {
    Start::live(&scene.cache_dir(), &scene.intake)
        .with_admin()
        .argument(&format!("--recover-every={every}"))
        .argument(&format!("--repository={REPOSITORY}"))
        .argument(&format!("--github-url={}", scene.hub.url()))
        .variable("GITHUB_TOKEN", &scene.token)
        .start()
}

fn filled(status: &Value) -> u64 {
    status["recovery"]["holes_filled"].as_u64().unwrap()
}

#[test]
fn holes_are_found_and_filled_at_the_start_and_from_then_on() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.complete_unheard(&ended(1, 60), 0);
    let service = start(&scene, "1s");
    service.wait_for_status(|status| filled(status) == 1);
    scene.hub.complete_unheard(&ended(2, 10), 503);
    scene.hub.complete_unheard(&ended(3, 10), 504);
    service.deliver(&ended(3, 10));
    let status =
        service.wait_for_status(|status| filled(status) == 2 && status["recovery"]["sweeps"].as_u64() > Some(4));
    assert_eq!(status["recovery"]["holes_found"], 2, "one that is recorded is no hole: {status:#}");
    assert!(status["recovery"]["last_sweep_at"].is_string());
    let fetched: Vec<&str> =
        status["recent"].as_array().unwrap().iter().map(|row| row["way"].as_str().unwrap()).collect();
    assert_eq!(fetched.iter().filter(|way| **way == "fetched").count(), 3, "{fetched:?}");
    // What was fetched once is not fetched again, and a log that has not changed costs nothing of the limit.
    assert_eq!(scene.hub.count(|asked| asked.path.contains("/deliveries/")), 3);
    assert!(scene.hub.count(|asked| asked.answered == Some(304)) > 0);
    let (_, metrics) = service.ask("/metrics");
    for line in [
        "runhound_recovery_holes_found_total 2",
        "runhound_recovery_holes_filled_total 2",
        "runhound_recovery_sweeps_total{result=\"failed\"} 0",
        "runhound_seconds_since_last_recovery_sweep ",
        "runhound_github_requests_remaining ",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let (_, page) = service.ask("/");
    assert!(page.contains("Recovery") && page.contains("last sweep") && page.contains("holes filled"), "{page}");
    service.wait_for_log("it is taken in");
    scene.intake.wait_until(|state| state.count(TOTAL) >= 3.0, crate::harness::PATIENCE);
    service.stop();
    scene.assert_counted(3);
}

#[test]
fn a_look_that_fails_is_told_and_the_next_one_makes_up_for_it() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    let token = scene.dir.path().join("token");
    std::fs::write(&token, "ghp_hush").unwrap();
    scene.hub.complete_unheard(&ended(1, 60), 0);
    let service = Start::live(&scene.cache_dir(), &scene.intake)
        .with_admin()
        .argument("--recover-every=1s")
        .argument(&format!("--repository={REPOSITORY}"))
        .argument(&format!("--github-url={}", scene.hub.url()))
        .variable("GITHUB_TOKEN_FILE", token.to_str().unwrap())
        .start();
    let status = service.wait_for_status(|status| status["recovery"]["failed_sweeps"].as_u64() > Some(0));
    assert!(
        status["troubles"].as_array().unwrap().iter().any(|trouble| trouble["reason"] == "recovery_fails"),
        "{status:#}"
    );
    assert_eq!(status["ready"], true);
    assert!(!status.to_string().contains("hush"));
    let line = service.wait_for_log("missing deliveries could not be looked for or taken in");
    assert!(line.contains("401 Bad credentials") && !line.contains("hush"), "{line}");
    std::fs::write(&token, &scene.token).unwrap();
    let status = service.wait_for_status(|status| filled(status) == 1);
    assert_eq!(status["recovery"]["error"], Value::Null);
    service.stop();
    scene.assert_counted(1);
}

#[test]
fn what_stands_in_the_way_at_one_place_keeps_no_other_from_being_healed() {
    let scene = Scene::new();
    scene.hub.repository("acme-rockets/without-a-webhook");
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.complete_unheard(&ended(1, 60), 0);
    let service = Start::live(&scene.cache_dir(), &scene.intake)
        .with_admin()
        .argument("--recover-every=1s")
        .argument("--repository=acme-rockets/without-a-webhook,acme-rockets/telemetry")
        .argument(&format!("--github-url={}", scene.hub.url()))
        .variable("GITHUB_TOKEN", &scene.token)
        .start();
    let status = service.wait_for_status(|status| filled(status) == 1 && status["recovery"]["error"].is_string());
    assert!(status["recovery"]["error"].as_str().unwrap().contains("without-a-webhook has no webhook"), "{status:#}");
    service.stop();
    scene.assert_counted(1);
}

#[test]
fn a_limit_is_waited_for_in_sight_and_a_stop_waits_for_nothing() {
    let scene = Scene::new();
    scene.hub.hook(REPOSITORY, &nowhere(), SECRET);
    scene.hub.set_rate_limit(5000, 0, 3000);
    let service = start(&scene, "1s");
    let status = service.wait_for_status(|status| status["recovery"]["waiting_until"].is_string());
    assert_eq!((&status["ready"], &status["recovery"]["requests_remaining"]), (&true.into(), &0.into()));
    assert!(service.ask("/").1.contains("rate limit reached"));
    assert_eq!(service.deliver(&ended(1, 5)).status, 202);
    service.stop();
    scene.assert_counted(1);
}

#[test]
fn without_the_flag_nobody_asks_github() {
    let scene = Scene::new();
    let service = Start::live(&scene.cache_dir(), &scene.intake).with_admin().start();
    assert_eq!(service.status()["recovery"], Value::Null);
    assert!(!service.ask("/metrics").1.contains("runhound_recovery_sweeps_total{"));
    assert_eq!(scene.hub.requests().len(), 0);
    service.stop();
}
