//! Real faults under the real program: a full disk, a directory that cannot be written or is gone, files that somebody
//! changed, a clock that is wrong.

pub(crate) mod mount;

use self::mount::Mount;
use crate::{
    github::{RunBuilder, workflow_run},
    harness::{Answer, SECRET, Service, Start, now, program, sent},
    intake::{Intake, TEST_KEY},
};
use serde_json::json;
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const TOTAL: &str = "github.actions.workflow_run.total";

/// A run that has just ended, of a workflow of its own: it waits for no other run's second.
fn run(id: u64) -> RunBuilder {
    workflow_run(id).workflow(&format!("workflow {id}")).started_at(now() - 60).updated_at(now())
}

/// Delivers a new run and waits for its push. What was pushed before is marked then: nothing is sealed before that.
fn push(service: &Service, id: u64) {
    assert_eq!(service.deliver(&run(id)).status, 202, "{id}");
    service.wait_for_pushes(1);
}

#[track_caller]
fn assert_refused_for_now(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some_and(|text| text.parse::<u32>().is_ok()), "{answer:?}");
}

#[track_caller]
fn assert_all_known(service: &Service, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        assert_eq!(service.deliver(&run(id)).says(), "duplicate", "{id}");
    }
}

/// Starts the service once more, and lets it push what is pending.
fn push_what_is_pending(launch: &Start) {
    let service = launch.start();
    service.wait_for_pushes(service.standing().1);
    service.stop();
}

fn cache_file(launch: &Start) -> PathBuf {
    launch.cache_dir.join("sent-workflows.json")
}

/// The IDs in the cache file, which is laid out as the plan has it.
#[track_caller]
fn sent_in_the_plans_layout(launch: &Start) -> Vec<u64> {
    let ids = sent(&cache_file(launch));
    let plans_layout = serde_json::to_string_pretty(&json!({ "sent": ids })).unwrap();
    assert_eq!(fs::read_to_string(cache_file(launch)).unwrap(), plans_layout);
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

/// Datadog has counted so many runs, and never had to throw away or overwrite anything.
#[track_caller]
fn assert_counted(intake: &Intake, runs: usize) {
    assert_eq!(intake.count(TOTAL), f64::from(u32::try_from(runs).unwrap()));
    assert_eq!((intake.overwritten(), intake.dropped()), (Vec::new(), Vec::new()));
    intake.assert_contract();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Leaves no room in a directory that is a small disk.
fn fill(dir: &Path) -> PathBuf {
    let ballast = dir.join("ballast");
    let copied = io::copy(&mut io::repeat(0), &mut File::create(&ballast).unwrap());
    assert_eq!(copied.unwrap_err().kind(), ErrorKind::StorageFull);
    ballast
}

/// Delivers runs from 1 on until one is refused; those that were not. On a full disk the last page of the journal still
/// has room for some.
fn accept_while_there_is_room(service: &Service) -> Vec<u64> {
    let accepted = (1..99).take_while(|id| service.deliver(&run(*id)).status == 202).collect();
    assert_refused_for_now(&service.deliver(&run(99)));
    accepted
}

#[test]
fn on_a_full_disk_deliveries_are_refused_and_taken_again_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = Mount::over(dir.path(), "size=64k") else { return };
    // While the intake is away nothing is sealed, so that only deliveries write.
    let intake = Intake::stopped();
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    let ballast = fill(dir.path());
    let mut accepted = accept_while_there_is_room(&service);
    for id in 100..105 {
        assert_refused_for_now(&service.deliver(&run(id)));
    }
    assert_all_known(&service, accepted.clone());
    assert_eq!(names(dir.path()), ["ballast", "journal.jsonl", "lock", "sent-workflows.json"]);
    let mut check = program(&["check", &format!("--cache-dir={}", dir.path().display())]);
    let another = Intake::start();
    check.envs([("GITHUB_WEBHOOK_SECRET", SECRET), ("DD_API_KEY", TEST_KEY), ("DD_URL", &another.url())]);
    let checked = check.output().unwrap();
    let report = String::from_utf8(checked.stdout).unwrap();
    assert!(report.contains(&format!("journal.jsonl: {} runs pending", accepted.len())), "{report}");
    assert!(checked.status.success(), "{report}");

    fs::remove_file(&ballast).unwrap();
    for id in [100, 200] {
        assert_eq!(service.deliver(&run(id)).status, 202);
        accepted.push(id);
    }
    service.stop();
    let service = launch.start();
    assert_eq!(service.standing(), (0, accepted.len()));
    assert_all_known(&service, accepted.clone());
    service.stop();
    intake.restart();
    push_what_is_pending(&launch);
    let mut sent = sent_in_the_plans_layout(&launch);
    sent.sort_unstable();
    assert_eq!(sent, accepted);
    assert_counted(&intake, accepted.len());
}

#[test]
fn what_was_accepted_survives_a_kill_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = Mount::over(dir.path(), "size=64k") else { return };
    let intake = Intake::stopped();
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    let ballast = fill(dir.path());
    let accepted = accept_while_there_is_room(&service);
    service.kill();
    fs::remove_file(&ballast).unwrap();
    let service = launch.start();
    assert_eq!(service.standing(), (0, accepted.len()));
    assert_all_known(&service, accepted);
    assert_eq!(service.deliver(&run(100)).status, 202);
}

