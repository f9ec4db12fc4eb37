//! That runs, attempts, jobs and workflows are listed and shown as GitHub does it.

use super::*;

const RUNS: &str = "/repos/acme/web/actions/runs";

/// The second of a time.
fn at(time: &str) -> i64 {
    shapes::second(&json!(time)).unwrap()
}

/// The IDs in a list of runs.
fn ids(answer: &Answer) -> Vec<u64> {
    fields(&answer.body["workflow_runs"], "id").iter().map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn each_attempt_keeps_its_own_object_and_a_run_is_its_latest() {
    let hub = Hub::start();
    let first = run(7).conclusion(Some("failure")).started_at(at("2026-10-01T10:00:00Z"));
    hub.complete(&first.updated_at(at("2026-10-01T10:05:00Z")));
    let second = run(7).attempt(2).started_at(at("2026-10-02T12:00:00Z")).updated_at(at("2026-10-02T12:01:00Z"));
    hub.complete(&second);
    let asking = Asking::of(&hub);
    let shown = |path: &str| asking.get(&format!("{RUNS}/7{path}")).body;
    let (latest, first) = (shown(""), shown("/attempts/1"));
    assert_eq!(latest, shown("/attempts/2"));
    assert_eq!((&latest["run_attempt"], &first["run_attempt"]), (&json!(2), &json!(1)));
    assert_eq!((&latest["conclusion"], &first["conclusion"]), (&json!("success"), &json!("failure")));
    assert_eq!(first["run_started_at"], json!("2026-10-01T10:00:00Z"));
    assert_eq!(latest["run_started_at"], json!("2026-10-02T12:00:00Z"));
    assert_eq!(latest["created_at"], json!("2026-10-01T10:00:00Z"), "a re-run leaves it as it is");
    assert_eq!(first["url"], json!(format!("{}/api/v3{RUNS}/7", hub.url())));
    assert_eq!(ids(&asking.get(RUNS)), [7]);
    for missing in ["7/attempts/3", "8", "x", "7/attempts/3/jobs", "8/jobs"] {
        assert_eq!(asking.get(&format!("{RUNS}/{missing}")).status, 404, "{missing}");
    }
}

#[test]
fn a_run_that_is_on_its_way_is_replaced_by_its_end() {
    let hub = Hub::start();
    hub.complete(&run(7).action("requested"));
    let asking = Asking::of(&hub);
    assert_eq!(asking.get(&format!("{RUNS}/7")).body["status"], json!("queued"));
    assert!(ids(&asking.get(&format!("{RUNS}?status=completed"))).is_empty());
    hub.complete(&run(7));
    assert_eq!(ids(&asking.get(&format!("{RUNS}?status=completed"))), [7]);
    assert_eq!(ids(&asking.get(&format!("{RUNS}?status=success"))), [7]);
    assert!(ids(&asking.get(&format!("{RUNS}?status=failure"))).is_empty());
}

#[test]
fn runs_are_listed_newest_first_and_found_by_when_they_were_created() {
    let hub = Hub::start();
    for (id, time) in [(2, "2026-10-02T00:00:00Z"), (1, "2026-10-01T23:59:59Z"), (3, "2026-10-03T12:00:00Z")] {
        hub.complete(&run(id).started_at(at(time)));
    }
    let asking = Asking::of(&hub);
    assert_eq!(ids(&asking.get(RUNS)), [3, 2, 1]);
    for (created, found) in [
        ("2026-10-01", vec![1]),
        ("2026-10-01..2026-10-02", vec![2, 1]),
        ("2026-10-02T00:00:00Z..2026-10-03T12:00:00Z", vec![3, 2]),
        ("2026-10-02T00:00:01Z..2026-10-03T11:59:59Z", vec![]),
        ("2026-10-02T01:00:00%2B01:00..*", vec![3, 2]),
        ("*..2026-10-01", vec![1]),
        (">=2026-10-02", vec![3, 2]),
        (">2026-10-02", vec![3]),
        ("<=2026-10-01T23:59:59Z", vec![1]),
        ("<2026-10-02", vec![1]),
    ] {
        let answer = asking.get(&format!("{RUNS}?status=completed&created={created}"));
        assert_eq!((ids(&answer), &answer.body["total_count"]), (found.clone(), &json!(found.len())), "{created}");
    }
    assert_eq!(asking.get(&format!("{RUNS}?created=yesterday")).status, 422);
}

#[test]
fn runs_are_found_by_event_branch_and_workflow() {
    let hub = Hub::start();
    hub.complete(&run(1));
    hub.complete(&run(2).event("schedule").branch("topic").workflow("Nightly"));
    let asking = Asking::of(&hub);
    assert_eq!(ids(&asking.get(&format!("{RUNS}?event=schedule"))), [2]);
    assert_eq!(ids(&asking.get(&format!("{RUNS}?branch=main"))), [1]);
    let workflows = asking.get("/repos/acme/web/actions/workflows").body;
    assert_eq!(workflows["total_count"], json!(2));
    assert_eq!(fields(&workflows["workflows"], "name"), [json!("CI"), json!("Nightly")]);
    let workflow_ids = fields(&workflows["workflows"], "id");
    assert_ne!(workflow_ids[0], workflow_ids[1]);
    let path = format!("/repos/acme/web/actions/workflows/{}", workflow_ids[1]);
    assert_eq!(asking.get(&path).body["name"], json!("Nightly"));
    assert_eq!(ids(&asking.get(&format!("{path}/runs"))), [2]);
    assert_eq!(asking.get(&format!("{RUNS}/2")).body["workflow_id"], workflow_ids[1]);
    assert_eq!(asking.get("/repos/acme/web/actions/workflows/ci.yml").body["id"], workflow_ids[0]);
    assert_eq!(asking.get("/repos/acme/web/actions/workflows/17").status, 404);
}

#[test]
fn pages_link_to_the_next_and_the_last() {
    let hub = Hub::start();
    for id in 1..=5 {
        hub.complete_silently(&run(id));
    }
    let asking = Asking::of(&hub);
    let first = asking.get(&format!("{RUNS}?status=completed&per_page=2"));
    assert_eq!((ids(&first), &first.body["total_count"]), (vec![5, 4], &json!(5)));
    let second = asking.get(&asking.link(&first, "next").unwrap());
    assert_eq!(ids(&second), [3, 2]);
    let last = asking.get(&asking.link(&first, "last").unwrap());
    assert_eq!(ids(&last), [1]);
    assert_eq!((asking.link(&last, "next"), asking.link(&last, "last")), (None, None));
    assert_eq!(ids(&asking.get(&asking.link(&last, "first").unwrap())), [5, 4]);
    assert!(ids(&asking.get(&format!("{RUNS}?page=9"))).is_empty());
}

#[test]
fn no_more_than_a_thousand_are_found_and_no_more_than_a_hundred_are_on_a_page() {
    let hub = Hub::start();
    for id in 1..=1003 {
        hub.complete_silently(&run(id));
    }
    let asking = Asking::of(&hub);
    let page = |page: u32| asking.get(&format!("{RUNS}?status=completed&per_page=200&page={page}"));
    let (tenth, eleventh) = (page(10), page(11));
    assert_eq!((ids(&tenth).len(), ids(&tenth).last()), (100, Some(&4)));
    assert_eq!(asking.link(&tenth, "next"), None);
    assert!(ids(&eleventh).is_empty());
    assert_eq!(eleventh.body["total_count"], json!(1003));
    assert_eq!(ids(&asking.get(RUNS)).len(), 30);
}

#[test]
fn a_job_has_the_runs_times_and_keeps_them_when_the_run_is_touched_later() {
    let hub = Hub::start();
    let (from, to) = (at("2026-10-01T10:00:00Z"), at("2026-10-01T10:05:00Z"));
    hub.complete(&run(7).started_at(from).updated_at(to));
    hub.set_updated_at(7, 1, to + 3600);
    let asking = Asking::of(&hub);
    assert_eq!(asking.get(&format!("{RUNS}/7")).body["updated_at"], json!("2026-10-01T11:05:00Z"));
    let jobs = asking.get(&format!("{RUNS}/7/attempts/1/jobs")).body;
    let [job] = jobs["jobs"].as_array().unwrap().clone().try_into().unwrap();
    assert_eq!(job["started_at"], json!("2026-10-01T10:00:00Z"));
    assert_eq!(job["completed_at"], json!("2026-10-01T10:05:00Z"));
    assert_eq!((&job["run_id"], &job["run_attempt"], &job["conclusion"]), (&json!(7), &json!(1), &json!("success")));
}

#[test]
fn jobs_are_what_a_test_makes_them_and_come_page_by_page() {
    let hub = Hub::start();
    hub.complete(&run(7));
    hub.complete(&run(7).attempt(2));
    let asking = Asking::of(&hub);
    hub.set_jobs(7, 1, &[]);
    assert_eq!(asking.get(&format!("{RUNS}/7/attempts/1/jobs")).body, json!({ "total_count": 0, "jobs": [] }));
    let times: Vec<(i64, Option<i64>)> =
        (0..5).map(|n| (1_790_000_000 + n, (n < 4).then_some(1_790_000_100))).collect();
    hub.set_jobs(7, 2, &times);
    let first = asking.get(&format!("{RUNS}/7/jobs?per_page=3"));
    let second = asking.get(&asking.link(&first, "next").unwrap());
    let statuses = [fields(&first.body["jobs"], "status"), fields(&second.body["jobs"], "status")].concat();
    assert_eq!(statuses.iter().filter(|status| **status == json!("completed")).count(), 4);
    assert_eq!((statuses.len(), &first.body["total_count"]), (5, &json!(5)));
    assert_eq!(second.body["jobs"][1]["completed_at"], Value::Null);
    hub.set_jobs(7, 1, &times[..1]);
    assert_eq!(asking.get(&format!("{RUNS}/7/jobs?filter=all")).body["total_count"], json!(6));
}

#[test]
fn a_repository_is_found_whatever_its_letters_and_another_is_not() {
    let hub = Hub::start();
    let id = hub.repository("acme/web");
    let asking = Asking::of(&hub);
    let shown = asking.get("/repos/Acme/WEB").body;
    assert_eq!((&shown["id"], &shown["default_branch"]), (&json!(id), &json!("main")));
    assert_eq!(shown["full_name"], json!("acme/web"));
    for missing in ["/repos/acme/api", "/repos/acme/api/hooks", "/repos/acme/api/actions/runs", "/nothing"] {
        assert_eq!(asking.get(missing).status, 404, "{missing}");
    }
}
