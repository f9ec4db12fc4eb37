//! Single rules of the ledger under faults, each with the one thing that breaks.

use super::{
    act::{Act, deliver},
    disk::Image,
    house::{Settings, files},
    intake::Fate,
    model::{World, key},
};
use crate::ledger::{Accepted, Storage};
use std::{collections::HashSet, io::ErrorKind, path::Path};

fn world_with(settings: Settings) -> World {
    let mut world = World::new(settings, &Image::new());
    world.start().unwrap();
    world
}

fn world() -> World {
    world_with(Settings::default())
}

/// What runs that come in at the same moment are answered; `None` for a 503.
fn answers(world: &mut World, keys: &[&str]) -> Vec<Option<Accepted>> {
    let keys: Vec<_> = keys.iter().map(|text| key(text)).collect();
    world.deliver(&keys).unwrap().into_iter().map(Result::ok).collect()
}

fn play(world: &mut World, acts: &[Act]) {
    acts.iter().try_for_each(|act| world.act(act)).unwrap();
}

/// Loses power in every way, and sees what is pending at the next start.
fn pending_after_a_crash(world: &World) -> Vec<usize> {
    world.house.disk.images(true).iter().map(|image| pending_at_a_start(world, image)).collect()
}

/// What is pending at the start after a crash that has left this.
fn pending_at_a_start(world: &World, left: &Image) -> usize {
    let mut after = world.after_crash(left);
    after.start().unwrap();
    let pending = after.house.standing().pending;
    after.check_start().and_then(|()| after.check()).unwrap();
    pending
}

fn file_of(world: &World, path: &Path) -> (u64, u64) {
    world.house.disk.stamp(path).unwrap().unwrap().file
}

const NEW: Option<Accepted> = Some(Accepted::New);
const DUPLICATE: Option<Accepted> = Some(Accepted::Duplicate);

#[test]
fn requests_that_wait_at_the_same_moment_share_one_sync() {
    let mut world = world();
    let before = world.house.disk.syncs();
    let keys: Vec<String> = (1..=100).map(|id| id.to_string()).chain(["50".to_owned()]).collect();
    let answers = answers(&mut world, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(answers.iter().filter(|answer| **answer == NEW).count(), 100, "one of the twins is a duplicate");
    assert_eq!(world.house.disk.syncs() - before, 1);
}

#[test]
fn a_duplicate_of_a_run_that_is_not_yet_on_disk_shares_the_outcome_of_its_sync() {
    let mut world = world();
    world.house.disk.fail_next(2, ErrorKind::Other, false);
    assert_eq!(answers(&mut world, &["2", "2"]), [None, None]);
    assert_eq!(world.house.standing().pending, 0);
    assert_eq!(answers(&mut world, &["2"]), [NEW]);
}

#[test]
fn after_a_failed_sync_or_write_a_new_journal_goes_on_from_what_was_synced() {
    for nth in [1, 2] {
        let mut world = world();
        answers(&mut world, &["1"]);
        let before = file_of(&world, &files().journal);
        world.house.disk.fail_next(nth, ErrorKind::Other, false);
        assert_eq!(answers(&mut world, &["2"]), [None]);
        assert_eq!(answers(&mut world, &["4"]), [NEW]);
        assert_ne!(file_of(&world, &files().journal), before);
        assert!(pending_after_a_crash(&world).iter().all(|pending| *pending == 2));
    }
}

#[test]
fn while_the_disk_is_full_nothing_is_accepted_and_it_accepts_again_by_itself() {
    for error in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::Other] {
        let mut world = world();
        answers(&mut world, &["1"]);
        world.house.disk.fail_next(1, error, true);
        for _ in 0..3 {
            assert_eq!(answers(&mut world, &["2", "5"]), [None, None]);
        }
        assert_eq!(answers(&mut world, &["1"]), [DUPLICATE], "what is on disk is told all the same");
        world.house.disk.mend();
        assert_eq!(answers(&mut world, &["2"]), [NEW]);
        assert!(pending_after_a_crash(&world).iter().all(|pending| *pending == 2));
        assert!(!world.house.disk.seen().keys().any(|name| name.extension().is_some_and(|end| end == "new")));
    }
}

#[test]
fn a_failed_mark_goes_to_a_new_file_and_only_the_mark_is_tried_again() {
    let mut world = world();
    play(&mut world, &[deliver(&["1"]), Act::Go, deliver(&["4"])]);
    let before = file_of(&world, &files().cache);
    // Seal: a write and a sync. Then the mark.
    world.house.disk.fail_next(3, ErrorKind::Other, true);
    play(&mut world, &[Act::Go, Act::Pass(1), Act::Go]);
    assert_eq!(world.house.standing().pending, 1);
    world.house.disk.mend();
    play(&mut world, &[deliver(&["8"]), Act::Pass(2), Act::Go]);
    assert_ne!(file_of(&world, &files().cache), before);
    assert!(world.house.sent().unwrap().starts_with(&["1".to_owned(), "4".to_owned()]));
    assert_eq!(world.house.intake.with(|state| state.tries), 3);
    world.check().unwrap();
}

