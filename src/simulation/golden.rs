//! Files of each format, which every later version must read. They hold every kind of record.

use super::{
    act::{Act, deliver},
    disk::Image,
    house::{Settings, files},
    intake::Fate,
    model::World,
};
use std::path::{Path, PathBuf};

/// The golden files of a format.
fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("format-{format}"))
}

fn read(format: u32, file: &Path) -> String {
    std::fs::read_to_string(golden(format).join(file.file_name().unwrap())).unwrap()
}

/// What wrote the files of format 1.
fn world() -> World {
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
    let world = world();
    for file in [files().journal, files().cache] {
        let written = String::from_utf8(world.house.disk.text(&file).unwrap()).unwrap();
        let told = "another format needs another number, and golden files of its own";
        assert_eq!(written, read(1, &file), "{}: {told}", file.display());
    }
}

#[test]
fn every_format_is_read_to_the_last_record() {
    let journal = read(1, &files().journal);
    for kind in ["journal", "last", "accept", "seal", "unseal", "reject"] {
        assert!(journal.contains(&format!("\n{{\"{kind}\":")), "the golden journal has no {kind}");
    }
    let before = world();
    let mut image = before.house.disk.seen();
    image.extend([files().journal, files().cache].map(|file| (file.clone(), read(1, &file).into_bytes())));
    let mut world = before.after_crash(&image);
    world.start().unwrap();
    let standing = world.house.standing();
    assert_eq!((standing.known, standing.pending), (8, 3));
    world.check_start().and_then(|()| world.check()).unwrap();
}
