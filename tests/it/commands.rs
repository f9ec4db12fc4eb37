//! The commands as a user meets them: output, exit status, errors and hints.

use crate::{
    github::workflow_run,
    harness::{SECRET, Start, program, sent},
    intake::{Intake, Order, TEST_KEY},
};
use std::process::Output;

pub(crate) fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn counts(summary: &str) -> Vec<usize> {
    let count = |name: &str| {
        let line = summary.lines().find_map(|line| line.strip_prefix("  ")?.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {summary}")).trim().parse().unwrap()
    };
    ["accepted", "duplicate", "ignored", "refused", "pushed", "pending"].map(count).to_vec()
}

#[test]
fn the_fixtures_replay_without_account_or_configuration() {
    let (status, out, err) = text(&program(&["replay", "fixtures"]).output().unwrap());
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(counts(&out), [18, 2, 18, 0, 18, 0]);
    for part in ["github.actions.workflow_run.total", "conclusion:timed_out", "branch:other", "1 × ping"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    // Two runs of one second and tag set: counted two, their mean 185 s, their sum 370 s.
    assert!(out.contains("185.000 s") && out.contains("370.000 s"), "{out}");
}

#[test]
fn replayed_twice_into_one_directory_the_second_time_nothing_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    let replay = || text(&program(&["replay", "fixtures", &cache_dir]).output().unwrap());
    assert_eq!(counts(&replay().1), [18, 2, 18, 0, 18, 0]);
    let marked = sent(&dir.path().join("sent-workflows-dry-run.json"));
    let (status, out, _) = replay();
    assert_eq!((status, counts(&out)), (Some(0), vec![0, 20, 18, 0, 0, 0]));
    assert_eq!(sent(&dir.path().join("sent-workflows-dry-run.json")), marked);
    let payloads = std::fs::read_to_string(dir.path().join("payloads-dry-run.jsonl")).unwrap();
    assert_eq!(payloads.lines().count(), 1);
    assert!(!dir.path().join("sent-workflows.json").exists());
}

#[test]
fn a_live_replay_pushes_for_real_and_says_what_is_pending_when_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    let replay = |arguments: &[&str]| {
        let mut command = program(&[&["replay", "fixtures", "--live", &cache_dir], arguments].concat());
        text(&command.env("DD_API_KEY", TEST_KEY).env("DD_URL", format!("{}/proxy", intake.url())).output().unwrap())
    };
    intake.set_policy(|_| Order::status(503));
    let (status, out, err) = replay(&["--timeout=1"]);
    assert_eq!((status, counts(&out)), (Some(1), vec![18, 2, 18, 0, 0, 18]), "{err}");
    assert!(err.contains("18 runs are pending") && err.contains("hint: "), "{err}");
    intake.recover();
    let (status, out, err) = replay(&[]);
    assert_eq!((status, counts(&out)), (Some(0), vec![0, 20, 18, 0, 18, 0]), "{err}");
    assert_eq!(intake.count("github.actions.workflow_run.total"), 18.0);
    intake.assert_contract();
    assert!(intake.requests().iter().all(|request| request.path == "/proxy/api/v2/series"));
}

#[test]
fn a_replay_to_another_receiver_is_signed_with_the_secret_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    let to = format!("--to=http://{}/webhook", service.address);
    let replay = |secret: &str| {
        text(&program(&["replay", "fixtures", &to]).env("GITHUB_WEBHOOK_SECRET", secret).output().unwrap())
    };
    let (status, out, err) = replay(SECRET);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("accepted      18") && !out.contains("pushed"), "{out}");
    let (status, out, err) = replay("another");
    assert_eq!(status, Some(1));
    assert!(out.contains("refused       38") && err.contains("38 deliveries were refused"), "{out} {err}");
}

#[test]
fn a_dry_run_says_what_it_would_have_processed_and_can_log_payloads_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("payloads.jsonl");
    let start = Start::dry_run(&dir.path().join("cache")).argument(&format!("--payload-log={}", log.display()));
    let service = start.start();
    assert!(service.start_line.contains("dry run, nothing is pushed"), "{}", service.start_line);
    service.deliver(&crate::github::workflow_run(7));
    let line = service.wait_for_log("would have processed 7 ");
    assert!(line.contains("conclusion:success"), "{line}");
    service.stop();
    assert!(std::fs::read_to_string(log).unwrap().contains("workflow_run.total"));
}