#[test]
fn a_new_cache_whose_name_is_not_durable_yet_is_not_counted_on() {
    for point in 1.. {
        let mut world = world();
        play(&mut world, &[deliver(&["1"]), Act::Go, deliver(&["4"])]);
        let disk = world.house.disk.clone();
        // Seal: a write and a sync. Mark: a write, and a sync that fails. A new file: made, written, synced, renamed; then
        // the sync of the folder, which fails. And so does the next write of the journal: a new one is made.
        for nth in [4, 9, 10] {
            disk.fail_next(nth, ErrorKind::Other, false);
        }
        play(&mut world, &[Act::Go]);
        assert_eq!(answers(&mut world, &["5"]), [None]);
        disk.crash_after(disk.operations() + point);
        if world.deliver(&[key("5")]).is_some() {
            break;
        }
        for image in disk.images(false) {
            world.after_crash(&image).start_and_check();
        }
    }
}

#[test]
fn what_is_read_at_a_start_is_on_disk_before_it_counts() {
    // The process is killed after a write, or after a sync that failed, and the power goes after the next start.
    for fails in [false, true] {
        let mut world = world();
        answers(&mut world, &["1"]);
        let disk = world.house.disk.clone();
        if fails {
            disk.fail_next(2, ErrorKind::Other, false);
            answers(&mut world, &["2"]);
        } else {
            disk.crash_after(disk.operations() + 1);
            assert!(world.deliver(&[key("2")]).is_none());
        }
        play(&mut world, &[Act::Kill]);
        assert_eq!(answers(&mut world, &["2"]), [DUPLICATE], "it can be read");
        assert!(pending_after_a_crash(&world).iter().all(|pending| *pending == 2));
    }
}

#[test]
fn a_mark_that_is_read_at_a_start_is_on_disk_before_it_counts() {
    let mut world = world_with(Settings { compact_at_bytes: 1, ..Settings::default() });
    let disk = world.house.disk.clone();
    play(&mut world, &[deliver(&["1"]), Act::Step, Act::Step, Act::Step]);
    disk.fail_next(2, ErrorKind::Other, false);
    // The mark is written, its sync fails, and the process is killed before the new file is made.
    disk.crash_after(disk.operations() + 2);
    assert!(world.act(&Act::Step).is_none());
    disk.mend();
    play(&mut world, &[Act::Kill]);
    assert_eq!(world.house.sent().unwrap(), ["1"], "it can be read");
    play(&mut world, &[deliver(&["4", "8"]), Act::Go]);
    for image in disk.images(true) {
        world.after_crash(&image).start_and_check();
    }
}

#[test]
fn a_failed_compaction_costs_nothing() {
    let mut world = world_with(Settings { compact_at_bytes: 1_000, ..Settings::default() });
    play(&mut world, &[deliver(&["1", "2", "4", "5", "6", "8", "9"]), Act::Step, Act::Step, Act::Step]);
    let before = file_of(&world, &files().journal);
    // The mark: a write and a sync. Then the new journal: made, written, synced.
    world.house.disk.fail_next(5, ErrorKind::Other, false);
    play(&mut world, &[Act::Go]);
    assert_eq!(file_of(&world, &files().journal), before);
    assert_eq!(answers(&mut world, &["10"]), [NEW]);
    assert!(pending_after_a_crash(&world).iter().all(|pending| *pending == 1));
}

#[test]
fn a_new_file_counts_only_once_its_name_is_durable() {
    let mut world = world();
    answers(&mut world, &["1"]);
    world.house.disk.take_away(&files().journal);
    // Made, written, synced, renamed; then the folder.
    world.house.disk.fail_next(5, ErrorKind::Other, false);
    assert_eq!(answers(&mut world, &["2"]), [None]);
    assert_eq!(answers(&mut world, &["2"]), [NEW]);
    assert!(pending_after_a_crash(&world).iter().all(|pending| *pending == 2));
}

