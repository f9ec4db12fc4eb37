//! Jobs that GitHub did not deliver, told of twice, or told of again without having run them: each counted once, exactly.

use super::*;
use crate::{
    github::{CopiedId, JobBuilder, Step, workflow_job},
    hub::Config,
};
use serde_json::Value;
use std::collections::BTreeMap;

const RUN: u64 = 22_640_158_713;
const JOBS: u64 = 30;

/// A webhook for these events that nobody answers.
fn unanswered_hook(scene: &Scene, events: &[&str]) {
    let (content_type, insecure_ssl) = ("json".to_owned(), "0".to_owned());
    let config = Config { url: nowhere(), content_type, secret: Some(SECRET.to_owned()), insecure_ssl };
    scene.hub.hook_of(REPOSITORY, config, events);
}

/// A delivery of anything.
enum Told {
    Run(RunBuilder),
    Job(JobBuilder),
}

impl Told {
    fn deliver(&self, service: &Service) {
        let answer = match self {
            Self::Run(run) => service.deliver(run),
            Self::Job(job) => service.deliver(job),
        };
        assert!([200, 202].contains(&answer.status), "{answer:?}");
    }

    /// It is tried, and nobody answers.
    fn fail(&self, scene: &Scene) {
        match self {
            Self::Run(run) => scene.hub.complete_unheard(run, 0),
            Self::Job(job) => scene.hub.complete_unheard(job, 504),
        };
    }
}

/// What has run of a job: how often, and for how long in all it waited, ran, and did its steps.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Sums {
    jobs: f64,
    queued_s: f64,
    duration_s: f64,
    steps: f64,
    steps_s: f64,
}

/// By the payload that GitHub would send of a job that ran.
fn add(sums: &mut BTreeMap<String, Sums>, job: &JobBuilder) {
    let payload: Value = serde_json::from_str(&job.body()).unwrap();
    let job = &payload["workflow_job"];
    let second = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let between = |from: &Value, to: &Value| f64::from(i32::try_from(second(to) - second(from)).unwrap());
    let sums = sums.entry(job["name"].as_str().unwrap().replace(' ', "_")).or_default();
    sums.jobs += 1.0;
    sums.queued_s += between(&job["created_at"], &job["started_at"]);
    sums.duration_s += between(&job["started_at"], &job["completed_at"]);
    for step in job["steps"].as_array().unwrap() {
        sums.steps += 1.0;
        sums.steps_s += between(&step["started_at"], &step["completed_at"]);
    }
}

/// What the intake has stored.
fn stored(scene: &Scene) -> BTreeMap<String, Sums> {
    let mut all: BTreeMap<String, Sums> = BTreeMap::new();
    for ((metric, tags, _), value) in scene.intake.stored() {
        let Some(name) = tags.iter().find_map(|tag| tag.strip_prefix("job_name:")) else { continue };
        let sums = all.entry(name.to_owned()).or_default();
        match metric.strip_prefix("github.actions.").unwrap() {
            "job.total" => sums.jobs += value,
            "job.queued_duration_second_total" => sums.queued_s += value,
            "job.duration_second_total" => sums.duration_s += value,
            "step.total" => sums.steps += value,
            "step.duration_second_total" => sums.steps_s += value,
            _ => {}
        }
    }
    all
}

/// The first attempt: six of its jobs fail. No two wait or run for as long.
fn first_attempt(start: i64) -> crate::github::AttemptBuilder {
    let job = |number: u64| {
        let offset = i64::try_from(number).unwrap();
        let (from, to) = (start + 3 + offset, start + 60 + 2 * offset);
        let failed = number.is_multiple_of(5);
        let conclusion = if failed { "failure" } else { "success" };
        let steps = [Step::new("Build", "success", [from, from + 20]), Step::new("Test", conclusion, [from + 20, to])];
        let job = workflow_job(1000 + number).name(&format!("job {number}")).labels(&["self-hosted", "linux"]);
        job.created_at(start).started_at(from).completed_at(to).conclusion(Some(conclusion)).steps(&steps)
    };
    let jobs: Vec<JobBuilder> = (1..=JOBS).map(job).collect();
    workflow_run(RUN).started_at(start).updated_at(start + 125).with_jobs(&jobs)
}

/// Those that GitHub tells of though they did not run, with the ID they had.
fn told_again(attempt: &crate::github::AttemptBuilder, ids: &[u64]) -> Vec<JobBuilder> {
    attempt.jobs().iter().filter(|job| ids.contains(&job.id())).cloned().collect()
}

