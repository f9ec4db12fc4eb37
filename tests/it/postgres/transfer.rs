//! From files into the database and back, while the ledger has something of everything.

use super::replicas::{Stage, run};
use crate::{
    commands::text,
    harness::{PATIENCE, Service, Start, program, sent},
    intake::Order,
};
use serde_json::Value;
use std::{fs, ops::RangeInclusive, path::Path};

/// Copies, in either direction.
fn copy(stage: &Stage, way: &str, dir: &Path) -> (Option<i32>, String, String) {
    let cache_dir = format!("--cache-dir={}", dir.display());
    let output = program(&["ledger", way, &cache_dir, &format!("--ledger={}", stage.url)]).output().unwrap();
    text(&output)
}

/// What a copy says that it has.
fn copied(stage: &Stage, way: &str, dir: &Path) -> Vec<String> {
    let (status, out, err) = copy(stage, way, dir);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    out.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// A service on files that has sent runs 1 to 3, and is killed with 4 in the open batch, whose answer was lost, 5 and 6 waiting, and
/// a line for people.
fn leave_files(stage: &Stage, dir: &Path) {
    let service = Start::live(dir, &stage.intake).with_admin().start();
    deliver(&service, 1..=3, "accepted");
    service.wait_for_pushes(3);
    let before = stage.intake.requests().len();
    stage.intake.set_policy(|_| Order::StoreThenDrop);
    deliver(&service, 4..=4, "accepted");
    stage.intake.wait_until(|state| state.requests().len() > before, PATIENCE);
    deliver(&service, 5..=6, "accepted");
    assert_eq!(service.deliver(&run(7).set("/workflow_run/id", Value::Null)).status, 200);
    service.kill();
    stage.intake.recover();
}

fn deliver(service: &Service, ids: RangeInclusive<u64>, says: &str) {
    for id in ids {
        assert_eq!(service.deliver(&run(id)).says(), says, "{id}");
    }
}

#[test]
fn a_ledger_that_goes_into_the_database_and_back_counts_each_run_once_on_its_way() {
    let Some(stage) = Stage::new() else { return };
    let there = tempfile::tempdir().unwrap();
    let (files, back) = (there.path().join("files"), there.path().join("back"));
    leave_files(&stage, &files);
    let all = [
        "3 IDs of runs sent, 0 of which were there before",
        "3 runs pending, 1 of them in the open batch",
        "1 rejected lines",
    ];
    assert_eq!(copied(&stage, "import", &files), all);
    // As if the first one had broken off at its end.
    let again = [&all[0].replace(", 0 of", ", 3 of"), all[1], all[2]];
    assert_eq!(copied(&stage, "import", &files), again);
    assert_eq!(stage.keys(), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(stage.number("select count(*) from runhound.rejected"), 1);
    let [replica] = stage.start();
    stage.wait_until_all_is_sent();
    stage.assert_counted(6);
    for way in ["import", "export"] {
        let (status, _, err) = copy(&stage, way, if way == "import" { &files } else { &back });
        assert_eq!(status, Some(1));
        assert!(err.contains("a replica delivers") && err.contains("hint: stop all replicas"), "{err}");
    }
    replica.stop();
    // A batch that was sent since does not come back.
    copied(&stage, "import", &files);
    stage.assert_counted(6);
    let exported =
        ["6 IDs of runs sent, 0 of which were there before", "0 runs pending, 0 of them in the open batch", all[2]];
    assert_eq!(copied(&stage, "export", &back.join("")), exported);
    assert_eq!(sent(&back.join("sent-workflows.json")), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(fs::read(back.join("rejected.jsonl")).unwrap(), fs::read(files.join("rejected.jsonl")).unwrap());
    let service = Start::live(&back, &stage.intake).start();
    deliver(&service, 1..=6, "duplicate");
    deliver(&service, 8..=8, "accepted");
    service.wait_for_pushes(1);
    service.stop();
    assert_eq!(stage.intake.count(super::replicas::TOTAL), 7.0);
    assert!(copy(&stage, "export", &back).2.contains("is there already"));
}

#[test]
fn what_is_pending_goes_back_into_files_as_it_stands() {
    let Some(stage) = Stage::new() else { return };
    let there = tempfile::tempdir().unwrap();
    let (files, back) = (there.path().join("files"), there.path().join("back"));
    leave_files(&stage, &files);
    copied(&stage, "import", &files);
    // What a copy that broke off has left.
    fs::create_dir(there.path().join("back.part")).unwrap();
    fs::write(there.path().join("back.part/sent-workflows.json"), "{\n  \"sent\": [\n    \"1\"\n  ]\n}").unwrap();
    let exported = [
        "3 IDs of runs sent, 1 of which were there before",
        "3 runs pending, 1 of them in the open batch",
        "1 rejected lines",
    ];
    assert_eq!(copied(&stage, "export", &back), exported);
    assert_eq!(sent(&back.join("sent-workflows.json")), ["1", "2", "3"]);
    let service = Start::live(&back, &stage.intake).with_admin().start();
    service.wait_for_status(|status| status["known_ids"] == 6);
    deliver(&service, 1..=6, "duplicate");
    assert_eq!((stage.intake.count(super::replicas::TOTAL), stage.intake.overwritten()), (6.0, Vec::new()));
}

#[test]
fn what_cannot_be_copied_is_told_and_left_as_it_is() {
    let Some(stage) = Stage::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (way, cause) in [("import", "there is no ledger in it"), ("export", "there is no ledger in it")] {
        let (status, _, err) = copy(&stage, way, &dir.path().join("nothing"));
        assert!(status == Some(1) && err.contains(cause) && err.contains("hint: "), "{err}");
    }
    assert_eq!(stage.number("select count(*) from pg_namespace where nspname = 'runhound'"), 0, "nothing is made");
    let service = Start::live(dir.path(), &stage.intake).start();
    let (status, _, err) = copy(&stage, "import", dir.path());
    assert!(status == Some(1) && err.contains("hint: stop the service that has these files"), "{err}");
    service.stop();
    let long = "9".repeat(3_000);
    fs::write(dir.path().join("sent-workflows.json"), format!("{{\"sent\": [\"{long}\"]}}")).unwrap();
    let (status, _, err) = copy(&stage, "import", dir.path());
    assert!(status == Some(1) && err.contains("an ID of 3000 bytes"), "{err}");
}
