//! All of it in one walk: whatever was lost, and however often it is healed, each attempt is counted once.

use super::*;
use crate::harness::{PATIENCE, Starting};

/// Runs of the walk: the first attempts, and those of them that are run once more.
const RUNS: u64 = 200;
const RERUN: std::ops::RangeInclusive<u64> = 1..=20;

/// Runs that GitHub never tries to deliver.
const SILENT: std::ops::RangeInclusive<u64> = 101..=130;

/// Begins a command, waits until it has asked for so many payloads or jobs, and ends it as a power cut would.
fn kill_in_the_middle(scene: &Scene, arguments: &[&str], is_request: fn(&str) -> bool) {
    let asked_before = scene.hub.count(|asked| is_request(&asked.path));
    let started = Starting::of(&mut scene.command(arguments));
    scene.hub.wait_until(
        |state| state.requests().iter().filter(|asked| is_request(&asked.path)).count() >= asked_before + 10,
        PATIENCE,
    );
    started.kill();
}

#[test]
fn each_attempt_is_counted_once_whatever_was_lost_and_however_often_it_is_healed() {
    let scene = Scene::new();
    let service = scene.service();
    let url = webhook(&service);
    scene.run(&["register", "--repository", REPOSITORY, "--url", &url]).done();
    scene.hub.complete(&ended(1_000, 900));
    service.wait_for_pushes(1);
    service.stop();
    // The receiver is down.
    for id in 1..=RUNS {
        let run = ended(id, 800 - i64::try_from(id).unwrap());
        if SILENT.contains(&id) {
            scene.hub.complete_silently(&run);
        } else {
            scene.hub.complete(&run);
        }
    }
    for id in RERUN {
        scene.hub.complete(&ended(id, 300 - i64::try_from(id).unwrap()).attempt(2));
    }
    let recover = ["recover", "--repository", REPOSITORY];
    // A re-run keeps the day on which its run was made.
    let backfill = ["backfill", "--repository", REPOSITORY, "--since", "3d"];
    kill_in_the_middle(&scene, &recover, |path| path.contains("/deliveries/"));
    scene.run(&recover).done();
    assert_eq!(scene.run(&recover).done().counts("taken in"), 0);
    kill_in_the_middle(&scene, &backfill, |path| path.ends_with("/jobs"));
    scene.run(&backfill).done();
    assert_eq!(scene.run(&backfill).done().counts("taken in"), 0);
    scene.assert_counted(u32::try_from(RUNS + 20 + 1).unwrap());
    assert_eq!(scene.intake.count(DURATION_TOTAL), 60.0 * 221.0);
    let mut sent = scene.sent();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 221);
    // The receiver is back, and GitHub's next delivery of any of them is a duplicate.
    let service = scene.service();
    assert_eq!(service.deliver(&ended(7, 300)).says(), "duplicate");
    assert_eq!(service.deliver(&ended(107, 300)).says(), "duplicate");
    service.stop();
    scene.assert_counted(221);
}