#[test]
fn each_job_is_counted_as_often_as_it_ran_in_whatever_order_it_is_told_of() {
    let scene = Scene::new();
    unanswered_hook(&scene, &["workflow_job", "workflow_run"]);
    let start = now() - 1500;
    let mut attempts = vec![first_attempt(start)];
    let mut extra = Vec::new();
    scene.hub.complete_silently(&attempts[0]);
    for (again_at, still_failing) in [(start + 300, &["job 5", "job 10"][..]), (start + 700, &[])] {
        let ends = |job: JobBuilder| {
            let fails = still_failing.iter().any(|name| job.is_called(name));
            let conclusion = if fails { "failure" } else { "success" };
            job.conclusion(Some(conclusion))
        };
        let ids: Vec<u64> = attempts[attempts.len() - 1].jobs().iter().map(JobBuilder::id).collect();
        scene.hub.set_copied_id(CopiedId::Old);
        extra.extend(told_again(&scene.hub.failed_jobs_again(RUN, again_at, ends), &ids));
        scene.hub.set_copied_id(CopiedId::Fresh);
        let again = scene.hub.failed_jobs_again(RUN, again_at, ends);
        scene.hub.complete_silently(&again);
        attempts.push(again);
    }
    // What ran: all at first, then those that had failed. The rest of the later attempts are copies.
    let mut ran: BTreeMap<String, Sums> = BTreeMap::new();
    attempts[0].jobs().iter().for_each(|job| add(&mut ran, job));
    for (attempt, names) in
        [(1, &["job 5", "job 10", "job 15", "job 20", "job 25", "job 30"][..]), (2, &["job 5", "job 10"])]
    {
        let again: Vec<&JobBuilder> =
            attempts[attempt].jobs().iter().filter(|job| names.iter().any(|name| job.is_called(name))).collect();
        assert_eq!(again.len(), names.len());
        for job in again {
            add(&mut ran, job);
        }
    }
    assert_eq!(ran.values().map(|sums| sums.jobs).sum::<f64>(), 38.0);
    let mut told: Vec<Told> = extra.into_iter().map(Told::Job).collect();
    for attempt in &attempts {
        told.push(Told::Run(attempt.run().clone()));
        told.extend(attempt.jobs().iter().cloned().map(Told::Job));
    }
    let mut random = fastrand::Rng::with_seed(10);
    random.shuffle(&mut told);
    let service = Start::live(&scene.cache_dir(), &scene.intake).argument("--jobs").argument("--steps").start();
    for (number, told) in told.iter().enumerate() {
        match number % 5 {
            // GitHub never tries.
            0 => {}
            // Nobody answers.
            1 => told.fail(&scene),
            // It comes twice.
            2 => {
                told.deliver(&service);
                told.deliver(&service);
            }
            _ => told.deliver(&service),
        }
    }
    service.stop();
    assert_ne!(stored(&scene), ran, "something was lost");
    let recovered = scene.recover(&["--jobs", "--steps"]);
    assert!(recovered.done().counts("taken in") > 0, "{}", recovered.out);
    let filled = scene.backfill(&["--jobs", "--steps"]);
    assert!(filled.done().counts("taken in") > 0, "{}", filled.out);
    assert_eq!(scene.backfill(&["--jobs", "--steps"]).done().counts("taken in"), 0);
    assert_eq!(scene.recover(&["--jobs", "--steps", "--all"]).done().counts("taken in"), 0);
    assert_eq!(stored(&scene), ran);
    scene.assert_counted(3);
    let mut sent = scene.sent();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 38 + 3);
}

#[test]
fn without_the_flag_jobs_are_neither_recovered_nor_asked_for() {
    let scene = Scene::new();
    unanswered_hook(&scene, &["workflow_job", "workflow_run"]);
    scene.hub.complete_unheard(&first_attempt(now() - 600), 0);
    assert_eq!(scene.recover(&[]).done().counts("taken in"), 1);
    assert_eq!(scene.backfill(&[]).done().counts("taken in"), 0);
    assert_eq!(scene.hub.count(|asked| asked.path.contains("/jobs")), 0);
    // The run is recorded; its jobs are not.
    let plan = scene.backfill(&["--jobs", "--plan"]);
    assert!(plan.done().out.contains("30 are missing; nothing was taken in"), "{}", plan.out);
    assert_eq!(scene.backfill(&["--jobs"]).done().counts("taken in"), 30);
    assert_eq!(scene.backfill(&["--jobs"]).done().counts("known"), 31);
    scene.assert_counted(1);
}

