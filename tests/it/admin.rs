//! The admin listener: what an operator, an orchestrator and Prometheus see.

use crate::{
    faults::mount::Mount,
    github::workflow_run,
    harness::{Service, Start, now},
    intake::{Intake, Order},
};
use runhound::admin::{METRICS, Reason};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
};
use tempfile::TempDir;

fn dry_run() -> (TempDir, Service) {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).with_admin().start();
    (dir, service)
}

/// The samples of `/metrics` by name and labels.
fn samples(service: &Service) -> Vec<(String, f64)> {
    let (answer, text) = service.ask("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{answer:?}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[track_caller]
fn sample(service: &Service, name: &str) -> f64 {
    let samples = samples(service);
    let found = samples.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {name} in {samples:#?}")).1
}

fn reasons(status: &Value) -> Vec<&str> {
    let troubles = status["troubles"].as_array().unwrap().iter();
    troubles.map(|trouble| trouble["reason"].as_str().unwrap()).collect()
}

#[test]
fn the_admin_listener_serves_what_the_design_lists_and_the_public_one_serves_none_of_it() {
    let (_dir, service) = dry_run();
    for path in ["/", "/healthz", "/readyz", "/status.json", "/metrics"] {
        let (answer, _) = service.ask(path);
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{path}");
        let public = service.request("GET", path, &[], b"").status;
        assert_eq!(public, if path == "/healthz" { 200 } else { 404 }, "{path}");
    }
    assert_eq!(service.ask("/readyz").0.says(), "ready");
    for path in ["/webhook", "/nothing", "/metrics/"] {
        assert_eq!(service.ask(path).0.status, 404, "{path}");
    }
}

#[test]
fn only_get_and_head_are_answered() {
    let (_dir, service) = dry_run();
    for path in ["/", "/healthz", "/readyz", "/status.json", "/metrics"] {
        for (method, status) in [("HEAD", 200), ("POST", 405), ("DELETE", 405)] {
            let answer = service.request_page(method, path);
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"), "{method} {path}");
        }
    }
}

#[test]
fn an_admin_listener_that_is_off_is_not_there_and_one_that_cannot_be_had_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = Start::dry_run(dir.path()).start().stop();
    assert!(!log.iter().any(|line| line.contains("status page")), "{log:#?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = Start::dry_run(dir.path()).with_admin_at("nowhere").command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let start = Start::dry_run(dir.path()).with_admin_at(&address.to_string());
    let output = start.command().output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("runhound: --admin-listen {address}")) && error.contains("\nhint: "), "{error}");
}

#[test]
fn the_status_tells_what_came_in_and_what_went_out() {
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    let service = Start::live(dir.path(), &intake).with_admin().start();
    let status = service.status();
    assert_eq!((&status["mode"], &status["target"]), (&json!("live"), &json!(intake.url())));
    assert_eq!((&status["last_delivery_at"], &status["last_push_at"]), (&Value::Null, &Value::Null));
    let run = workflow_run(7).started_at(now() - 61).updated_at(now());
    service.deliver(&run);
    service.deliver(&run);
    service.deliver(&workflow_run(8).action("requested"));
    service.request("POST", "/webhook", &[], b"{}");
    service.wait_for_pushes(1);
    let status = service.wait_for_status(|status| status["pending"]["runs"] == 0);
    assert_eq!(status["deliveries"]["accepted"], 1);
    assert_eq!((&status["deliveries"]["duplicate"], &status["deliveries"]["ignored"]), (&json!(1), &json!(1)));
    assert_eq!(status["deliveries"]["not_signed"], 1);
    assert_eq!((&status["runs"]["pushed"], &status["points"], &status["known_ids"]), (&json!(1), &json!(4), &json!(1)));
    assert_eq!((&status["ready"], &status["degraded"], &status["troubles"]), (&json!(true), &json!(false), &json!([])));
    assert_eq!(status["series"], json!({"last_hour": 4, "last_30_days": 4}));
    let outcomes: Vec<&Value> = status["recent"].as_array().unwrap().iter().map(|row| &row["outcome"]).collect();
    assert_eq!(outcomes, ["ignored", "duplicate", "accepted"]);
    let row = &status["recent"][2];
    assert_eq!(
        (&row["run"], &row["repository"], &row["duration_ms"]),
        (&json!("7"), &json!("acme-rockets/telemetry"), &json!(61_000))
    );
    assert!(
        row["url"].as_str().unwrap().starts_with("https://github.com/acme-rockets/telemetry/actions/runs/"),
        "{row}"
    );
    assert_eq!(
        (&status["recent"][0]["reason"], &status["recent"][0]["repository"]),
        (&json!("action requested"), &json!("acme-rockets/telemetry"))
    );
    let answer = &status["answers"][0];
    assert_eq!(
        (&answer["request"], &answer["verdict"], &answer["status"]),
        (&json!("series"), &json!("taken"), &json!(202))
    );
    assert_eq!(status["history"][0]["succeeded"], 1);
    let files: BTreeSet<&str> =
        status["files"].as_array().unwrap().iter().map(|file| file["kind"].as_str().unwrap()).collect();
    assert!(files.is_superset(&BTreeSet::from(["journal", "cache"])), "{files:?}");
    assert_eq!(sample(&service, "runhound_deliveries_total{outcome=\"accepted\"}"), 1.0);
    assert_eq!(sample(&service, "runhound_accept_duration_seconds_count"), 1.0);
    assert_eq!(sample(&service, "runhound_journal_group_runs_sum"), 1.0);
    assert_eq!(sample(&service, "runhound_pushes_total{verdict=\"taken\"}"), 1.0);
    assert!(sample(&service, "runhound_file_bytes{file=\"journal\"}") > 0.0);
    assert_eq!(sample(&service, "runhound_dry_run"), 0.0);
}

#[test]
fn trouble_with_datadog_is_degraded_and_never_unready() {
    let intake = Intake::start();
    intake.set_policy(|_| Order::status(403));
    let dir = tempfile::tempdir().unwrap();
    let service = Start::live(dir.path(), &intake).with_admin().start();
    service.deliver(&workflow_run(1).started_at(now() - 61).updated_at(now()));
    let status = service.wait_for_status(|status| status["degraded"] == true);
    assert_eq!(reasons(&status), ["datadog_refuses"]);
    assert!(status["troubles"][0]["what"].as_str().unwrap().contains("403"), "{status:#}");
    assert!(status["troubles"][0]["hint"].as_str().unwrap().contains("DD_API_KEY"), "{status:#}");
    assert_eq!((&status["ready"], service.ask("/readyz").0.status), (&json!(true), 200));
    assert_eq!(sample(&service, "runhound_degraded{reason=\"datadog_refuses\"}"), 1.0);
    assert_eq!(sample(&service, "runhound_degraded{reason=\"datadog_silent\"}"), 0.0);
    assert_eq!(sample(&service, "runhound_pending_runs"), 1.0);
    let (_, text) = service.ask("/status.json");
    assert!(!text.contains(crate::intake::TEST_KEY) && !text.contains(crate::harness::SECRET), "{text}");
}

#[test]
fn a_run_waits_from_its_acceptance_on_however_old_it_is() {
    let intake = Intake::stopped();
    let dir = tempfile::tempdir().unwrap();
    let launch = Start::live(dir.path(), &intake).with_admin();
    let service = launch.start();
    service.deliver(&workflow_run(1).started_at(now() - 400_061).updated_at(now() - 400_000));
    let age = |service: &Service| service.status()["pending"]["oldest_age_seconds"].as_i64().unwrap();
    assert!((0..300).contains(&age(&service)), "{}", age(&service));
    assert!(!reasons(&service.status()).contains(&"backlog_old"));
    service.stop();
    let service = launch.start();
    assert!(age(&service) >= 400_000, "by its end, for an earlier process accepted it");
    assert!(reasons(&service.status()).contains(&"backlog_old"));
}

#[test]
fn a_service_that_cannot_journal_is_unready_and_ready_again_once_it_can_without_a_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).with_admin().start();
    service.deliver(&workflow_run(1));
    service.wait_for_status(|status| status["pending"]["runs"] == 0);
    let Some(read_only) = Mount::over(dir.path(), "ro") else { return };
    // The next delivery meets a journal that is no longer the one it was.
    assert_eq!(service.deliver(&workflow_run(2)).status, 503);
    let (answer, _) = service.ask("/readyz");
    assert_eq!((answer.status, answer.says()), (503, "unready"), "{answer:?}");
    assert!(answer.body["reason"].as_str().unwrap().contains("journal cannot be written"), "{answer:?}");
    assert_eq!(service.ask("/healthz").0.status, 200);
    assert_eq!(sample(&service, "runhound_ready"), 0.0);
    drop(read_only);
    let status = service.wait_for_status(|status| status["ready"] == true);
    assert_eq!(status["unready_reason"], Value::Null);
    assert_eq!(service.deliver(&workflow_run(2)).status, 202);
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let (_dir, service) = dry_run();
    service.deliver(&workflow_run(1));
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut promtool) = promtool else {
        assert!(std::env::var_os("CI").is_none(), "promtool is needed: it comes with Prometheus");
        println!("skipped: this test needs promtool, which comes with Prometheus");
        return;
    };
    promtool.stdin.take().unwrap().write_all(service.ask("/metrics").1.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn labels_are_of_closed_lists_whatever_comes_in() {
    let (_dir, service) = dry_run();
    let names = |service: &Service| samples(service).into_iter().map(|(name, _)| name).collect::<BTreeSet<String>>();
    let accept = |id: u64| assert_eq!(service.deliver(&workflow_run(id).workflow(&format!("w{id}"))).status, 202);
    accept(1);
    service.wait_for_status(|status| status["pending"]["runs"] == 0);
    let before = names(&service);
    (2..50).for_each(accept);
    service.wait_for_status(|status| status["pending"]["runs"] == 0);
    assert_eq!(names(&service), before);
    let families: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(families.len(), METRICS.len(), "a name twice");
    for name in Reason::ALL.map(Reason::name) {
        assert!(before.contains(&format!("runhound_degraded{{reason=\"{name}\"}}")), "{name}");
    }
}
