//! Jobs and steps: what is answered, what is counted, and what is told of it, by the real program.

use crate::{
    commands::text,
    github::{Step, workflow_job, workflow_run},
    harness::{Answer, Service, Start, now, program, sent},
    intake::{Intake, Order, TEST_KEY},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A dry run that counts jobs.
fn service(more: &[&str]) -> (TempDir, Service) {
    let dir = tempfile::tempdir().unwrap();
    let start = more.iter().fold(Start::dry_run(dir.path()).argument("--jobs"), |start, more| start.argument(more));
    let service = start.start();
    (dir, service)
}

#[track_caller]
fn assert_ignored(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, answer.says(), &answer.body["reason"]), (200, "ignored", &json!(reason)), "{answer:?}");
}

/// A metric of all tag sets with this tag.
fn sum(intake: &Intake, metric: &str, tag: &str) -> f64 {
    let name = format!("github.actions.{metric}");
    let stored = intake.stored().into_iter();
    stored
        .filter(|((metric, tags, _), _)| *metric == name && tags.iter().any(|known| known == tag))
        .map(|(_, value)| value)
        .sum()
}

#[test]
fn a_job_is_recorded_under_its_id_beside_a_run_of_the_same_one() {
    let (dir, service) = service(&[]);
    let answer = service.deliver(&workflow_job(7));
    assert_eq!((answer.status, &answer.body), (202, &json!({"status": "accepted", "id": "jobs/7"})));
    assert_eq!(service.deliver(&workflow_run(7)).status, 202);
    let answer = service.deliver(&workflow_job(7));
    assert_eq!((answer.status, &answer.body), (200, &json!({"status": "duplicate", "id": "jobs/7"})));
    service.stop();
    let mut marked = sent(&dir.path().join("sent-workflows-dry-run.json"));
    marked.sort_unstable();
    assert_eq!(marked, ["7", "jobs/7"]);
    let again = Start::dry_run(dir.path()).argument("--jobs").start();
    assert_eq!(again.deliver(&workflow_job(7)).says(), "duplicate");
}

#[test]
fn without_the_flag_a_job_is_another_event() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    assert_ignored(&service.deliver(&workflow_job(7)), "event workflow_job");
    service.stop();
    let service = Start::dry_run(dir.path()).variable("RUNHOUND_JOBS", "true").start();
    assert_eq!(service.deliver(&workflow_job(7)).status, 202, "it had no place");
}

#[test]
fn a_job_that_has_not_ended_or_not_run_again_takes_no_place() {
    let (dir, service) = service(&[]);
    for action in ["queued", "waiting", "in_progress"] {
        assert_ignored(&service.deliver(&workflow_job(7).action(action)), &format!("action {action}"));
    }
    let end = now() - 60;
    let first = workflow_job(7).run(1).created_at(end - 60).started_at(end - 50).completed_at(end);
    assert_eq!(service.deliver(&first).status, 202);
    let copy = |id| workflow_job(id).run(1).attempt(2).started_at(end - 50).completed_at(end);
    assert_ignored(&service.deliver(&copy(8).created_at(end + 30)), "job did not run again");
    assert_eq!(service.deliver(&copy(7).created_at(end - 60)).says(), "duplicate");
    assert_ignored(&service.deliver(&copy(10).created_at(end - 60)), "job did not run again");
    let again = workflow_job(9).run(1).attempt(2).created_at(end + 30).started_at(end + 40).completed_at(end + 50);
    assert_eq!(service.deliver(&again).status, 202);
    service.stop();
    let marked = sent(&dir.path().join("sent-workflows-dry-run.json"));
    assert_eq!(marked, ["jobs/7", "jobs/9"]);
}

