//! Files are damaged at every byte: a start refuses them and leaves them as they are, and a repair keeps every record that
//! can be read.

use super::{
    act::{Act, deliver},
    disk::Image,
    house::{Settings, files},
    intake::{Fate, TOTALS},
    model::{World, key},
};
use crate::{
    event::Key,
    ledger::{self, Accepted, FileError, OpenError, Repaired, Storage},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

const KEYS: [&str; 7] = ["1", "2", "4", "5", "6", "8", "9/attempts/2"];

/// A house whose files hold one of everything: settled batches, one that may be taken, a run that waits.
fn world() -> World {
    let mut world = World::new(Settings::default(), &Image::new());
    world.play(&[deliver(&KEYS[..3]), Act::Go, deliver(&KEYS[3..4]), Act::Go, Act::Pass(2)]).unwrap();
    let lost = Act::Fates(vec![Fate::TakenInSilence]);
    [deliver(&KEYS[4..6]), lost, Act::Go, deliver(&KEYS[6..])].iter().try_for_each(|act| world.act(act)).unwrap();
    world
}

/// Each file that can come of one damage before `end`.
fn damages(bytes: &[u8], end: usize) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..end).flat_map(move |at| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 4;
        let mut zeroed = bytes.to_vec();
        zeroed[at..end.min(at + 20)].fill(0);
        let mut shorter = bytes.to_vec();
        shorter.drain(at..end.min(at + 7));
        [flipped, zeroed, shorter].map(|damaged| (at, damaged))
    })
}

fn repair(world: &World) -> Vec<Repaired> {
    let storage: Arc<dyn Storage> = Arc::new(world.house.disk.clone());
    let now = world.house.intake.with(|state| state.now);
    ledger::repair(&storage, &files(), now).unwrap()
}

/// Starts from damaged files: refused by name, and left as they are. Then repairs them.
fn refuse_and_repair(before: &World, path: &Path, damaged: &[u8]) -> (World, Repaired) {
    let mut image = before.house.disk.seen();
    image.insert(path.to_owned(), damaged.to_vec());
    let mut world = before.after_crash(&image);
    match world.house.open().unwrap() {
        Err(OpenError::File(FileError::Damaged { path: named, .. })) => assert_eq!(named, path),
        other => panic!("{other:?}: {}", String::from_utf8_lossy(damaged)),
    }
    let without_lock = |mut image: Image| image.remove(&files().lock).map(|_| image).unwrap();
    assert_eq!(without_lock(world.house.disk.seen()), without_lock(image));
    let repaired = repair(&world);
    let [repaired] = repaired.try_into().unwrap();
    assert_eq!(repaired.path, path);
    assert_eq!(world.house.disk.text(&repaired.set_aside).unwrap(), damaged);
    assert_eq!(repair(&world), [], "nothing is left to repair");
    world.start().unwrap();
    (world, repaired)
}

/// Delivers everything again; what was not known any more.
fn missing(world: &mut World) -> Vec<Key> {
    let keys = KEYS.map(key);
    let answers = world.redeliver(&keys);
    let is_new = |answer: &Accepted| *answer == Accepted::New;
    keys.into_iter().zip(answers).filter(|(_, answer)| is_new(answer)).map(|(key, _)| key).collect()
}

