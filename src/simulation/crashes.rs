//! Every scripted workload is crashed after every change of the disk, and started again from everything that can be left
//! of what was not synced, torn at every byte. Each of those starts is crashed everywhere, too.

use super::{
    act::{Act, deliver},
    disk::Image,
    house::{Settings, files},
    intake::Fate,
    model::World,
};
use crate::ledger::Reruns;
use std::collections::HashSet;

/// A workload: how the house is set, what is on the disk before its first start, and what happens.
pub(super) struct Workload {
    pub(super) settings: Settings,
    pub(super) start: Image,
    pub(super) acts: Vec<Act>,
    /// The disk takes no more than so many bytes in one write.
    write_max_bytes: Option<usize>,
}

impl Workload {
    pub(super) fn new(acts: Vec<Act>) -> Self {
        Self { settings: Settings::default(), start: Image::new(), acts, write_max_bytes: None }
    }

    fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    fn short_writes(self, bytes: usize) -> Self {
        Self { write_max_bytes: Some(bytes), ..self }
    }

    /// The world before all of it.
    pub(super) fn world(&self) -> World {
        let world = World::new(self.settings, &self.start);
        world.house.disk.write_at_most(self.write_max_bytes.unwrap_or(usize::MAX));
        world
    }

    fn cache(mut self, text: &str) -> Self {
        self.start.insert(files().cache, text.as_bytes().to_vec());
        self
    }

    /// The world after all of it, with nothing gone wrong.
    pub(super) fn whole(&self) -> World {
        let mut world = self.world();
        world.play(&self.acts).expect("nothing crashes by itself");
        world
    }

    /// Crashes it everywhere. How many crashes that were.
    fn crash_everywhere(&self) -> Crashes {
        let whole = self.whole();
        let mut crashes = Crashes { points: whole.house.disk.operations(), ..Crashes::default() };
        whole.after_crash(&whole.house.disk.seen()).start_and_check();
        // What was left after a change is often left after the next one too, and nobody was told anything in between.
        let mut tried: HashSet<(usize, bool, Image)> = HashSet::new();
        for point in 1..=crashes.points {
            let mut world = self.world();
            world.house.disk.crash_after(point);
            assert!(world.play(&self.acts).is_none(), "there is a change {point}");
            for image in world.house.disk.images(true) {
                if tried.insert((world.answers, true, image.clone())) {
                    world.after_crash(&image).start_and_check();
                    crashes.images += 1;
                }
            }
            for image in world.house.disk.images(false) {
                if tried.insert((world.answers, false, image.clone())) {
                    crashes.of_starts += crash_the_start(&world, &image);
                }
            }
        }
        crashes
    }
}

/// What was tried.
#[derive(Debug, Default)]
struct Crashes {
    /// Changes of the disk after which the power went.
    points: usize,
    /// What was left after those.
    images: usize,
    /// What was left after the power went once more, during the start that followed.
    of_starts: usize,
}

/// Crashes a start everywhere.
fn crash_the_start(crashed: &World, image: &Image) -> usize {
    let mut tried = 0;
    for point in 1.. {
        let mut world = crashed.after_crash(image);
        world.house.disk.crash_after(point);
        if world.start().is_some() {
            break;
        }
        for image in world.house.disk.images(false) {
            world.after_crash(&image).start_and_check();
            tried += 1;
        }
    }
    tried
}

/// Tests of one workload each, so that they run side by side.
macro_rules! workloads {
    ($($name:ident: $workload:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let crashes = $workload.crash_everywhere();
                println!("{}: {crashes:?}", stringify!($name));
                assert!(crashes.points > 5 && crashes.images > crashes.points, "{crashes:?}");
            }
        )*

        /// All of them, by name.
        pub(super) fn all() -> Vec<(&'static str, Workload)> {
            vec![$((stringify!($name), $workload)),*]
        }
    };
}

/// Goes on for a while, as time passes.
fn go_on(times: usize, seconds: u64) -> impl Iterator<Item = Act> {
    [Act::Go, Act::Pass(seconds)].into_iter().cycle().take(2 * times)
}

fn acts(parts: &[Vec<Act>]) -> Vec<Act> {
    parts.concat()
}