#[test]
fn a_job_without_a_job_is_kept_for_people() {
    let (dir, service) = service(&[]);
    let body = r#"{"action":"completed","workflow_job":null,"repository":{"name":"w"}}"#;
    let answer = service.post(body, &[("X-GitHub-Event", "workflow_job")]);
    assert_ignored(&answer, "no workflow_job");
    service.stop();
    let kept = std::fs::read_to_string(dir.path().join("rejected-dry-run.jsonl")).unwrap();
    assert!(kept.contains("no workflow_job") && kept.contains(r#""X-GitHub-Event":"workflow_job""#), "{kept}");
}

#[test]
fn where_reruns_are_dropped_their_jobs_are_too() {
    let (_dir, service) = service(&["--reruns=drop"]);
    assert_eq!(service.deliver(&workflow_job(7)).status, 202);
    let end = now() - 5;
    let again = workflow_job(9).attempt(2).created_at(end - 60).started_at(end - 50).completed_at(end);
    assert_ignored(&service.deliver(&again), "job of a re-run");
}

#[test]
fn steps_without_jobs_are_a_usage_error() {
    for command in [&["serve", "--steps"][..], &["replay", "fixtures", "--steps"], &["metrics", "--steps"]] {
        let (status, _, err) = text(&program(command).output().unwrap());
        assert_eq!(status, Some(2), "{err}");
        assert!(err.contains("--steps needs --jobs"), "{err}");
    }
    let usual = program(&["metrics"]).env("RUNHOUND_STEPS", "false").output().unwrap();
    assert_eq!(usual.status.code(), Some(0));
}

#[test]
fn the_fixtures_of_jobs_are_counted_to_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let replay = |more: &[&str]| {
        let cache_dir = format!("--cache-dir={}", dir.path().display());
        let mut command = program(&[&["replay", "fixtures", "--live", "--jobs", &cache_dir], more].concat());
        text(&command.env("DD_API_KEY", TEST_KEY).env("DD_URL", intake.url()).output().unwrap())
    };
    let (status, out, err) = replay(&["--steps"]);
    assert_eq!(status, Some(0), "{err}");
    for line in
        ["accepted      27", "duplicate      3", "ignored        8", "pushed        27", "1 × job did not run again"]
    {
        assert!(out.contains(line), "{line}: {out}");
    }
    let total = |metric: &str| intake.count(&format!("github.actions.{metric}"));
    assert_eq!((total("workflow_run.total"), total("job.total")), (18.0, 9.0));
    for (conclusion, jobs, steps) in
        [("success", 6.0, 48.0), ("failure", 1.0, 1.0), ("skipped", 1.0, 4.0), ("cancelled", 1.0, 0.0)]
    {
        assert_eq!(total(&format!("job.conclusion.{conclusion}_total")), jobs, "{conclusion}");
        assert_eq!(total(&format!("step.conclusion.{conclusion}_total")), steps, "{conclusion}");
    }
    assert_eq!((total("job.queued_duration_second_total"), total("job.duration_second_total")), (1612.0, 3730.0));
    assert_eq!((total("step.total"), total("step.duration_second_total")), (53.0, 3713.0));
    // The two jobs of a matrix are one, on two kinds of runners.
    assert_eq!(sum(&intake, "job.total", "job_name:build"), 2.0);
    assert_eq!(sum(&intake, "job.queued_duration_second_total", "runs_on:windows-2025"), 44.0);
    assert_eq!(sum(&intake, "job.queued_duration_second_total", "runs_on:gpu_linux_self-hosted"), 1550.0);
    assert_eq!(sum(&intake, "job.total", "job_name:deploy_/_smoke_test"), 1.0);
    assert_eq!(sum(&intake, "job.total", "runner_group:test_stand"), 2.0);
    let (_, out, _) = replay(&[]);
    assert!(out.contains("accepted       0") && out.contains("duplicate     30"), "{out}");
    assert_eq!(intake.overwritten(), []);
    intake.assert_contract();
}

#[test]
fn a_matrix_is_unfolded_where_that_is_asked_for() {
    for (more, names) in
        [(&["--fold-matrix=false"][..], &["test_a", "test_b"][..]), (&["--fold-matrix"], &["test"]), (&[], &["test"])]
    {
        let intake = Intake::start();
        let dir = tempfile::tempdir().unwrap();
        let start =
            more.iter().fold(Start::live(dir.path(), &intake).argument("--jobs"), |start, more| start.argument(more));
        let service = start.start();
        for (id, value) in [(1, "a"), (2, "b")] {
            service.deliver(&workflow_job(id).name(&format!("test ({value})")));
        }
        service.wait_for_pushes(2);
        service.stop();
        for name in names {
            let expected = if names.len() == 1 { 2.0 } else { 1.0 };
            assert_eq!(sum(&intake, "job.total", &format!("job_name:{name}")), expected, "{more:?}");
        }
    }
}

#[test]
fn jobs_of_one_second_with_the_same_steps_in_different_company_lose_none() {
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    // The first pushes fail, so that all of them are sealed together.
    intake.order_many([Order::status(503), Order::status(503)]);
    let service = Start::live(dir.path(), &intake).argument("--jobs").argument("--steps").start();
    let end = now() - 120;
    let step = |name: &str, conclusion: &str| Step::new(name, conclusion, [end - 20, end - 10]);
    let job = |id: u64, conclusion: &str, steps: &[Step]| {
        let job = workflow_job(id).conclusion(Some(conclusion)).created_at(end - 30).started_at(end - 22);
        job.completed_at(end).steps(steps)
    };
    let build = step("Build", "success");
    for id in 1..=40 {
        let (conclusion, steps) = match id % 4 {
            0 => ("failure", vec![build.clone(), step("Test", "failure")]),
            1 => ("success", vec![build.clone()]),
            2 => ("success", vec![build.clone(), step("Test", "success")]),
            _ => ("cancelled", vec![build.clone(), build.clone()]),
        };
        assert_eq!(service.deliver(&job(id, conclusion, &steps)).status, 202);
    }
    service.wait_for_pushes(40);
    service.stop();
    let total = |metric: &str| intake.count(&format!("github.actions.{metric}"));
    assert_eq!(
        (total("job.total"), total("job.duration_second_total"), total("job.queued_duration_second_total")),
        (40.0, 880.0, 320.0)
    );
    assert_eq!(
        (sum(&intake, "step.total", "step_name:build"), sum(&intake, "step.total", "step_name:test")),
        (50.0, 20.0)
    );
    assert_eq!(total("step.duration_second_total"), 700.0);
    assert_eq!(intake.overwritten(), []);
    intake.assert_contract();
}

#[test]
fn a_job_that_datadog_refuses_for_good_is_kept_with_its_steps_and_replayed() {
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    intake.set_policy(
        |received| {
            if received.unpacked.contains("job_name:poison") { Order::status(400) } else { Order::Take }
        },
    );
    let service = Start::live(dir.path(), &intake).argument("--jobs").argument("--steps").start();
    let end = now() - 20;
    let job =
        |id: u64, name: &str| workflow_job(id).name(name).created_at(end - 60).started_at(end - 50).completed_at(end);
    service.deliver(&job(1, "poison"));
    service.wait_for_log("refused");
    service.deliver(&job(2, "good"));
    service.wait_for_log("rejected");
    service.stop();
    assert_eq!(sum(&intake, "job.total", "job_name:poison"), 0.0);
    intake.recover();
    let rejected = dir.path().join("rejected.jsonl");
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    let rejected = rejected.to_str().unwrap();
    let mut command = program(&["replay", rejected, "--live", "--jobs", "--steps", &cache_dir]);
    let (status, _, err) = text(&command.env("DD_API_KEY", TEST_KEY).env("DD_URL", intake.url()).output().unwrap());
    assert_eq!(status, Some(0), "{err}");
    for metric in [
        "job.total",
        "job.queued_duration_second_total",
        "job.duration_second_total",
        "step.total",
        "step.duration_second_total",
    ] {
        let of = |name: &str| sum(&intake, metric, &format!("job_name:{name}"));
        assert_eq!(of("poison"), of("good"), "{metric}");
        assert!(of("good") > 0.0, "{metric}");
    }
}

#[test]
fn odd_times_and_jobs_are_told_to_operators() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).argument("--jobs").with_admin().start();
    let end = now() - 5;
    let job = workflow_job(7).name("test (a)").created_at(end - 40).started_at(end - 50).completed_at(end);
    service.deliver(&job);
    let line = service.wait_for_log("odd times");
    assert!(line.contains("jobs/7"), "{line}");
    service.deliver(&job);
    let (_, metrics) = service.ask("/metrics");
    assert!(metrics.contains("runhound_odd_times_total 1"), "a duplicate is not counted: {metrics}");
    let recent: Value = service.status()["recent"][0].clone();
    assert_eq!((&recent["job"], &recent["run"]), (&json!("test (a)"), &json!("jobs/7")));
    let (_, page) = service.ask("/");
    assert!(page.contains("CI / test"), "{page}");
}