#[test]
fn a_directory_that_cannot_be_written_is_named_at_the_start_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mount = Mount::over(dir.path(), "ro");
    // The first needs no mount: not even root can make a directory there.
    let mut dirs = vec![PathBuf::from("/proc/runhound")];
    dirs.extend(mount.iter().flat_map(|_| [dir.path().to_owned(), dir.path().join("cache")]));
    for dir in dirs {
        let output = Start::dry_run(&dir).command().output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.starts_with(&format!("runhound: {}", dir.display())), "{error}");
        assert!(error.contains("\nhint: the cache directory must exist"), "{error}");
    }
}

#[test]
fn while_the_directory_is_read_only_deliveries_are_refused_and_taken_again_afterwards() {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    let launch = Start::live(dir.path(), &intake);
    let service = launch.start();
    push(&service, 1);
    // A file system with files open for writing cannot be made read-only, but another can be put over it.
    let Some(read_only) = Mount::over(dir.path(), "ro") else { return };
    for id in [2, 3, 2] {
        assert_refused_for_now(&service.deliver(&run(id)));
    }
    assert_all_known(&service, [1]);
    drop(read_only);
    for id in [2, 4] {
        assert_eq!(service.deliver(&run(id)).status, 202);
    }
    service.stop();
    push_what_is_pending(&launch);
    assert_eq!(sent_in_the_plans_layout(&launch), [1, 2, 4]);
    assert_counted(&intake, 3);
}

