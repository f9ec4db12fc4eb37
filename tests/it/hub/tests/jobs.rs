//! That jobs are delivered, listed and run again as GitHub does it.

use super::*;
use crate::github::{self, Step, workflow_job};

const RUN: &str = "/repos/acme/web/actions/runs/7";
const STARTED_AT: i64 = 1_790_000_000;
const RERUN_AT: i64 = STARTED_AT + 9_000;

/// A hook of a repository with these events. Its ID.
fn hook(hub: &Hub, url: String, events: &[&str]) -> u64 {
    let secret = Some(SECRET.to_owned());
    let config = Config { url, content_type: "json".to_owned(), secret, insecure_ssl: "0".to_owned() };
    hub.hook_of("acme/web", config, events)
}

/// A run of five minutes with a build that succeeds, a test that does not, and a deployment that is skipped.
fn failed() -> AttemptBuilder {
    let at = |job: JobBuilder, [created, started, completed]: [i64; 3]| {
        job.created_at(STARTED_AT + created).started_at(STARTED_AT + started).completed_at(STARTED_AT + completed)
    };
    let build = at(workflow_job(71).name("build").labels(&["self-hosted", "linux"]), [1, 9, 109]);
    let steps = [
        Step::new("Test", "failure", [STARTED_AT + 118, STARTED_AT + 280]),
        Step::new("Upload", "skipped", [STARTED_AT + 280, STARTED_AT + 280]),
    ];
    let test = at(workflow_job(72).name("test (1)").conclusion(Some("failure")).steps(&steps), [110, 117, 290]);
    let deploy = at(workflow_job(73).name("deploy").conclusion(Some("skipped")).without_runner(), [291, 291, 291]);
    run(7).started_at(STARTED_AT).updated_at(STARTED_AT + 300).with_jobs(&[build, test, deploy])
}

/// The payloads of these requests, the event of each before it.
fn told(requests: &[Request]) -> Vec<(String, Value)> {
    let event = |request: &Request| request.header("x-github-event").unwrap().to_owned();
    requests.iter().map(|request| (event(request), serde_json::from_slice(&request.body).unwrap())).collect()
}

/// The jobs of those that are of jobs.
fn told_jobs(requests: &[Request]) -> Vec<Value> {
    let told = told(requests).into_iter().filter(|(event, _)| event == "workflow_job");
    told.map(|(_, payload)| payload["workflow_job"].clone()).collect()
}

/// A job without its addresses, of which a delivery has those of github.com.
fn plain(job: &Value) -> Value {
    let mut job = job.clone();
    job.as_object_mut().unwrap().retain(|field, _| !field.ends_with("url"));
    job
}

#[test]
fn each_job_is_delivered_signed_and_logged_before_its_run() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    let id = hook(&hub, receiver.url(), &["workflow_job", "workflow_run"]);
    let made = hub.complete(&failed());
    let requests = receiver.take();
    for request in &requests {
        assert_eq!(request.header("x-hub-signature-256"), Some(github::sign(SECRET, &request.body).as_str()));
    }
    let told = told(&requests);
    let events: Vec<&str> = told.iter().map(|(event, _)| event.as_str()).collect();
    assert_eq!(events, ["workflow_job", "workflow_job", "workflow_job", "workflow_run"]);
    let job = &told[1].1;
    assert_eq!((&job["workflow_job"]["id"], &job["workflow_job"]["run_id"]), (&json!(72), &json!(7)));
    assert_eq!((&job["action"], &job["workflow_job"]["conclusion"]), (&json!("completed"), &json!("failure")));
    assert_eq!(job["repository"], told[3].1["repository"]);
    assert_eq!(told[3].1["workflow_run"]["conclusion"], json!("failure"), "a run ends as its jobs do");
    assert_eq!(made, hub.deliveries());
    let log = Asking::of(&hub).get(&format!("{HOOKS}/{id}/deliveries")).body;
    assert_eq!(fields(&log, "event"), ["workflow_run", "workflow_job", "workflow_job", "workflow_job"]);
    let shown = Asking::of(&hub).get(&format!("{HOOKS}/{id}/deliveries/{}", made[0].id)).body;
    assert_eq!(shown["request"]["payload"]["workflow_job"]["name"], json!("build"));
    assert_eq!((&shown["event"], &shown["action"]), (&json!("workflow_job"), &json!("completed")));
}

#[test]
fn a_hook_delivers_jobs_only_if_it_is_subscribed_to_them() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    let runs = hook(&hub, format!("{}/runs", receiver.url()), &["workflow_run"]);
    let all = hook(&hub, format!("{}/all", receiver.url()), &["*"]);
    let hooks = |made: &[Delivery]| made.iter().map(|delivery| delivery.hook_id).collect::<Vec<_>>();
    assert_eq!(hooks(&hub.complete(&failed())), [all, all, all, runs, all]);
    let asking = Asking::of(&hub);
    let path = format!("{HOOKS}/{runs}");
    let changed = asking.ask("PATCH", &path, &json!({ "events": ["workflow_run", "workflow_job"] }));
    assert_eq!(changed.body["events"], json!(["workflow_job", "workflow_run"]));
    let body =
        json!({ "events": ["workflow_job"], "active": false, "config": { "url": "https://runhound.example.com/" } });
    assert_eq!(asking.ask("POST", HOOKS, &body).body["events"], json!(["workflow_job"]));
    assert_eq!(hooks(&hub.complete(&workflow_job(74).of(failed().run()))), [runs, all]);
}