#[test]
fn a_live_service_logs_payloads_where_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let log = dir.path().join("payloads.jsonl");
    let start = Start::live(&dir.path().join("cache"), &intake).argument(&format!("--payload-log={}", log.display()));
    let service = start.start();
    service.deliver(&crate::github::workflow_run(7));
    service.wait_for_log("pushed 1 runs");
    service.stop();
    assert_eq!(std::fs::read_to_string(log).unwrap().trim(), intake.requests()[0].unpacked);
}

/// Arguments, variables, exit status, and what the error says.
type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], i32, &'static str);

#[test]
fn a_payload_log_that_cannot_be_written_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::dry_run(dir.path()).argument("--payload-log=/none/payloads.jsonl");
    let (status, _, err) = text(&start.command().output().unwrap());
    assert_eq!(status, Some(1));
    assert!(
        err.contains("runhound: payload log /none/payloads.jsonl: No such file") && err.contains("\nhint: "),
        "{err}"
    );
}

#[test]
fn a_variable_that_is_no_text_is_an_error_that_names_it() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let dir = tempfile::tempdir().unwrap();
    for name in ["GITHUB_WEBHOOK_SECRET", "DD_API_KEY", "DD_API_KEY_FILE", "DD_SITE", "DD_TAGS", "DD_ENV"] {
        let mut command = program(&["serve", "--listen=127.0.0.1:0"]);
        command.envs([("GITHUB_WEBHOOK_SECRET", SECRET), ("DD_API_KEY", TEST_KEY)]).current_dir(dir.path());
        if name == "DD_API_KEY_FILE" {
            command.env_remove("DD_API_KEY");
        }
        let (status, _, err) = text(&command.env(name, OsStr::from_bytes(b"hush\xff")).output().unwrap());
        assert_eq!(status, Some(1), "{name}: {err}");
        assert!(err.contains(&format!("runhound: {name}: not UTF-8\nhint: ")) && !err.contains("hush"), "{err}");
    }
}

#[test]
fn variables_are_yes_or_no_by_what_they_say() {
    for (value, status) in [("false", Some(0)), ("", Some(0)), ("0", Some(0)), ("true", Some(2)), ("maybe", Some(2))] {
        let output = program(&["replay", "fixtures/01-success.json"]).env("RUNHOUND_LIVE", value).output().unwrap();
        assert_eq!(output.status.code(), status, "{value:?}");
    }
}

#[test]
fn a_check_tells_a_torn_mark_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    program(&["replay", "fixtures", &cache_dir]).output().unwrap();
    let cache = dir.path().join("sent-workflows-dry-run.json");
    let whole = std::fs::read_to_string(&cache).unwrap();
    std::fs::write(&cache, &whole[..whole.len() - 20]).unwrap();
    let mut check = program(&["check", "--dry-run", &cache_dir]);
    let (status, out, _) = text(&check.env("GITHUB_WEBHOOK_SECRET", SECRET).output().unwrap());
    assert_eq!(status, Some(0), "{out}");
    assert!(out.contains("a torn write at its end, which a start completes"), "{out}");
    assert_eq!(counts(&text(&program(&["replay", "fixtures", &cache_dir]).output().unwrap()).1), [0, 20, 18, 0, 0, 0]);
    assert_eq!(std::fs::read_to_string(&cache).unwrap(), whole);
}

