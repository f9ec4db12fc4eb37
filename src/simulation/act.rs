//! What can happen in a simulation, step by step.

use super::{
    intake::Fate,
    model::{World, key},
};
use crate::event::Key;
use std::io;

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Deliveries come in at the same moment.
    Deliver(Vec<Key>),
    /// The delivery goes on until it has to wait.
    Go,
    /// It does one thing.
    Step,
    /// Time passes, in seconds.
    Pass(u64),
    /// Somebody sets the local clock.
    StepClock(i64),
    /// This becomes of the next tries.
    Fates(Vec<Fate>),
    /// Whether Datadog refuses what is poisoned.
    Poison(bool),
    /// The largest payload that gets through.
    LargestPayload(Option<usize>),
    /// What was on its way lands.
    Land,
    /// A clean stop, and a start.
    Restart,
    /// A change of the disk fails: which one from now, how, and whether those after it do too.
    Fail(usize, io::ErrorKind, bool),
    /// The disk works again.
    Mend,
    /// The process is killed. What it wrote can still be read.
    Kill,
    /// The power goes after so many changes of the disk from now.
    CrashAfter(usize),
}

pub(super) fn deliver(keys: &[&str]) -> Act {
    Act::Deliver(keys.iter().map(|text| key(text)).collect())
}

impl World {
    /// Plays acts until the end, or until the disk crashes, which gives `None`.
    pub(super) fn play(&mut self, acts: &[Act]) -> Option<()> {
        self.start()?;
        acts.iter().try_for_each(|act| self.act(act))
    }

    pub(super) fn act(&mut self, act: &Act) -> Option<()> {
        let intake = &self.house.intake;
        match act {
            Act::Deliver(keys) => return self.deliver(keys).map(|_| ()),
            Act::Go => return self.go(),
            Act::Step => return self.step().map(|_| ()),
            Act::Pass(seconds) => self.house.pass(*seconds),
            Act::StepClock(seconds) => self.house.step_clock(*seconds),
            Act::Fates(fates) => intake.with(|state| state.fates.extend(fates)),
            Act::Poison(is_on) => intake.with(|state| state.is_poisonable = *is_on),
            Act::LargestPayload(most) => intake.with(|state| state.payload_max_bytes = *most),
            Act::Land => intake.with(|state| state.land_late(&mut self.random)),
            Act::Restart => {
                self.house.close()?;
                self.kill();
                return self.start();
            }
            Act::Kill => {
                self.kill();
                return self.start();
            }
            Act::Fail(nth, error, is_lasting) => self.house.disk.fail_next(*nth, *error, *is_lasting),
            Act::Mend => self.house.disk.mend(),
            Act::CrashAfter(changes) => self.house.disk.crash_after(self.house.disk.operations() + changes),
        }
        Some(())
    }
}
