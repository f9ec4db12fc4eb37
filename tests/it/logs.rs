//! What the log says, and what nobody outside can make it say.

use crate::{
    github::workflow_run,
    harness::{Start, now},
    intake::Intake,
};
use serde_json::Value;

const HOSTILE: &str = "x\n[2026-01-01T00:00:00Z ERROR runhound::delivery] forged\r\u{1b}[31m\u{202e}\u{2028}end";

fn hostile_log(arguments: &[&str]) -> Vec<String> {
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    let start = arguments.iter().fold(Start::live(dir.path(), &intake), |start, argument| start.argument(argument));
    let service = start.start();
    let run = workflow_run(7).repo(HOSTILE).workflow(HOSTILE).started_at(now() - 61).updated_at(now());
    assert_eq!(
        service.post(&run.body(), &[("X-GitHub-Event", "workflow_run"), ("X-GitHub-Delivery", "a-guid")]).status,
        202
    );
    service.post(&run.body(), &[("X-GitHub-Event", "workflow_run"), ("X-GitHub-Delivery", "a \"b=c\" guid")]);
    let forger = [("X-GitHub-Event", "workflow_run"), ("X-GitHub-Delivery", r#"x\" run=99 b=""#)];
    service.post(&run.body(), &forger);
    service.post(&workflow_run(8).action(HOSTILE).body(), &[("X-GitHub-Event", "workflow_run")]);
    service.wait_for_log("pushed 1 runs");
    service.stop()
}

#[test]
fn a_delivery_and_a_push_have_a_line_each_with_guid_and_id() {
    let log = hostile_log(&[]);
    let lines = |text: &str| log.iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
    let [accepted] = lines("] accepted ")[..] else { panic!("{log:#?}") };
    assert!(accepted.contains(" delivery=a-guid run=7 repository="), "{accepted}");
    let [duplicate, forged] = lines("] duplicate ")[..] else { panic!("{log:#?}") };
    assert!(duplicate.contains(r#" delivery="a \"b=c\" guid" run=7 "#), "{duplicate}");
    assert!(forged.contains(r#" delivery="x\\\" run=99 b=\"" run=7 "#), "{forged}");
    assert_eq!(lines("] ignored: action x\\n").len(), 1, "{log:#?}");
    let [pushed] = lines("] pushed 1 runs")[..] else { panic!("{log:#?}") };
    assert!(pushed.ends_with(" runs=7"), "{pushed}");
}

#[test]
fn what_comes_from_outside_cannot_forge_a_line() {
    for line in hostile_log(&[]) {
        assert!(line.starts_with("[20") && !line.starts_with("[2026-01-01T00:00:00Z"), "{line:?}");
        assert!(!line.contains(['\u{1b}', '\r', '\u{202e}', '\u{2028}']), "{line:?}");
    }
}

#[test]
fn a_log_for_programs_is_an_object_a_line() {
    let mut messages = Vec::new();
    for line in hostile_log(&["--log-format=json"]) {
        let object: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |field: &str| object[field].as_str().unwrap_or_else(|| panic!("no {field}: {line}"));
        assert!(text("time").parse::<jiff::Timestamp>().is_ok() && text("target").starts_with("runhound"), "{line}");
        assert!(["info", "warn", "error"].contains(&text("level")), "{line}");
        messages.push(text("message").to_owned());
        if text("message") == "accepted" {
            assert_eq!((text("delivery"), text("run")), ("a-guid", "7"), "{line}");
            assert!(text("repository").contains("\\n"), "{line}");
        }
    }
    assert!(messages.iter().any(|message| message == "accepted"), "{messages:#?}");
    assert!(messages.iter().any(|message| message.starts_with("pushed 1 runs")), "{messages:#?}");
}
