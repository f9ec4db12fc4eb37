//! What can be left of a disk after a crash.

use super::{Names, Node, SimDisk, World};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// What is left after a crash: each file by its name.
pub(in crate::simulation) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// So many changes of names are lost or kept one by one; those after them are lost.
const MOVES_MAX: usize = 6;

/// What becomes of a file's bytes that were not synced.
#[derive(Debug, Clone, Copy)]
enum Rest {
    Lost,
    Kept,
    /// The bytes before this one are there; behind them is what was there before, or zeros.
    Head {
        at: usize,
        is_filled: bool,
    },
    /// The bytes from this one on are there, those before it are not.
    Tail {
        at: usize,
    },
    /// Of pieces so long, those are there whose bit is set.
    Pieces {
        bytes: usize,
        kept: u64,
    },
}

impl Node {
    /// What of the file is left after a crash.
    fn left(&self, rest: Rest) -> Vec<u8> {
        let (old, new) = (&self.synced, &self.visible);
        match rest {
            Rest::Lost => old.clone(),
            Rest::Kept => new.clone(),
            Rest::Head { at, is_filled: false } => [&new[..at], old.get(at..).unwrap_or_default()].concat(),
            Rest::Head { at, is_filled: true } => {
                // What is durable already stays, also where a sync before it has failed.
                let left =
                    |(place, byte): (usize, &u8)| if place < at || old.get(place) == Some(byte) { *byte } else { 0 };
                new.iter().enumerate().map(left).collect()
            }
            Rest::Tail { at } => {
                let mut left = old.clone();
                left.resize(at, 0);
                left.extend_from_slice(&new[at..]);
                left
            }
            Rest::Pieces { bytes, kept } => {
                let is_kept = |at: usize| kept >> (at / bytes % 64) & 1 == 1;
                let left =
                    |(at, byte): (usize, &u8)| if is_kept(at) { *byte } else { old.get(at).copied().unwrap_or(0) };
                new.iter().enumerate().map(left).collect()
            }
        }
    }

    /// The bytes at which the unsynced part can be torn.
    fn tears(&self) -> std::ops::RangeInclusive<usize> {
        let same = self.synced.iter().zip(&self.visible).take_while(|(old, new)| old == new).count();
        same..=self.visible.len()
    }

    fn rests(&self, is_every_byte: bool) -> Vec<Rest> {
        let (first, last) = self.tears().into_inner();
        let tears: Vec<usize> =
            if is_every_byte { (first..=last).collect() } else { vec![first, usize::midpoint(first, last), last] };
        let torn = tears.into_iter().flat_map(|at| {
            [Rest::Head { at, is_filled: false }, Rest::Head { at, is_filled: true }, Rest::Tail { at }]
        });
        [Rest::Lost, Rest::Kept].into_iter().chain(torn).collect()
    }
}

impl World {
    /// The names after a crash that left those changes whose bit is set.
    fn names_left(&self, kept: usize) -> Names {
        let mut names = self.durable_names.clone();
        for (_, change) in self.moves.iter().enumerate().filter(|(bit, _)| kept >> bit & 1 == 1) {
            change.apply(&mut names);
        }
        names
    }

    fn is_dirty(&self, file: usize) -> bool {
        self.files[file].visible != self.files[file].synced
    }

    fn image(&self, names: &Names, rest: impl Fn(usize) -> Rest) -> Image {
        let left = |file: usize| self.files[file].left(if self.is_dirty(file) { rest(file) } else { Rest::Kept });
        names.iter().map(|(name, file)| (name.clone(), left(*file))).collect()
    }

    fn choices_of_names(&self) -> usize {
        1 << self.moves.len().min(MOVES_MAX)
    }
}

impl SimDisk {
    /// Everything that a reader sees.
    pub(in crate::simulation) fn seen(&self) -> Image {
        let world = self.world();
        world.image(&world.names, |_| Rest::Kept)
    }

    /// Everything that can be left after a crash at this moment: torn at every byte, or at a few.
    pub(in crate::simulation) fn images(&self, is_every_byte: bool) -> BTreeSet<Image> {
        let world = self.world();
        let mut images = BTreeSet::new();
        for kept in 0..world.choices_of_names() {
            let names = world.names_left(kept);
            let dirty: BTreeSet<usize> = names.values().copied().filter(|file| world.is_dirty(*file)).collect();
            for others in [Rest::Lost, Rest::Kept] {
                images.insert(world.image(&names, |_| others));
                for torn in &dirty {
                    let rests = world.files[*torn].rests(is_every_byte);
                    images.extend(
                        rests
                            .into_iter()
                            .map(|rest| world.image(&names, |file| if file == *torn { rest } else { others })),
                    );
                }
            }
        }
        images
    }

    /// Something that can be left after a crash at this moment.
    pub(in crate::simulation) fn any_image(&self, random: &mut fastrand::Rng) -> Image {
        let world = self.world();
        let names = world.names_left(random.usize(0..world.choices_of_names()));
        let rests: Vec<Rest> = world
            .files
            .iter()
            .map(|node| {
                let at = random.usize(node.tears());
                match random.u8(0..7) {
                    0 => Rest::Lost,
                    1 | 2 => Rest::Kept,
                    3 => Rest::Head { at, is_filled: false },
                    4 => Rest::Head { at, is_filled: true },
                    5 => Rest::Tail { at },
                    _ => Rest::Pieces { bytes: random.usize(1..64), kept: random.u64(..) },
                }
            })
            .collect();
        world.image(&names, |file| rests[file])
    }
}
