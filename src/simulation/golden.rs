//! Files of each format, which every later version must read. They hold every kind of record.

use super::{
    act::{Act, deliver},
    disk::Image,
    house::{Settings, files},
    intake::Fate,
    model::World,
};
use std::path::{Path, PathBuf};

/// Golden files.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(name: &str, file: &Path) -> String {
    std::fs::read_to_string(golden(name).join(file.file_name().unwrap())).unwrap()
}

/// What wrote the files of format 1 that hold jobs, with the last second of a family.
fn jobs() -> World {
    let mut world = World::new(Settings { compact_at_bytes: 500, ..Settings::default() }, &Image::new());
    world.play(&[deliver(&["jobs/4", "jobs/8", "4"]), Act::Go, Act::Pass(3), Act::Go]).unwrap();
    world.settings = Settings::default();
    let mut world = world.after_crash(&world.house.disk.seen());
    let in_doubt = Act::Fates(vec![Fate::TakenInSilence]);
    world.play(&[in_doubt, deliver(&["jobs/12", "jobs/5"]), Act::Go, deliver(&["jobs/16"])]).unwrap();
    world
}

/// What wrote the files of format 1.
fn runs() -> World {
    let mut world = World::new(Settings { compact_at_bytes: 1_000, ..Settings::default() }, &Image::new());
    world.play(&[deliver(&["4", "5", "6", "8", "10"]), Act::Go, Act::Pass(3), Act::Go]).unwrap();
    // What follows a compaction stays as it is written.
    world.settings = Settings::default();
    let mut world = world.after_crash(&world.house.disk.seen());
    let go_on = [Act::Go, Act::Pass(2)].into_iter().cycle();
    let mut acts = vec![Act::Poison(true), deliver(&["7", "12/attempts/2", "0"])];
    acts.extend(go_on.clone().take(16).chain([deliver(&["14"]), Act::Pass(61)]).chain(go_on.take(8)));
    acts.extend([Act::Fates(vec![Fate::TakenInSilence]), deliver(&["16", "9"]), Act::Go, deliver(&["20"])]);
    world.play(&acts).unwrap();
    world
}

#[test]
fn this_version_writes_format_1_to_the_last_byte() {
    for (name, world) in [("format-1", runs()), ("format-1-jobs", jobs())] {
        for file in [files().journal, files().cache] {
            let written = String::from_utf8(world.house.disk.text(&file).unwrap()).unwrap();
            let told = "another format needs another number, and golden files of its own";
            assert_eq!(written, read(name, &file), "{}: {told}", file.display());
        }
    }
}

#[test]
fn every_format_is_read_to_the_last_record() {
    let runs_kinds = ["journal", "last", "accept", "seal", "unseal", "reject"];
    let all = [("format-1", runs(), &runs_kinds[..], (8, 3)), ("format-1-jobs", jobs(), &runs_kinds[..4], (3, 3))];
    for (name, before, kinds, standing) in all {
        let journal = read(name, &files().journal);
        for kind in kinds {
            assert!(journal.contains(&format!("\n{{\"{kind}\":")), "the golden journal {name} has no {kind}");
        }
        let mut image = before.house.disk.seen();
        image.extend([files().journal, files().cache].map(|file| (file.clone(), read(name, &file).into_bytes())));
        let mut world = before.after_crash(&image);
        world.start().unwrap();
        let found = world.house.standing();
        assert_eq!((found.known, found.pending), standing);
        world.check_start().and_then(|()| world.check()).unwrap();
    }
}