#[test]
fn the_tags_of_a_job_that_was_listed_are_those_of_its_delivery() {
    let scene = Scene::new();
    let attempt = first_attempt(now() - 600);
    scene.hub.complete_silently(&attempt);
    let service = Start::live(&scene.cache_dir(), &scene.intake).argument("--jobs").start();
    for job in &attempt.jobs()[..5] {
        service.deliver(job);
    }
    service.stop();
    scene.backfill(&["--jobs"]).done();
    let of_jobs = scene.intake.stored().into_keys().filter(|(metric, ..)| metric == "github.actions.job.total");
    let others: Vec<Vec<String>> = of_jobs
        .map(|(_, tags, _)| tags.into_iter().filter(|tag| !tag.starts_with("job_name:")).collect::<Vec<String>>())
        .filter(|tags| tags.contains(&"conclusion:success".to_owned()))
        .collect();
    assert!(others.len() >= 24 && others.iter().all(|tags| *tags == others[0]), "{others:#?}");
}

#[test]
fn a_sweep_finds_jobs_too() {
    let scene = Scene::new();
    unanswered_hook(&scene, &["workflow_job"]);
    scene.hub.complete_unheard(&first_attempt(now() - 600), 0);
    let service = Start::live(&scene.cache_dir(), &scene.intake)
        .with_admin()
        .argument("--jobs")
        .argument("--recover-every=1s")
        .argument(&format!("--repository={REPOSITORY}"))
        .argument(&format!("--github-url={}", scene.hub.url()))
        .variable("GITHUB_TOKEN", &scene.token)
        .start();
    service.wait_for_log("no webhook delivers workflow_run");
    service.wait_for_status(|status| status["recovery"]["holes_filled"] == 30);
    service.stop();
}

#[test]
fn a_webhook_is_made_for_jobs_where_that_is_asked_for() {
    let scene = Scene::new();
    let service = Start::live(&scene.cache_dir(), &scene.intake).argument("--jobs").start();
    let url = webhook(&service);
    let register =
        |more: &[&str]| scene.run(&[&["register", "--repository", REPOSITORY, "--url", &url], more].concat());
    register(&[]).done();
    assert!(register(&["--jobs"]).done().out.contains("will add the event workflow_job"));
    assert_eq!(scene.hub.hooks()[0].events, ["workflow_job", "workflow_run"]);
    assert!(register(&["--jobs"]).done().out.contains("the webhook is as it should be"));
    assert!(register(&[]).done().out.contains("the webhook is as it should be"), "another's event stays");
    let delivered = scene.hub.complete(&first_attempt(now() - 600));
    assert!(delivered.len() == 31 && delivered.iter().all(|delivery| delivery.status_code == 202), "{delivered:?}");
}

/// A run of one job, which GitHub never tells of.
fn silent(scene: &Scene, run: u64, attempt: u32, job: JobBuilder) {
    if attempt > 1 {
        scene.hub.complete_silently(&ended(run, 1200));
    }
    let builder = ended(run, 600).attempt(attempt);
    scene.hub.complete_silently(&builder.with_jobs(&[job]));
}

#[test]
fn a_skipped_job_that_seems_to_have_ended_before_its_run_began_is_listed_as_it_would_have_been_delivered() {
    let scene = Scene::new();
    let start = now() - 660;
    let skipped = |id: u64, ended: i64| {
        let job = workflow_job(id).conclusion(Some("skipped")).without_runner().steps(&[]);
        job.created_at(start).started_at(start).completed_at(ended)
    };
    silent(&scene, 1, 1, skipped(71, start - 1));
    silent(&scene, 2, 2, skipped(72, start - 1));
    silent(&scene, 3, 2, skipped(73, start - 60));
    scene.backfill(&["--jobs"]).done();
    let mut jobs: Vec<String> = scene.sent().into_iter().filter(|key| key.starts_with("jobs/7")).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, ["jobs/71", "jobs/72"], "the third was skipped in the first attempt");
}

#[test]
fn a_look_at_jobs_that_fails_is_told_where_nothing_is_taken_in_too() {
    let scene = Scene::new();
    silent(&scene, 1, 1, workflow_job(71));
    scene.hub.order(crate::hub::Order::Text(200, "[]".to_owned()), 1, |asked| asked.path.ends_with("/jobs"));
    let plan = scene.backfill(&["--jobs", "--plan"]);
    plan.failed("1 could not be taken in", "run it again");
    assert!(plan.out.contains("run 1: "), "{}", plan.out);
    assert!(scene.backfill(&["--jobs", "--plan"]).done().out.contains("2 are missing"));
}