#[test]
fn jobs_are_listed_as_they_are_delivered_with_the_servers_addresses() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hook(&hub, receiver.url(), &["workflow_job"]);
    // The second repository of a hub is not the recorded one.
    hub.repository("acme/api");
    hub.complete(&failed());
    let asking = Asking::of(&hub);
    let listed = asking.get(&format!("{RUN}/attempts/1/jobs")).body;
    assert_eq!(listed, asking.get(&format!("{RUN}/jobs")).body);
    let jobs = listed["jobs"].as_array().unwrap();
    let delivered: Vec<Value> = told_jobs(&receiver.take()).iter().map(plain).collect();
    assert_eq!(jobs.iter().map(plain).collect::<Vec<_>>(), delivered);
    assert_eq!(jobs[0]["run_url"], json!(format!("{}/api/v3{RUN}", hub.url())));
    assert_eq!(jobs[0]["html_url"], json!(format!("{}/acme/web/actions/runs/7/job/71", hub.url())));
    assert_eq!(
        (&jobs[0]["labels"], &jobs[1]["steps"][1]["conclusion"]),
        (&json!(["self-hosted", "linux"]), &json!("skipped"))
    );
    assert_eq!((&jobs[2]["runner_name"], &jobs[2]["steps"]), (&Value::Null, &json!([])));
}

#[test]
fn a_job_is_what_was_last_told_of_it_and_stays_when_its_run_ends() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hook(&hub, receiver.url(), &["workflow_job"]);
    let job = workflow_job(71).run(7).owner("acme").repo("web").name("build");
    let asking = Asking::of(&hub);
    let listed = || asking.get(&format!("{RUN}/jobs")).body["jobs"].clone();
    for action in ["queued", "in_progress", "completed"] {
        let [made] = hub.complete(&job.clone().action(action)).try_into().unwrap();
        assert_eq!((made.event.as_str(), made.action.as_deref()), ("workflow_job", Some(action)));
        assert_eq!(fields(&listed(), "status"), [json!(action)]);
    }
    assert_eq!(asking.get(RUN).body["status"], json!("in_progress"));
    hub.complete(&run(7));
    assert_eq!(asking.get(RUN).body["status"], json!("completed"));
    assert_eq!(fields(&listed(), "id"), [json!(71)]);
    assert_eq!(told_jobs(&receiver.take()).len(), 3);
}

#[test]
fn failed_jobs_run_again_and_all_others_are_told_of_once_more_as_copies() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hook(&hub, receiver.url(), &["workflow_job", "workflow_run"]);
    let first = failed();
    hub.complete(&first);
    let before: Vec<Value> = told_jobs(&receiver.take());
    hub.complete(&hub.failed_jobs_again(7, RERUN_AT, |job| job));
    let requests = receiver.take();
    let [build, deploy, test] = told_jobs(&requests).try_into().unwrap();
    for (copy, old) in [(&build, &before[0]), (&deploy, &before[2])] {
        for same in ["name", "started_at", "completed_at", "steps", "labels", "runner_id", "runner_name", "conclusion"]
        {
            assert_eq!(copy[same], old[same], "{same}");
        }
    }
    let rerun_at = json!(shapes::time(RERUN_AT));
    for job in [&build, &deploy, &test] {
        assert_eq!((&job["run_attempt"], &job["created_at"], &job["run_id"]), (&json!(2), &rerun_at, &json!(7)));
        assert!(before.iter().all(|old| old["id"] != job["id"]));
    }
    assert_eq!((&test["name"], &test["conclusion"]), (&json!("test (1)"), &json!("success")));
    assert_eq!(test["started_at"], json!(shapes::time(RERUN_AT + 7)));
    assert_eq!(test["completed_at"], json!(shapes::time(RERUN_AT + 180)));
    let steps = [fields(&test["steps"], "name"), fields(&test["steps"], "conclusion")];
    assert_eq!(steps, [[json!("Test"), json!("Upload")], [json!("success"), json!("success")]]);
    assert_eq!(test["steps"][0]["started_at"], json!(shapes::time(RERUN_AT + 8).replace('Z', ".000Z")));
    let (event, payload) = told(&requests).pop().unwrap();
    let run = &payload["workflow_run"];
    assert_eq!((event.as_str(), &run["run_attempt"]), ("workflow_run", &json!(2)));
    assert_eq!((&run["conclusion"], &run["run_started_at"]), (&json!("success"), &rerun_at));
    assert_eq!((&run["updated_at"], &run["created_at"]), (&test["completed_at"], &json!(shapes::time(STARTED_AT))));
    let asking = Asking::of(&hub);
    let ids = |path: &str| fields(&asking.get(&format!("{RUN}{path}")).body["jobs"], "id");
    assert_eq!(ids("/jobs"), [build["id"].clone(), deploy["id"].clone(), test["id"].clone()]);
    assert_eq!(ids("/attempts/1/jobs"), [71, 72, 73]);
    assert_eq!(ids("/jobs?filter=all").len(), 6);
}

