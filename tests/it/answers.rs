//! The table of answers, a row a test.

use crate::{
    github::{self, workflow_run},
    harness::{Answer, SECRET, Service, Start},
};
use serde_json::json;
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};
use tempfile::TempDir;

fn service() -> (TempDir, Service) {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    (dir, service)
}

fn ignored(answer: &Answer) -> &str {
    assert_eq!((answer.status, answer.says()), (200, "ignored"), "{answer:?}");
    answer.body["reason"].as_str().unwrap()
}

#[test]
fn a_new_run_is_accepted_and_one_seen_before_is_a_duplicate() {
    let (_dir, service) = service();
    let answer = service.deliver(&workflow_run(30_433_642));
    assert_eq!((answer.status, &answer.body), (202, &json!({"status": "accepted", "id": "30433642"})));
    let answer = service.deliver(&workflow_run(30_433_642));
    assert_eq!((answer.status, &answer.body), (200, &json!({"status": "duplicate", "id": "30433642"})));
    let answer = service.deliver(&workflow_run(30_433_642).attempt(2));
    assert_eq!((answer.status, &answer.body), (202, &json!({"status": "accepted", "id": "30433642/attempts/2"})));
}

#[test]
fn reruns_are_duplicates_where_they_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).argument("--reruns=drop").start();
    assert_eq!(service.deliver(&workflow_run(1).attempt(2)).status, 202);
    let answer = service.deliver(&workflow_run(1).attempt(3));
    assert_eq!(answer.body, json!({"status": "duplicate", "id": "1/attempts/3"}));
}

#[test]
fn runs_of_other_repositories_are_ignored_and_take_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::dry_run(dir.path()).variable("RUNHOUND_REPOSITORIES", "other, ACME/web-*");
    let service = start.start();
    let owned = |id, name: &str| workflow_run(id).owner("acme").repo(name);
    assert_eq!(service.deliver(&owned(1, "Web-Shop")).status, 202);
    assert_eq!(ignored(&service.deliver(&owned(2, "api"))), "repository not in --repositories");
    let unusable =
        service.post(r#"{"action":"completed","workflow_run":{"id":"x"}}"#, &[("X-GitHub-Event", "workflow_run")]);
    assert_eq!(ignored(&unusable), "workflow_run.id is not a whole number of 64 bits");
    service.stop();
    let service = Start::dry_run(dir.path()).start();
    assert_eq!(service.deliver(&owned(2, "api")).status, 202, "it had no place");
}