#[test]
fn a_directory_deleted_in_use_is_made_anew_with_all_that_was_answered() {
    let (parent, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    let launch = Start::live(&parent.path().join("cache"), &intake);
    let service = launch.start();
    push(&service, 1);
    push(&service, 2);
    intake.stop();
    assert_eq!(service.deliver(&run(3)).status, 202);
    // Runs 1 and 2 are marked then, and run 3 is sealed: nothing more is written.
    service.wait_for_log("trying again");
    fs::remove_dir_all(&launch.cache_dir).unwrap();
    assert_eq!(service.deliver(&run(4)).status, 202);
    assert_eq!(names(&launch.cache_dir), ["journal.jsonl", "lock", "sent-workflows.json"]);
    assert_all_known(&service, 1..=4);
    service.stop();
    intake.restart();
    let service = launch.start();
    assert_eq!(service.standing(), (2, 2));
    assert_all_known(&service, 1..=4);
    service.stop();
    push_what_is_pending(&launch);
    assert_eq!(sent_in_the_plans_layout(&launch), [1, 2, 3, 4]);
    assert_counted(&intake, 4);
}

#[test]
fn of_two_processes_on_one_directory_whose_lock_was_removed_only_the_second_accepts() {
    let intake = Intake::start();
    let (dir, launch) = one_sent(&intake);
    // It has nothing to mark, which would take the lock anew before the second comes.
    let first = launch.start();
    fs::remove_file(dir.path().join("lock")).unwrap();
    let second = launch.start();
    intake.stop();
    // The first is told by its next delivery, and ends: it knows nothing of what the second accepts.
    assert_refused_for_now(&first.deliver(&run(2)));
    let (status, log) = first.wait();
    assert_eq!(status.code(), Some(1), "{log:#?}");
    let holder = format!("taken by process {} ", second.id());
    assert!(log.iter().any(|line| line.contains("ERROR") && line.contains(&holder)), "{log:#?}");
    assert!(log.iter().any(|line| line.starts_with("runhound: ")), "{log:#?}");
    for id in [2, 4] {
        assert_eq!(second.deliver(&run(id)).status, 202);
    }
    assert_all_known(&second, [1, 2, 4]);
    second.stop();
    intake.restart();
    push_what_is_pending(&launch);
    assert_eq!(sent_in_the_plans_layout(&launch), [1, 2, 4]);
    assert_counted(&intake, 3);
}

/// What a service leaves after run 1 was sent.
fn one_sent(intake: &Intake) -> (TempDir, Start) {
    let dir = tempfile::tempdir().unwrap();
    let launch = Start::live(dir.path(), intake);
    let service = launch.start();
    push(&service, 1);
    service.stop();
    (dir, launch)
}

/// The cache after run 1, as somebody has changed it by hand: in another layout, and with one more ID.
const BY_HAND: &str = r#"{ "sent": [ "777", "1" ] }"#;

#[test]
fn an_id_written_into_the_cache_in_use_is_kept_and_honoured() {
    let edit = |cache: &Path| fs::write(cache, BY_HAND).unwrap();
    let replace = |cache: &Path| {
        let beside = cache.with_extension("edited");
        fs::write(&beside, BY_HAND).unwrap();
        fs::rename(beside, cache).unwrap();
    };
    for change in [&edit as &dyn Fn(&Path), &replace] {
        let intake = Intake::start();
        let (_dir, launch) = one_sent(&intake);
        let service = launch.start();
        change(&cache_file(&launch));
        push(&service, 2);
        push(&service, 3);
        assert_all_known(&service, [777, 1, 2, 3]);
        service.stop();
        assert_eq!(sent_in_the_plans_layout(&launch), [777, 1, 2, 3]);
        assert_counted(&intake, 3);
    }
}

#[test]
fn an_id_written_into_the_cache_between_two_lives_is_kept_and_honoured() {
    let intake = Intake::start();
    let (_dir, launch) = one_sent(&intake);
    fs::write(cache_file(&launch), BY_HAND).unwrap();
    let service = launch.start();
    assert_eq!(service.standing(), (2, 0));
    assert_all_known(&service, [777, 1]);
    assert_eq!(fs::read_to_string(cache_file(&launch)).unwrap(), BY_HAND);
    push(&service, 2);
    service.stop();
    assert_eq!(sent_in_the_plans_layout(&launch), [777, 1, 2]);
    assert_counted(&intake, 2);
}

#[test]
fn a_cache_deleted_in_use_is_made_anew_with_all_that_was_sent() {
    let intake = Intake::start();
    let (_dir, launch) = one_sent(&intake);
    let service = launch.start();
    push(&service, 2);
    fs::remove_file(cache_file(&launch)).unwrap();
    push(&service, 3);
    push(&service, 4);
    assert_all_known(&service, 1..=4);
    service.stop();
    assert_eq!(sent_in_the_plans_layout(&launch), [1, 2, 3, 4]);
    assert_counted(&intake, 4);
}

#[test]
fn a_cache_deleted_between_two_lives_is_made_anew_with_all_that_the_journal_knows_as_sent() {
    let intake = Intake::start();
    let (_dir, launch) = one_sent(&intake);
    fs::remove_file(cache_file(&launch)).unwrap();
    let service = launch.start();
    assert_eq!((service.standing(), sent_in_the_plans_layout(&launch)), ((1, 0), vec![1]));
    assert_all_known(&service, [1]);
    push(&service, 2);
    service.stop();
    assert_eq!(sent_in_the_plans_layout(&launch), [1, 2]);
    assert_counted(&intake, 2);
}

#[test]
fn a_local_clock_a_day_apart_from_datadogs_is_warned_of_and_costs_no_run() {
    for apart_s in [86_400, -86_400] {
        let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
        intake.set_clock_offset(apart_s);
        let launch = Start::live(dir.path(), &intake);
        for ids in [[1, 2], [3, 4]] {
            let service = launch.start();
            for id in ids {
                push(&service, id);
            }
            let log = service.stop();
            let is_warning = |line: &String| line.contains(" WARN ") && line.contains("s apart from Datadog's");
            assert!(log.iter().any(is_warning), "{log:#?}");
        }
        assert_eq!(sent_in_the_plans_layout(&launch), [1, 2, 3, 4]);
        assert_counted(&intake, 4);
    }
}