#[test]
fn a_new_journal_of_several_pieces_takes_the_old_ones_place_as_a_whole_or_not_at_all() {
    let mut before = world();
    let ids: Vec<String> = (1..=12_000).map(|id| id.to_string()).collect();
    assert_eq!(answers(&mut before, &ids.iter().map(String::as_str).collect::<Vec<_>>()), [NEW; 12_000]);
    before.house.disk.edit(&files().journal, |bytes| bytes.push(b' '));
    let image = before.house.disk.seen();
    let changed = |point: usize, change: fn(&World, usize)| {
        let mut world = before.after_crash(&image);
        world.start().unwrap();
        world.house.disk.edit(&files().journal, |bytes| bytes.push(b' '));
        change(&world, point);
        world
    };
    let fail = |world: &World, point| world.house.disk.fail_next(point, ErrorKind::Other, false);
    let crash = |world: &World, point| world.house.disk.crash_after(world.house.disk.operations() + point);
    let journals = |world: &World| -> HashSet<Vec<u8>> {
        world.house.disk.images(false).iter().map(|image| image[&files().journal].clone()).collect()
    };
    // Made, two pieces written, synced, renamed; then the folder.
    let mut last = changed(6, crash);
    let old = last.house.disk.text(&files().journal).unwrap();
    assert!(last.deliver(&[key("12001")]).is_none());
    let new = last.house.disk.text(&files().journal).unwrap();
    assert!(new != old && new.len() > 1 << 20);
    assert_eq!(pending_at_a_start(&last, &last.house.disk.seen()), 12_000);
    let one_of_both = HashSet::from([old, new]);
    for point in 1..=6 {
        let mut world = changed(point, fail);
        assert_eq!(answers(&mut world, &["12001"]), [None], "change {point} fails");
        assert!(journals(&world).is_subset(&one_of_both), "change {point} fails");
        assert_eq!(answers(&mut world, &["12001"]), [NEW]);
        let mut world = changed(point, crash);
        assert!(world.deliver(&[key("12001")]).is_none(), "a crash after change {point}");
        assert!(journals(&world).is_subset(&one_of_both), "a crash after change {point}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_empty() {
    let mut world = world();
    play(&mut world, &[deliver(&["1"]), Act::Go, deliver(&["2"])]);
    let before = world.house.disk.seen();
    world.kill();
    world.house.disk.fail_reads(true);
    let error = world.house.open().unwrap().unwrap_err();
    assert!(error.to_string().contains("journal.jsonl"), "{error}");
    world.house.disk.fail_reads(false);
    let lock = (files().lock, before[&files().lock].clone());
    assert_eq!(world.house.disk.seen().into_iter().chain([lock]).collect::<Image>(), before);
    world.start_and_check();
}

#[test]
fn a_deleted_directory_is_made_anew_with_all_that_was_recorded() {
    let mut world = world();
    play(&mut world, &[deliver(&["1", "2"]), Act::Go, deliver(&["4"])]);
    world.house.disk.take_away_folder(&files().dir);
    assert_eq!(answers(&mut world, &["5"]), [NEW]);
    assert!(world.house.disk.text(&files().lock).is_some(), "the lock is where others look for it");
    for image in world.house.disk.images(true) {
        let mut after = world.after_crash(&image);
        after.start().unwrap();
        assert_eq!((after.house.standing().known, after.house.standing().pending), (2, 2));
        after.check_start().and_then(|()| after.check()).unwrap();
    }
}

#[test]
fn a_clean_stop_makes_anew_what_somebody_has_removed_or_changed() {
    let removals: [fn(&World); 3] = [
        |world| world.house.disk.take_away_folder(&files().dir),
        |world| world.house.disk.take_away(&files().journal),
        |world| world.house.disk.edit(&files().journal, |bytes| bytes[30] ^= 1),
    ];
    for remove in removals {
        let mut world = world();
        play(&mut world, &[deliver(&["1", "2"]), Act::Go, deliver(&["4", "5"])]);
        remove(&world);
        play(&mut world, &[Act::Restart]);
        assert_eq!((world.house.standing().known, world.house.standing().pending), (2, 2));
        world.check_start().and_then(|()| world.check()).unwrap();
    }
}

#[test]
fn ids_that_are_written_back_at_a_start_survive_a_crash_of_it() {
    // After a compaction the first batch that the journal knows was sealed when the cache held others already.
    let mut world = world_with(Settings { compact_at_bytes: 700, ..Settings::default() });
    for id in ["1", "2", "4", "5", "6"] {
        play(&mut world, &[deliver(&[id]), Act::Pass(2), Act::Go]);
    }
    world.settings = Settings::default();
    let mut world = world.after_crash(&world.house.disk.seen());
    world.start().unwrap();
    play(&mut world, &[deliver(&["8"]), Act::Pass(2), Act::Go, deliver(&["9"]), Act::Pass(2), Act::Go]);
    play(&mut world, &[Act::Fates(vec![Fate::TakenInSilence]), deliver(&["10"]), Act::Pass(2), Act::Go]);
    let mut image = world.house.disk.seen();
    image.remove(&files().cache);
    // What the journal still knows comes back.
    let mut whole = World::new(Settings::default(), &image);
    whole.start().unwrap();
    let known = whole.house.sent().unwrap();
    assert!(known.len() > 1 && whole.house.standing().pending == 1, "{known:?}");
    for mark in [false, true] {
        for point in 1.. {
            let mut world = World::new(Settings::default(), &image);
            world.house.disk.crash_after(point);
            let acts = if mark { &[Act::Go, Act::Pass(1), Act::Go][..] } else { &[] };
            if world.play(acts).is_some() {
                break;
            }
            for image in world.house.disk.images(true) {
                let mut after = world.after_crash(&image);
                after.start().unwrap();
                assert!(after.house.sent().unwrap().starts_with(&known), "after change {point}");
            }
        }
    }
}

#[test]
fn a_cache_cut_below_what_it_held_when_the_batch_was_sealed_is_damaged() {
    let mut world = world_with(Settings { compact_at_bytes: 1_000, ..Settings::default() });
    play(&mut world, &[deliver(&["1", "2", "4", "5", "6", "8"]), Act::Pass(3), Act::Go, Act::Pass(3), Act::Go]);
    play(&mut world, &[Act::Fates(vec![Fate::NoConnection]), deliver(&["9"]), Act::Pass(2), Act::Go]);
    // A new journal, in which the open batch is the only one.
    world.house.disk.edit(&files().journal, |bytes| bytes.push(b' '));
    play(&mut world, &[deliver(&["10"])]);
    let mut image = world.house.disk.seen();
    image.get_mut(&files().cache).unwrap().truncate(40);
    let error = world.after_crash(&image).house.open().unwrap().unwrap_err().to_string();
    assert!(error.contains("sent-workflows.json is damaged at byte"), "{error}");
}

#[test]
fn a_compaction_does_not_outlive_a_deleted_cache() {
    let mut world = world_with(Settings { compact_at_bytes: 1, ..Settings::default() });
    play(&mut world, &[deliver(&["1", "2"]), Act::Go]);
    world.house.disk.take_away(&files().cache);
    // The journal that made way knew what was sent.
    play(&mut world, &[Act::Fates(vec![Fate::NoConnection]), deliver(&["4"]), Act::Go, Act::Mend]);
    world.house.disk.edit(&files().journal, |bytes| bytes.push(b' '));
    play(&mut world, &[deliver(&["5"])]);
    for image in world.house.disk.images(true) {
        world.after_crash(&image).start_and_check();
    }
}

#[test]
fn a_journal_that_somebody_changed_is_written_anew_from_what_was_synced() {
    let changes: [fn(&mut Vec<u8>); 3] = [|bytes| bytes.clear(), |bytes| bytes.push(b'\n'), |bytes| bytes[30] ^= 1];
    for change in changes {
        let mut world = world();
        answers(&mut world, &["1"]);
        world.house.disk.edit(&files().journal, change);
        assert_eq!(answers(&mut world, &["2"]), [NEW]);
        assert!(pending_after_a_crash(&world).iter().all(|pending| *pending == 2));
    }
}

#[test]
fn who_lost_the_lock_records_nothing_more() {
    let mut world = world();
    // Asked the time, sealed, pushed: the mark comes next.
    play(&mut world, &[deliver(&["1"]), Act::Step, Act::Step, Act::Step]);
    world.house.disk.take_away(&files().lock);
    let mut second = World::new(Settings::default(), &Image::new());
    second.house.disk = world.house.disk.clone();
    second.start().unwrap();
    assert_eq!(second.deliver(&[key("4")]).unwrap().into_iter().map(Result::ok).collect::<Vec<_>>(), [NEW]);
    let refuses = |world: &mut World, id| {
        let refused = world.deliver(&[key(id)]).unwrap().remove(0).unwrap_err().to_string();
        assert!(refused.contains("lock was removed, and taken by process"), "{refused}");
    };
    refuses(&mut world, "5");
    play(&mut world, &[Act::Go]);
    assert_eq!(world.house.sent().unwrap(), Vec::<String>::new(), "two that write into one cache would destroy it");
    assert_eq!(second.deliver(&[key("5")]).unwrap().remove(0).ok(), NEW);
    second.kill();
    refuses(&mut world, "8");
    world.house.disk.take_away(&files().lock);
    refuses(&mut world, "9");
    world.kill();
    world.start().unwrap();
    assert_eq!(world.house.standing().pending, 3, "what the second accepted is still there");
}