#[test]
fn what_is_not_ours_is_ignored_with_the_reason() {
    let (dir, service) = service();
    let run = workflow_run(1).body();
    assert_eq!(ignored(&service.post(r#"{"zen":"Less is more."}"#, &[("X-GitHub-Event", "ping")])), "ping");
    assert_eq!(ignored(&service.post(&run, &[("X-GitHub-Event", "push")])), "event push");
    for action in ["requested", "in_progress"] {
        assert_eq!(ignored(&service.deliver(&workflow_run(1).action(action))), format!("action {action}"));
    }
    let gated = workflow_run(1).conclusion(Some("action_required"));
    assert_eq!(ignored(&service.deliver(&gated)), "conclusion action_required");
    assert_eq!(service.deliver(&workflow_run(1)).status, 202, "the same run comes once it is approved");
    assert!(!dir.path().join("rejected-dry-run.jsonl").exists());
}

#[test]
fn signed_json_without_a_usable_run_is_ignored_and_set_aside_first() {
    let (dir, service) = service();
    let body = "{\"action\": \"completed\",\n \"workflow_run\": {\"id\": \"x\"}}";
    let answer = service.post(body, &[("X-GitHub-Event", "workflow_run"), ("X-GitHub-Delivery", "guid-1")]);
    assert_eq!(ignored(&answer), "workflow_run.id is not a whole number of 64 bits");
    let line = std::fs::read_to_string(dir.path().join("rejected-dry-run.jsonl")).unwrap();
    assert_eq!(line.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["request"]["payload"]["workflow_run"]["id"], "x");
    assert_eq!(line["request"]["headers"]["X-GitHub-Delivery"], "guid-1");
}

#[test]
fn what_is_not_json_or_has_no_payload_is_400() {
    let (_dir, service) = service();
    assert_eq!(service.post("{\"action\":", &[]).status, 400);
    assert_eq!(service.post("action=completed", &[("Content-Type", "application/x-www-form-urlencoded")]).status, 400);
    assert_eq!(service.post("payload=%7B", &[("Content-Type", "application/x-www-form-urlencoded")]).status, 400);
}

#[test]
fn a_missing_malformed_or_wrong_signature_is_401_with_one_body_for_all() {
    let (_dir, service) = service();
    let body = workflow_run(1).body();
    let json = ("Content-Type", "application/json");
    let other_secret = github::sign("other", body.as_bytes());
    let sha1 = format!("sha1={}", "0".repeat(40));
    let mut bodies = Vec::new();
    for signature in [None, Some(""), Some("sha256=12"), Some(sha1.as_str()), Some(other_secret.as_str())] {
        let signature = signature.map(|signature| ("X-Hub-Signature-256", signature));
        let headers: Vec<(&str, &str)> = signature.into_iter().chain([json]).collect();
        let answer = service.request("POST", "/webhook", &headers, body.as_bytes());
        assert_eq!(answer.status, 401, "{signature:?}");
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let legacy = github::sign(SECRET, body.as_bytes());
    let answer = service.request("POST", "/webhook", &[("X-Hub-Signature", &legacy), json], body.as_bytes());
    assert_eq!(answer.status, 401);
}

#[test]
fn without_a_signature_the_answer_comes_before_the_body() {
    let (_dir, service) = service();
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 401");
}

#[test]
fn a_body_over_25_mib_is_413_without_reading_on() {
    let (_dir, service) = service();
    let signature = github::sign(SECRET, b"");
    let head = format!("POST /webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature}\r\n");
    let mut declared = TcpStream::connect(service.address).unwrap();
    declared.write_all(format!("{head}Content-Length: 26214401\r\n\r\n").as_bytes()).unwrap();
    let mut start = [0; 12];
    declared.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20)).into_bytes();
    let chunked = [format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes(), chunk.repeat(26)].concat();
    assert_eq!(service.raw(&chunked).status, 413);
}

#[test]
fn a_body_of_25_mib_is_read() {
    let (_dir, service) = service();
    let run = workflow_run(5).body();
    let body = format!("{run}{}", " ".repeat((25 << 20) - run.len()));
    assert_eq!(service.post(&body, &[("X-GitHub-Event", "workflow_run")]).status, 202);
}

#[test]
fn another_content_type_is_415_and_both_of_githubs_work() {
    let (_dir, service) = service();
    let body = workflow_run(1).body();
    for content_type in ["text/plain", "application/xml", "multipart/form-data", "application/jsonp"] {
        assert_eq!(service.post(&body, &[("Content-Type", content_type)]).status, 415, "{content_type}");
    }
    let signature = github::sign(SECRET, body.as_bytes());
    let answer = service.request("POST", "/webhook", &[("X-Hub-Signature-256", &signature)], body.as_bytes());
    assert_eq!(answer.status, 415);
    assert_eq!(service.post(&body, &[("Content-Type", "Application/JSON; charset=utf-8")]).status, 202);
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("payload", &workflow_run(2).body()).finish();
    let answer = service.post(&form, &[("Content-Type", "application/x-www-form-urlencoded")]);
    assert_eq!(answer.body, json!({"status": "accepted", "id": "2"}));
}

#[test]
fn another_method_is_405_and_another_path_404() {
    let (_dir, service) = service();
    assert_eq!(service.request("GET", "/webhook", &[], b"").status, 405);
    assert_eq!(service.request("DELETE", "/webhook", &[], b"").header("allow"), Some("POST"));
    assert_eq!(service.request("POST", "/healthz", &[], b"").status, 405);
    for path in ["/", "/webhook/", "/metrics", "/status.json", "/readyz"] {
        assert_eq!(service.request("GET", path, &[], b"").status, 404, "{path}");
    }
    assert_eq!(service.request("GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn while_the_journal_cannot_be_written_the_answer_is_503_and_then_it_accepts_again_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = dir.path().join("cache");
    let service = Start::dry_run(&cache_dir).start();
    assert_eq!(service.deliver(&workflow_run(1)).status, 202);
    // The directory goes, and a file stands where it was: nothing can be written there, by whichever user.
    let aside = dir.path().join("aside");
    std::fs::rename(&cache_dir, &aside).unwrap();
    std::fs::write(&cache_dir, "").unwrap();
    let answer = service.deliver(&workflow_run(2));
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(service.request("GET", "/healthz", &[], b"").status, 200);
    std::fs::remove_file(&cache_dir).unwrap();
    std::fs::rename(&aside, &cache_dir).unwrap();
    assert_eq!(service.deliver(&workflow_run(2)).status, 202);
    service.stop();
    let service = Start::dry_run(&cache_dir).start();
    for id in [1, 2] {
        assert_eq!(service.deliver(&workflow_run(id)).says(), "duplicate");
    }
}

#[test]
fn any_of_several_secrets_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secrets");
    std::fs::write(&file, "new secret\n\nold secret\r\n").unwrap();
    let start = Start::dry_run(&dir.path().join("cache"));
    let service = start.variable("GITHUB_WEBHOOK_SECRET_FILE", file.to_str().unwrap()).start();
    for (id, secret) in [(1, "new secret"), (2, "old secret"), (3, SECRET)] {
        let body = workflow_run(id).body();
        let signature = github::sign(secret, body.as_bytes());
        let headers = [("X-Hub-Signature-256", signature.as_str()), ("Content-Type", "application/json")];
        assert_eq!(service.request("POST", "/webhook", &headers, body.as_bytes()).status, 202, "{secret}");
    }
}

#[test]
fn a_signature_made_by_openssl_is_accepted() {
    let (_dir, service) = service();
    let body = workflow_run(1).body();
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", SECRET, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test signs with openssl: install it");
    openssl.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = String::from_utf8(openssl.wait_with_output().unwrap().stdout).unwrap();
    let signature = format!("sha256={}", output.split(' ').next().unwrap());
    let headers = [("X-Hub-Signature-256", signature.as_str()), ("Content-Type", "application/json")];
    assert_eq!(service.request("POST", "/webhook", &headers, body.as_bytes()).status, 202);
}