#[test]
fn late_jobs_are_told_and_left_out_as_late_runs_are() {
    let scene = Scene::new();
    let hours_ago = now() - 2 * 3600;
    let late = workflow_run(1).started_at(hours_ago).updated_at(hours_ago + 60);
    scene.hub.complete_silently(&late.with_jobs(&[workflow_job(71)]));
    silent(&scene, 2, 1, workflow_job(72));
    assert_eq!(scene.backfill(&[]).done().counts("taken in"), 2);
    let plan = scene.backfill(&["--jobs", "--plan", "--late", "skip"]);
    assert!(
        plan.done().out.contains("at least 1 attempts, with what is missing of them, ended more than an hour ago"),
        "{}",
        plan.out
    );
    assert!(plan.out.contains("1 are missing"), "{}", plan.out);
    assert_eq!(scene.backfill(&["--jobs", "--late", "skip"]).done().counts("taken in"), 1);
    assert_eq!(scene.backfill(&["--jobs"]).done().counts("taken in"), 1);
}

#[test]
fn where_reruns_are_dropped_their_jobs_are_not_missing() {
    let scene = Scene::new();
    silent(&scene, 1, 1, workflow_job(71));
    scene.hub.complete_silently(&ended(1, 600).attempt(2).with_jobs(&[workflow_job(72)]));
    let dropping = ["--jobs", "--reruns", "drop"];
    assert_eq!(scene.backfill(&dropping).done().counts("taken in"), 2);
    let plan = scene.backfill(&[&dropping[..], &["--plan"]].concat());
    assert!(plan.done().out.contains("0 are missing"), "{}", plan.out);
    assert_eq!(scene.backfill(&["--jobs"]).done().counts("taken in"), 2, "the run's second attempt and its job");
}

#[test]
fn jobs_that_have_ended_in_a_run_that_has_not_are_listed_too() {
    let scene = Scene::new();
    let start = now() - 600;
    scene.hub.complete_silently(&ended(1, 500).action("in_progress"));
    let job = |id: u64| workflow_job(id).run(1).created_at(start).started_at(start).completed_at(start + 60);
    scene.hub.complete_silently(&job(71));
    scene.hub.complete_silently(&job(72).action("in_progress"));
    let filled = scene.backfill(&["--jobs"]);
    assert_eq!(filled.done().counts("taken in"), 1, "{}", filled.out);
    assert_eq!(scene.sent(), ["jobs/71"]);
}

#[test]
fn a_listed_copy_that_kept_the_time_at_which_it_was_made_is_left_out() {
    let scene = Scene::new();
    let start = now() - 1500;
    let attempt = first_attempt(start);
    scene.hub.complete_silently(&attempt);
    assert_eq!(scene.backfill(&["--jobs"]).done().counts("taken in"), 31);
    let again = scene.hub.failed_jobs_again(RUN, start + 300, |job| job);
    scene.hub.complete_silently(&again);
    let copy = again.jobs().iter().find(|job| job.is_called("job 1")).unwrap();
    // As if GitHub did not make it anew: no delivery could tell, and this process knows of none before it.
    scene.hub.complete_silently(&copy.clone().created_at(start));
    let filled = scene.backfill(&["--jobs"]);
    assert_eq!(filled.done().counts("taken in"), 6 + 1, "{}", filled.out);
    assert_eq!(stored(&scene)["job_1"].jobs, 1.0);
}

#[test]
fn late_jobs_of_a_run_that_ended_just_now_are_left_out_or_counted_at_their_own_time() {
    let scene = Scene::new();
    scene.intake.keep_history(true);
    let (start, end) = (now() - 7200, now() - 60);
    let job = |id: u64, from: i64, to: i64| workflow_job(id).created_at(from).started_at(from).completed_at(to);
    let jobs = [job(71, start, start + 600), job(72, start + 600, end - 5)];
    scene.hub.complete_silently(&workflow_run(1).started_at(start).updated_at(end).with_jobs(&jobs));
    let plan = scene.backfill(&["--jobs", "--plan", "--late", "skip"]);
    assert!(plan.done().out.contains("2 are missing"), "{}", plan.out);
    let skipped = scene.backfill(&["--jobs", "--late", "skip"]);
    assert_eq!((skipped.done().counts("taken in"), skipped.counts("left out")), (2, 1), "{}", skipped.out);
    assert_eq!(scene.backfill(&["--jobs", "--late", "historical"]).done().counts("taken in"), 1);
    let of_jobs: Vec<(bool, i64)> = scene
        .intake
        .stored()
        .into_keys()
        .filter(|(metric, ..)| metric == "github.actions.job.total")
        .map(|(_, tags, second)| (tags.iter().any(|tag| tag.starts_with("backfill:")), second))
        .collect();
    let own: Vec<i64> = of_jobs.iter().filter(|(is_historical, _)| *is_historical).map(|(_, second)| *second).collect();
    assert_eq!((own.as_slice(), of_jobs.len()), (&[start + 600][..], 2), "{of_jobs:?}");
}
