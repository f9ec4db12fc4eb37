//! Every change of the disk in every workload fails, in each way, once or until the disk is mended; and after that the power
//! goes.

use super::{
    act::Act,
    crashes::{self, Workload},
    disk::Fault,
    model::World,
};
use std::{
    collections::BTreeSet,
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

/// Plays a workload in which one change fails, with a crash after so many changes, if any.
fn play(workload: &Workload, fault: Fault, crash_after: Option<usize>) -> (World, bool) {
    let mut world = workload.world();
    // A mark that fails while so much time passes leaves its runs in doubt at the next start.
    world.is_slow = workload.acts.iter().any(|act| matches!(act, Act::Pass(seconds) if *seconds > 2_400));
    world.house.disk.fail(fault);
    if let Some(point) = crash_after {
        world.house.disk.crash_after(point);
    }
    let is_done = world.play(&workload.acts).is_some();
    (world, is_done)
}

/// Does something, and says what it was if it fails.
fn told<T>(what: &str, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        println!("{what}");
        resume_unwind(panic)
    })
}

fn faults(points: usize) -> impl Iterator<Item = Fault> {
    (1..=points).flat_map(|at| {
        [ErrorKind::StorageFull, ErrorKind::Other]
            .into_iter()
            .flat_map(move |error| [false, true].into_iter().map(move |is_lasting| Fault { at, error, is_lasting }))
    })
}

#[test]
fn whatever_change_fails_nothing_is_lost_or_counted_twice() {
    let mut tried = 0;
    for (name, workload) in crashes::all() {
        for fault in faults(workload.whole().house.disk.operations()) {
            tried += told(&format!("{name}: {fault:?}"), || {
                let (mut world, _) = play(&workload, fault, None);
                let images = world.house.disk.images(false);
                for image in &images {
                    world.after_crash(image).start_and_check();
                }
                world.check();
                images.len() + 1
            });
        }
    }
    println!("{tried} ends");
}

#[test]
fn whatever_change_fails_a_crash_after_it_loses_nothing() {
    let mut tried = 0;
    for (name, workload) in crashes::all() {
        for fault in faults(workload.whole().house.disk.operations())
            .filter(|fault| fault.error == ErrorKind::Other && !fault.is_lasting)
        {
            for point in fault.at.. {
                let crashed = told(&format!("{name}: {fault:?}, then a crash after change {point}"), || {
                    let (world, is_done) = play(&workload, fault, Some(point));
                    let images = if is_done { BTreeSet::new() } else { world.house.disk.images(false) };
                    for image in &images {
                        world.after_crash(image).start_and_check();
                    }
                    images.len()
                });
                if crashed == 0 {
                    break;
                }
                tried += crashed;
            }
        }
    }
    println!("{tried} crashes");
}
