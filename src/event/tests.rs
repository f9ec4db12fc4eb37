use super::*;
use serde_json::{Value, json};

fn payload() -> Value {
    json!({
        "action": "completed",
        "workflow_run": {
            "id": 30_433_642, "run_attempt": 1, "event": "push", "head_branch": "main",
            "name": "differs on every run", "display_title": "so does this", "path": ".github/workflows/ci.yml@main",
            "conclusion": "success", "created_at": "2026-03-01T00:00:00Z",
            "run_started_at": "2026-03-02T17:13:06Z", "updated_at": "2026-03-02T17:14:07Z",
            "actor": {"login": "ada"}, "triggering_actor": {"login": "grace"},
            "head_repository": {"id": 7, "full_name": "acme/widgets"}
        },
        "workflow": {"name": "CI", "path": ".github/workflows/ci.yml"},
        "repository": {
            "id": 7, "name": "widgets", "full_name": "acme/widgets", "owner": {"login": "acme"}, "default_branch": "main"
        },
        "sender": {"login": "grace", "type": "User"}
    })
}

fn read(payload: &Value) -> Event {
    parse(Some("workflow_run"), payload.to_string().as_bytes(), Detail::Runs).unwrap()
}

fn completed(payload: &Value) -> Completed {
    match read(payload) {
        Event::Completed(run) => *run,
        other => panic!("not completed: {other:?}"),
    }
}

#[test]
fn a_completed_run_comes_out_as_github_wrote_it() {
    let run = completed(&payload());
    assert_eq!(run.key.to_string(), "30433642");
    assert_eq!(run.repository.owner.as_deref(), Some("acme"));
    assert_eq!(run.repository.name, "widgets");
    assert_eq!(run.workflow.as_deref(), Some("CI"));
    assert_eq!(run.workflow_path.as_deref(), Some(".github/workflows/ci.yml"));
    assert!(run.on_default_branch);
    assert_eq!(run.sender.as_deref(), Some("grace"));
    assert_eq!(run.actor.as_deref(), Some("ada"));
    let lasted = run.ended_at.unwrap().duration_since(run.started_at.unwrap());
    assert_eq!(lasted.as_secs(), 61);
}

#[test]
fn only_the_id_and_the_repositorys_name_are_required() {
    let least = json!({"action": "completed", "workflow_run": {"id": 1}, "repository": {"name": "w"}});
    let run = completed(&least);
    assert_eq!(run.attempt(), Attempt::FIRST);
    assert_eq!(run.repository, RepoName { owner: None, name: "w".to_owned() });
    assert_eq!((run.conclusion, run.started_at, run.ended_at), (None, None, None));
    assert!(!run.on_default_branch);
}

#[test]
fn a_field_of_another_type_or_null_is_a_missing_one() {
    let required = ["id", "head_repository"];
    for odd in [json!(null), json!(""), json!([1, {}]), json!({"a": [1]}), json!(-1), json!(1.5), json!(true)] {
        let mut payload = payload();
        for (name, field) in payload["workflow_run"].as_object_mut().unwrap() {
            if !required.contains(&name.as_str()) {
                *field = odd.clone();
            }
        }
        payload["workflow"] = odd.clone();
        payload["sender"] = odd.clone();
        let run = completed(&payload);
        assert_eq!((run.workflow, run.conclusion, run.ended_at), (None, None, None), "{odd}");
        assert_eq!(run.key.to_string(), "30433642");
    }
}

#[test]
fn without_a_usable_id_or_name_it_is_unusable() {
    for id in [json!(null), json!("30433642"), json!(1.5), json!(-3), json!(18_446_744_073_709_551_616.0)] {
        let mut payload = payload();
        payload["workflow_run"]["id"] = id;
        assert!(matches!(read(&payload), Event::Unusable(_)));
    }
    for repository in [json!(null), json!({}), json!({"name": ""}), json!({"full_name": "acme/"})] {
        let mut payload = payload();
        payload["repository"] = repository;
        assert!(matches!(read(&payload), Event::Unusable(_)));
    }
    for whole in ["[]", "1", "\"x\"", "null", "{}", r#"{"action":"completed","action":"completed"}"#] {
        let event = parse(Some("workflow_run"), whole.as_bytes(), Detail::Runs).unwrap();
        assert!(matches!(event, Event::Unusable(_)), "{whole}");
    }
}