#[test]
fn a_check_asks_datadog_about_the_key_and_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    let url = format!("{}/proxy", intake.url());
    let check = |key: &str| {
        let mut command = program(&["check", &cache_dir]);
        command.envs([("GITHUB_WEBHOOK_SECRET", SECRET), ("DD_API_KEY", key), ("DD_URL", &url)]);
        let (status, out, _) = text(&command.output().unwrap());
        assert!(!out.contains(key), "{out}");
        (status, out)
    };
    let (status, out) = check(TEST_KEY);
    assert_eq!(status, Some(0), "{out}");
    assert!(out.contains(&format!("ok     Datadog API key: valid, says {url}")), "{out}");
    let (status, out) = check("another-key");
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains(&format!("wrong  Datadog API key: refused by {url} with 403")), "{out}");
    intake.set_clock_offset(7200);
    let (status, out) = check(TEST_KEY);
    assert_eq!(status, Some(1), "{out}");
    let apart = ["7199", "7200", "7201"].map(|apart| format!("the clock of this machine is {apart} s apart"));
    assert!(apart.iter().any(|apart| out.contains(apart)), "{out}");
    intake.set_validate(Some(502));
    assert!(check(TEST_KEY).1.contains("answered 502"));
    intake.stop();
    let (status, out) = check(TEST_KEY);
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains(&format!("wrong  Datadog: no answer from {url}")), "{out}");
    assert_eq!(intake.requests().len(), 0);
}

#[test]
fn a_check_believes_no_2xx_but_that_the_key_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    let check = || {
        let mut command = program(&["check", &cache_dir]);
        command.envs([("GITHUB_WEBHOOK_SECRET", SECRET), ("DD_API_KEY", TEST_KEY), ("DD_URL", &intake.url())]);
        text(&command.output().unwrap())
    };
    let bodies = ["<html>sign in</html>", r#"{"errors":["no"]}"#, r#"{"errors":[]}"#, r#"{"valid":false}"#, "ok", ""];
    for (status, body) in bodies.map(|body| (200, body)).into_iter().chain([(202, "{}"), (204, "")]) {
        intake.set_validate_answer(status, body);
        let (code, out, _) = check();
        assert_eq!(code, Some(1), "{body}: {out}");
        assert!(out.contains(&format!("answered {status} when asked about the API key: {body}")), "{body}: {out}");
        assert!(out.contains("if DD_URL names a proxy") && !out.contains("API key: valid"), "{body}: {out}");
    }
    intake.set_validate_answer(200, "{\n  \"valid\": true\n}");
    let (code, out, _) = check();
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn a_check_counts_what_is_pending_and_names_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::stopped();
    let service = Start::live(dir.path(), &intake).start();
    service.deliver(&workflow_run(8).updated_at(1_796_000_060));
    service.deliver(&workflow_run(9).updated_at(1_796_000_000));
    let log = service.stop();
    assert!(log.iter().any(|line| line.contains("2 runs are pending")), "{log:#?}");
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    let mut check = program(&["check", &cache_dir]);
    intake.restart();
    check.envs([("GITHUB_WEBHOOK_SECRET", SECRET), ("DD_API_KEY", TEST_KEY), ("DD_URL", &intake.url())]);
    let (status, out, _) = text(&check.output().unwrap());
    assert_eq!(status, Some(0), "{out}");
    let pending =
        "journal.jsonl: 2 runs pending, 0 of them in the last batch; the oldest, 9, ended 2026-11-30T00:53:20Z";
    assert!(out.contains(pending), "{out}");
    assert!(out.contains("sent-workflows.json: 0 IDs sent"), "{out}");
}

#[test]
fn a_repair_sets_damaged_files_aside_and_keeps_what_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    for id in 1..=3 {
        service.deliver(&workflow_run(id));
        service.wait_for_pushes(1);
    }
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    let check = |arguments: &[&str]| {
        let mut command = program(&[&["check", &cache_dir], arguments].concat());
        command.envs([("GITHUB_WEBHOOK_SECRET", SECRET), ("DD_API_KEY", TEST_KEY), ("DD_URL", &intake.url())]);
        text(&command.output().unwrap())
    };
    let (status, out, _) = check(&["--repair"]);
    assert_eq!(status, Some(1));
    assert!(
        out.contains(&format!("lock is held by process {}", service.id()))
            && out.contains("hint: stop that service first"),
        "{out}"
    );
    assert!(out.contains(&format!("look   a service is running: process {}", service.id())), "{out}");
    service.stop();
    assert!(check(&["--repair"]).1.contains("ok     repair: no file is damaged"));
    let (journal, cache) = (dir.path().join("journal.jsonl"), dir.path().join("sent-workflows.json"));
    for (path, byte) in [(&journal, 200), (&cache, 20)] {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[byte] = 0;
        std::fs::write(path, bytes).unwrap();
    }
    let (status, out, _) = check(&[]);
    assert_eq!((status, out.matches("is damaged at byte").count()), (Some(1), 2), "{out}");
    assert!(out.contains("hint: it was left as it is; `runhound check --repair`, with the same"), "{out}");
    let (status, out, _) = check(&["--repair"]);
    assert_eq!(status, Some(0), "{out}");
    assert_eq!(out.matches("was damaged and is ").count(), 2, "{out}");
    assert!(out.contains("bytes cannot be read: redeliver in GitHub"), "{out}");
    let aside = std::fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".damaged-"));
    assert_eq!(aside.count(), 2);
    let service = launch.start();
    let known: Vec<String> = (1..=3).map(|id| service.deliver(&workflow_run(id)).says().to_owned()).collect();
    assert_eq!(known[1..], ["duplicate", "duplicate"], "one damage costs one run at the most");
    service.stop();
}