fn compacting() -> Settings {
    Settings { compact_at_bytes: 900, ..Settings::default() }
}

workloads! {
    a_first_start_survives: Workload::new(vec![deliver(&["4"])]);

    accepted_runs_survive: Workload::new(vec![deliver(&["4"]), deliver(&["5"]), deliver(&["4"])]);

    a_group_of_accepted_runs_survives: Workload::new(vec![
        deliver(&["4", "5", "6", "5", "4/attempts/2"]),
        deliver(&["8", "9"]),
    ]);

    where_reruns_are_dropped_accepted_runs_survive: Workload::new(vec![
        deliver(&["4", "4/attempts/3", "5/attempts/2"]),
        Act::Go,
        deliver(&["4/attempts/2", "5", "6"]),
        Act::Go,
    ]).settings(Settings { reruns: Reruns::Drop, ..Settings::default() });

    a_push_and_its_mark_survive: Workload::new(vec![
        deliver(&["4", "5", "8"]),
        Act::Go,
        deliver(&["12", "4"]),
        Act::Go,
    ]);

    jobs_that_have_steps_in_common_survive: Workload::new(vec![
        deliver(&["jobs/4", "jobs/5", "jobs/8", "4", "jobs/9"]), Act::Go, Act::Pass(2), Act::Go,
    ]);
    on_a_disk_of_short_writes_all_of_it_survives: Workload::new(vec![deliver(&["4", "5"]), Act::Go]).short_writes(50);

    a_lost_answer_survives: Workload::new(acts(&[
        vec![Act::Fates(vec![Fate::TakenInSilence, Fate::TakenBut(503), Fate::Late]), deliver(&["4", "8", "5"])],
        go_on(2, 2).collect(),
        vec![deliver(&["16", "9"])],
        go_on(2, 4).collect(),
        vec![Act::Land],
    ]));

    a_batch_that_was_taken_apart_survives: Workload::new(acts(&[
        vec![deliver(&["4"]), Act::Go, deliver(&["5", "8"]), Act::Fates(vec![Fate::NoConnection; 3]), Act::Go],
        vec![Act::Pass(3100), Act::Go, deliver(&["9"])],
        go_on(2, 4).collect(),
    ]));

    rejected_runs_and_those_beside_them_survive: Workload::new(acts(&[
        vec![Act::Poison(true), deliver(&["4", "7", "5"])],
        go_on(4, 4).collect(),
        vec![deliver(&["6"])],
        go_on(2, 61).collect(),
        vec![deliver(&["7"]), Act::Go],
    ]));

    a_batch_in_halves_survives: Workload::new(acts(&[
        vec![Act::LargestPayload(Some(1000)), deliver(&["4", "5", "6", "8"])],
        go_on(2, 2).collect(),
    ]));

    a_backlog_in_many_batches_survives: Workload::new(vec![
        deliver(&["4", "5", "6", "15", "18"]), Act::Go, Act::Pass(2), Act::Go,
    ]).settings(Settings { payload_max_bytes: 1200, ..Settings::default() });

    a_compaction_survives: Workload::new(acts(&[
        vec![deliver(&["4", "5"]), Act::Go, deliver(&["8"]), Act::Go, Act::Pass(1), deliver(&["12", "9"]), Act::Go],
        vec![Act::Fates(vec![Fate::TakenInSilence]), deliver(&["16", "20"]), Act::Go, Act::Pass(2), Act::Go],
    ])).settings(compacting());

    a_clean_stop_survives: Workload::new(vec![
        deliver(&["4"]), Act::Go, Act::Restart, deliver(&["4", "5"]), Act::Restart, Act::Go, Act::Restart,
    ]);

    a_foreign_cache_and_its_conversion_survive: Workload::new(vec![deliver(&["77", "4"]), Act::Go, deliver(&["8"]), Act::Go])
        .cache("{\"note\": {\"b\": 1.50}, \"sent\":[\"x y\",\"28\"]}");

    a_cache_of_the_plans_program_survives: Workload::new(vec![deliver(&["4"]), Act::Go])
        .cache("{\n  \"sent\": [\n    \"workflow-1\",\n    \"28\"\n  ]\n}");
}