#[test]
fn an_id_beyond_two_to_the_53_keeps_every_digit() {
    let mut payload = payload();
    payload["workflow_run"]["id"] = json!(9_007_199_254_740_993_u64);
    payload["workflow_run"]["run_attempt"] = json!(3);
    assert_eq!(completed(&payload).key.to_string(), "9007199254740993/attempts/3");
}

#[test]
fn other_events_actions_and_the_approval_gate_are_not_ours() {
    let body = payload().to_string();
    let of = |event| parse(Some(event), body.as_bytes(), Detail::Runs).unwrap();
    assert_eq!(of("ping"), Event::NotOurs(NotOurs::Ping));
    assert_eq!(of("push"), Event::NotOurs(NotOurs::Event("push".to_owned())));
    for action in ["requested", "in_progress"] {
        let mut payload = payload();
        payload["action"] = json!(action);
        assert_eq!(read(&payload), Event::NotOurs(NotOurs::Action(action.to_owned())));
    }
    let mut gated = payload();
    gated["workflow_run"]["conclusion"] = json!("action_required");
    assert_eq!(read(&gated), Event::NotOurs(NotOurs::ActionRequired));
}

#[test]
fn without_the_header_the_event_is_told_from_the_body() {
    let of = |body: &str| parse(None, body.as_bytes(), Detail::Runs).unwrap();
    assert!(matches!(of(&payload().to_string()), Event::Completed(_)));
    assert_eq!(of(r#"{"zen":"Keep it simple."}"#), Event::NotOurs(NotOurs::Ping));
    assert_eq!(of(r#"{"action":"x"}"#), Event::NotOurs(NotOurs::Event("unknown".to_owned())));
    assert!(matches!(of("[]"), Event::Unusable(_)));
}

#[test]
fn bytes_that_are_not_json_are_an_error_whatever_the_event() {
    for event in [None, Some("workflow_run"), Some("ping")] {
        for body in [&b""[..], b"payload=1", b"{\"action\":\"completed\"", b"{\"a\":1,\"a\":2", b"\"\xff\"", b"{} x"] {
            assert!(parse(event, body, Detail::Runs).is_err(), "{event:?} {body:?}");
        }
    }
}

#[test]
fn a_branch_is_the_default_one_only_in_the_repository_itself() {
    for head in [json!(null), json!({"id": 8, "full_name": "mallory/widgets"})] {
        let mut fork = payload();
        fork["workflow_run"]["head_repository"] = head;
        assert!(!completed(&fork).on_default_branch);
    }
    let mut feature = payload();
    feature["workflow_run"]["head_branch"] = json!("feature");
    assert!(!completed(&feature).on_default_branch);
}

#[test]
fn the_workflow_is_its_own_name_else_its_file_and_never_the_runs_name() {
    let mut payload = payload();
    payload["workflow"]["name"] = json!("");
    assert_eq!(completed(&payload).workflow.as_deref(), Some("ci.yml"));
    payload["workflow"] = json!(null);
    assert_eq!(completed(&payload).workflow.as_deref(), Some("ci.yml"));
    payload["workflow_run"]["path"] = json!("dynamic/dependabot/dependabot-updates");
    assert_eq!(completed(&payload).workflow.as_deref(), Some("dependabot-updates"));
    payload["workflow_run"]["path"] = json!(null);
    assert_eq!(completed(&payload).workflow, None);
}

#[test]
fn times_may_have_offsets_and_fractions() {
    let mut payload = payload();
    payload["workflow_run"]["run_started_at"] = json!("2026-03-02T09:13:06.250-08:00");
    let run = completed(&payload);
    assert_eq!(run.started_at.unwrap().to_string(), "2026-03-02T17:13:06.25Z");
}