#[test]
fn a_job_that_fails_again_runs_a_third_time_and_decides_how_its_run_ends() {
    let hub = Hub::start();
    let slow = workflow_job(74).name("slow").conclusion(Some("timed_out"));
    let stopped = workflow_job(75).name("stopped").conclusion(Some("cancelled")).without_runner();
    let jobs = [failed().jobs(), &[slow, stopped]].concat();
    hub.complete(&failed().run().clone().with_jobs(&jobs));
    let ends = |job: JobBuilder| if job.is_called("slow") { job.conclusion(Some("cancelled")) } else { job };
    let second = hub.failed_jobs_again(7, RERUN_AT, ends);
    hub.complete(&second);
    let asking = Asking::of(&hub);
    let conclusions = |attempt: u32| {
        let jobs = asking.get(&format!("{RUN}/attempts/{attempt}/jobs")).body["jobs"].clone();
        fields(&jobs, "conclusion")
    };
    let ended = |attempt: u32| asking.get(&format!("{RUN}/attempts/{attempt}")).body["conclusion"].clone();
    assert_eq!(conclusions(1), ["success", "failure", "skipped", "timed_out", "cancelled"]);
    assert_eq!(conclusions(2), ["success", "skipped", "success", "cancelled", "success"]);
    let jobs = asking.get(&format!("{RUN}/jobs")).body["jobs"].clone();
    assert!(!jobs[4]["runner_name"].is_null() && jobs[4]["steps"] != json!([]), "this time it had a runner");
    hub.complete(&hub.failed_jobs_again(7, RERUN_AT + 900, |job| job));
    assert_eq!(conclusions(3), ["success", "skipped", "success", "success", "success"]);
    assert_eq!([1, 2, 3].map(ended), ["failure", "cancelled", "success"]);
}

#[test]
fn a_job_that_did_not_run_again_can_come_under_its_old_id() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hook(&hub, receiver.url(), &["workflow_job"]);
    hub.complete(&failed());
    let before = told_jobs(&receiver.take());
    hub.set_copied_id(CopiedId::Old);
    hub.complete(&hub.failed_jobs_again(7, RERUN_AT, |job| job));
    let [mut build, deploy, test] = told_jobs(&receiver.take()).try_into().unwrap();
    assert_eq!((&build["id"], &deploy["id"], &build["run_attempt"]), (&json!(71), &json!(73), &json!(2)));
    build["run_attempt"] = json!(1);
    assert_eq!(build, before[0], "it is the same but for its attempt");
    assert!(before.iter().all(|old| old["id"] != test["id"]));
    let listed = Asking::of(&hub).get(&format!("{RUN}/jobs")).body["jobs"].clone();
    assert_eq!(fields(&listed, "id"), [build["id"].clone(), deploy["id"].clone(), test["id"].clone()]);
}

#[test]
fn a_jobs_delivery_can_be_lost_and_be_made_again() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    let id = hook(&hub, receiver.url(), &["workflow_job", "workflow_run"]);
    let attempt = failed();
    let [build, test, deploy] = attempt.jobs() else { panic!("{attempt:?}") };
    hub.complete_silently(build);
    let [unheard] = hub.complete_unheard(test, 502).try_into().unwrap();
    receiver.answer_by(0);
    let [dropped] = hub.complete(deploy).try_into().unwrap();
    receiver.answer_by(202);
    assert_eq!((unheard.event.as_str(), unheard.status_code), ("workflow_job", 502));
    assert_ne!(dropped.status, "OK");
    assert_eq!(hub.deliveries().len(), 2, "what was never tried is in no log");
    let asking = Asking::of(&hub);
    assert_eq!(asking.get(&format!("{RUN}/jobs")).body["total_count"], json!(3));
    receiver.take();
    let path = format!("{HOOKS}/{id}/deliveries");
    assert_eq!(asking.ask("POST", &format!("{path}/{}/attempts", unheard.id), &Value::Null).status, 202);
    hub.wait_until(|state| state.deliveries().len() == 3 && state.is_idle(), WAIT_MAX);
    assert_eq!(fields(&json!(told_jobs(&receiver.take())), "id"), [json!(72)]);
    hub.complete_silently(&hub.failed_jobs_again(7, RERUN_AT, |job| job));
    assert_eq!(hub.deliveries().len(), 3);
    assert_eq!(hub.complete_unheard(&hub.failed_jobs_again(7, RERUN_AT, |job| job), 0).len(), 4);
}