#[test]
fn whatever_byte_of_the_journal_is_damaged_a_repair_keeps_every_run_that_can_be_read() {
    let before = world();
    let bytes = before.house.disk.text(&files().journal).unwrap();
    // The last group, damaged, looks like a torn write that was never answered.
    let last = bytes.windows(9).rposition(|text| text == b"{\"group\":").unwrap();
    let mut tried = 0;
    for (at, damaged) in damages(&bytes, last) {
        let (mut world, repaired) = refuse_and_repair(&before, &files().journal, &damaged);
        let missing = missing(&mut world);
        // One damage reaches two records at the most, for it is shorter than one.
        assert!(missing.len() <= 2, "byte {at}: {missing:?} {repaired:?}");
        let doubts = repaired.doubts;
        let is_told = |key: &Key| doubts.lost.contains(key);
        let could_be_read = doubts.unreadable_bytes == 0 && doubts.unsure.is_empty();
        assert!(!could_be_read || missing.iter().all(is_told), "byte {at}: {missing:?} {doubts:?}");
        world.send_everything().unwrap();
        let counted = world.house.intake.with(|state| state.sum_of_all(&TOTALS)) as usize;
        let most = KEYS.len() + doubts.in_doubt.len() + doubts.unsure.len() + missing.len();
        assert!(
            (KEYS.len()..=most).contains(&counted),
            "byte {at}: {counted} of {most}: {doubts:?} {missing:?} {}",
            String::from_utf8_lossy(&damaged)
        );
        assert_eq!(world.house.intake.with(|state| state.overwritten.clone()), Vec::<String>::new());
        tried += 1;
    }
    println!("{tried} damaged journals");
}

#[test]
fn whatever_byte_of_the_cache_is_damaged_a_repair_and_the_journal_keep_every_id() {
    let before = world();
    let bytes = before.house.disk.text(&files().cache).unwrap();
    let mut tried = 0;
    for (at, damaged) in damages(&bytes, bytes.len()) {
        let mut image = before.house.disk.seen();
        image.insert(files().cache, damaged.clone());
        let mut world = before.after_crash(&image);
        // A damage can be another valid file, with another ID in it; or look like a torn mark, which the journal completes.
        if world.house.open().unwrap().is_err() {
            world = refuse_and_repair(&before, &files().cache, &damaged).0;
        }
        assert_eq!(missing(&mut world), [], "byte {at}");
        tried += 1;
    }
    println!("{tried} damaged caches");
}

#[test]
fn a_file_set_aside_takes_no_name_that_is_taken() {
    let before = world();
    let mut names: Vec<PathBuf> = Vec::new();
    let mut image = before.house.disk.seen();
    for _ in 0..3 {
        image.insert(files().cache, b"{\"sent\": [".to_vec());
        let world = before.after_crash(&image);
        names.extend(repair(&world).into_iter().map(|repaired| repaired.set_aside));
        image = world.house.disk.seen();
    }
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn a_repair_that_is_crashed_leaves_the_damaged_file_or_the_new_one() {
    let before = world();
    let mut image = before.house.disk.seen();
    image.get_mut(&files().journal).unwrap()[40] ^= 4;
    let damaged = image[&files().journal].clone();
    for point in 1.. {
        let world = before.after_crash(&image);
        world.house.disk.crash_after(point);
        if super::disk::until_crash(|| repair(&world)).is_some() {
            break;
        }
        for image in world.house.disk.images(false) {
            let mut after = before.after_crash(&image);
            if image[&files().journal] == damaged {
                assert!(after.house.open().unwrap().is_err());
                assert_eq!(repair(&after).len(), 1);
            }
            after.start().unwrap();
            assert!(missing(&mut after).len() <= 2);
        }
    }
}

#[test]
fn a_format_of_another_version_is_not_repaired_but_named() {
    let before = world();
    let mut image = before.house.disk.seen();
    let newer = b"{\"journal\":{\"format\":9,\"birth\":7}}\n";
    let crc = crc32fast::hash(&[format!("1 {}\n", newer.len()).as_bytes(), newer].concat());
    let header = format!("{{\"group\":1,\"bytes\":{},\"crc32\":\"{crc:08x}\"}}\n", newer.len());
    image.insert(files().journal, [header.as_bytes(), newer].concat());
    let mut world = before.after_crash(&image);
    for error in [world.house.open().unwrap().unwrap_err(), {
        let storage: Arc<dyn Storage> = Arc::new(world.house.disk.clone());
        ledger::repair(&storage, &files(), 0).unwrap_err()
    }] {
        assert!(matches!(error, OpenError::File(FileError::Format { found: 9, .. })), "{error}");
        assert!(error.hint().contains("the version of runhound that wrote it"));
    }
    assert_eq!(world.house.disk.text(&files().journal), image.get(&files().journal).cloned());
}
