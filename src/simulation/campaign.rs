//! Chance, from a seed: whatever can happen does, in any order, against the model.
//!
//! `RUNHOUND_TORTURE_CASES` says how many cases (2,000), `RUNHOUND_TORTURE_SEED` with which seed the first one begins (1).
//! A case that fails tells its seed, and what happened in the fewest acts that fail.

use super::{act::Act, disk::Image, house::Settings, intake::Fate, model::World};
use crate::{
    event::{Attempt, JobId, Key, RunId, RunKey},
    ledger::Reruns,
};
use std::{
    io::ErrorKind,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
};

const ACTS: usize = 60;

/// As long as no more time than this has passed, no batch can have become too old to be repeated.
const BRISK_S: i64 = 2400;

const STATUSES: [u16; 8] = [302, 401, 403, 404, 408, 429, 500, 503];

fn fate(random: &mut fastrand::Rng) -> Fate {
    let status = STATUSES[random.usize(..STATUSES.len())];
    match random.u8(0..10) {
        0 | 1 => Fate::Take,
        2 | 3 => Fate::Status(status),
        4 => Fate::NoConnection,
        5 => Fate::Silence,
        6 => Fate::TakenInSilence,
        7 => Fate::TakenBut(if random.bool() { 500 } else { 408 }),
        8 => Fate::Late,
        _ => Fate::Crash { is_stored: random.bool() },
    }
}

fn key(random: &mut fastrand::Rng) -> Key {
    if random.u8(0..3) == 0 {
        return Key::Job(JobId(random.u64(0..60)));
    }
    let attempt = if random.u8(0..4) == 0 { random.u32(2..4) } else { 1 };
    RunKey { id: RunId(random.u64(0..60)), attempt: Attempt(NonZeroU32::new(attempt).unwrap()) }.into()
}

fn seconds(random: &mut fastrand::Rng, world: &World) -> u64 {
    if world.is_slow && random.u8(0..6) == 0 {
        return random.u64(0..90_000);
    }
    let longest = if random.u8(0..4) == 0 { 120 } else { 4 };
    if world.is_slow || world.passed() < BRISK_S { random.u64(0..longest) } else { 0 }
}

fn act(random: &mut fastrand::Rng, world: &World) -> Act {
    match random.u8(0..100) {
        0..30 => Act::Deliver((0..random.usize(1..5)).map(|_| key(random)).collect()),
        30..50 => Act::Go,
        50..58 => Act::Step,
        58..70 => Act::Pass(seconds(random, world)),
        70..79 => Act::Fates((0..random.usize(1..5)).map(|_| fate(random)).collect()),
        79..81 => Act::LargestPayload(random.bool().then(|| random.usize(700..3000))),
        81..84 => Act::Land,
        84..87 => Act::Restart,
        87..92 => {
            let error = [ErrorKind::StorageFull, ErrorKind::Other, ErrorKind::ReadOnlyFilesystem][random.usize(..3)];
            Act::Fail(random.usize(1..8), error, random.u8(0..3) == 0)
        }
        92..96 => Act::Mend,
        96 => Act::StepClock(random.i64(-100_000..100_000)),
        97 => Act::Kill,
        _ => Act::CrashAfter(random.usize(1..12)),
    }
}

/// Plays one case, telling each act before it happens.
fn case(seed: u64, acts: usize, mut tell: impl FnMut(&Act)) {
    let mut random = fastrand::Rng::with_seed(seed);
    let settings = Settings {
        reruns: if random.u8(0..4) == 0 { Reruns::Drop } else { Reruns::Push },
        compact_at_bytes: [500, 2_000, 8 << 20][random.usize(..3)],
        payload_max_bytes: [1_200, 4_000, 500_000][random.usize(..3)],
    };
    let mut world = World::new(settings, &Image::new());
    world.is_slow = random.u8(0..3) == 0;
    if random.u8(0..3) == 0 {
        world.house.disk.write_at_most(random.usize(1..200));
    }
    world.act(&Act::Poison(random.u8(0..3) == 0));
    world.start();
    for _ in 0..acts {
        let act = act(&mut random, &world);
        tell(&act);
        if world.act(&act).is_none() {
            world.crash_anyhow(&mut random);
        }
    }
    while world.check().is_none() {
        world.crash_anyhow(&mut random);
    }
}

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map_or(default, |text| text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The fewest acts with which a case fails, and what they are.
fn shortest(seed: u64) -> Vec<String> {
    let fails = |acts| {
        let mut told = Vec::new();
        let played = catch_unwind(AssertUnwindSafe(|| case(seed, acts, |act| told.push(format!("{act:?}")))));
        played.is_err().then_some(told)
    };
    (0..=ACTS).find_map(fails).unwrap_or_default()
}

#[test]
fn whatever_happens_in_whatever_order_each_run_is_counted_once() {
    let first = number("RUNHOUND_TORTURE_SEED", 1);
    let cases = number("RUNHOUND_TORTURE_CASES", 2_000);
    let mut acts = 0_u64;
    for seed in first..first + cases {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(seed, ACTS, |_| acts += 1))) {
            println!("RUNHOUND_TORTURE_SEED={seed} fails:\n{}", shortest(seed).join("\n"));
            std::panic::resume_unwind(panic);
        }
    }
    println!("{cases} cases from seed {first}, {acts} acts");
}