#[test]
fn errors_name_the_thing_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [Case; 8] = [
        (&["serve"], &[], 1, "runhound: no webhook secret"),
        (&["serve"], &[("GITHUB_WEBHOOK_SECRET", "x")], 1, "runhound: no Datadog API key"),
        (
            &["serve", "--dry-run"],
            &[("GITHUB_WEBHOOK_SECRET_FILE", "/none/secret")],
            1,
            "GITHUB_WEBHOOK_SECRET_FILE: /none/secret: No such file",
        ),
        (&["replay", "nowhere"], &[], 1, "runhound: nowhere: No such file"),
        (&["replay", "src"], &[], 1, "runhound: no delivery in src"),
        (
            &["replay", "--to=http://127.0.0.1:1/", "fixtures"],
            &[("GITHUB_WEBHOOK_SECRET", "x")],
            1,
            "no answer from http://127.0.0.1:1/",
        ),
        (
            &["serve", "--metric-prefix=9", "--dry-run"],
            &[("GITHUB_WEBHOOK_SECRET", "x")],
            1,
            "runhound: metric prefix \"9\"",
        ),
        (
            &["serve", "--cache-dir=Cargo.toml", "--dry-run"],
            &[("GITHUB_WEBHOOK_SECRET", "x")],
            1,
            "runhound: Cargo.toml: ",
        ),
    ];
    for (arguments, variables, code, error) in cases {
        let output = program(arguments).envs(variables.iter().copied()).env("TMPDIR", dir.path()).output().unwrap();
        let (status, _, err) = text(&output);
        assert_eq!(status, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(error) && err.contains("\nhint: "), "{arguments:?}: {err}");
    }
    for arguments in [&["serve", "--unknown"][..], &[], &["replay"], &["replay", "--live", "fixtures"]] {
        assert_eq!(program(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn check_says_what_is_wrong_and_how_to_mend_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", dir.path().display());
    let check = |variables: &[(&str, &str)]| {
        text(&program(&["check", &cache_dir]).envs(variables.iter().copied()).output().unwrap())
    };
    let (status, out, err) = check(&[("DD_SITE", "https://x")]);
    assert_eq!(status, Some(1));
    assert_eq!(out.matches("wrong  ").count(), 3, "{out}");
    assert_eq!(out.matches("hint: ").count(), 3, "{out}");
    assert!(err.contains("3 to mend"), "{err}");
    let intake = Intake::start();
    let url = intake.url();
    let good = [("GITHUB_WEBHOOK_SECRET", SECRET), ("DD_API_KEY", TEST_KEY), ("DD_URL", &url)];
    let (status, out, _) = check(&good);
    assert_eq!(status, Some(0), "{out}");
    assert!(!out.contains(SECRET) && !out.contains(TEST_KEY));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was changed");
    std::fs::write(dir.path().join("sent-workflows.json"), "{\"sent\": [\"1\"").unwrap();
    std::fs::write(dir.path().join("journal.jsonl"), "garbage").unwrap();
    let (status, out, _) = check(&good);
    assert_eq!(status, Some(1));
    assert_eq!(out.matches("is damaged at byte").count(), 2, "{out}");
}
