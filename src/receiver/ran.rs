//! Which jobs ran, as far as this process has been told: by what a job that is told of once more still has in common with the
//! one that ran.
//!
//! Invariant: it is a second line. A job that did not run again is known by its times, wherever GitHub makes it anew
//! ([`event::NotOurs::NotRunAgain`](crate::event::NotOurs)); one that kept the time at which it was made is only known here,
//! and not after a restart. What is kept has a bound.

use crate::event::{Attempt, Completed, Key};
use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many jobs are remembered: those of some hours in a large organization, at some 50 bytes each.
const REMEMBERED_MAX: usize = 50_000;

/// The jobs that were accepted last.
#[derive(Debug, Default)]
pub(super) struct Ran(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    jobs: HashMap<u64, (Key, Attempt)>,
    order: VecDeque<u64>,
}

impl Ran {
    /// Whether this is a job that ran in another attempt, and was accepted under another ID.
    pub(super) fn is_known(&self, completed: &Completed) -> bool {
        let known = what_ran(completed).and_then(|what| self.lock().jobs.get(&what).copied());
        known.is_some_and(|(key, attempt)| key != completed.key && attempt != completed.attempt())
    }

    /// Remembers a job that was accepted.
    pub(super) fn note(&self, completed: &Completed) {
        let Some(what) = what_ran(completed) else { return };
        let mut remembered = self.lock();
        if remembered.jobs.insert(what, (completed.key, completed.attempt())).is_none() {
            remembered.order.push_back(what);
        }
        if remembered.order.len() > REMEMBERED_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.jobs.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells one job that ran from every other: its run, its name, its runner, and from when to when. A runner has one job at
/// a time.
fn what_ran(completed: &Completed) -> Option<u64> {
    let job = completed.job.as_ref().filter(|job| job.ran)?;
    let mut hasher = DefaultHasher::new();
    (job.run?.0, job.name.as_ref()?, &job.runner, completed.started_at?, completed.ended_at?).hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::RunId, metrics::tests::completed_job};

    /// A job of this ID and attempt, which ran as all others here.
    fn job(id: u64, attempt: u32, change: impl FnOnce(&mut Completed)) -> Completed {
        let mut completed = completed_job();
        completed.key = format!("jobs/{id}").parse().unwrap();
        completed.job.as_mut().unwrap().attempt = Attempt(attempt.try_into().unwrap());
        change(&mut completed);
        completed
    }

    #[test]
    fn a_job_that_ran_is_known_in_another_attempt_under_another_id_alone() {
        let ran = Ran::default();
        ran.note(&job(1, 1, |_| {}));
        assert!(ran.is_known(&job(2, 2, |_| {})));
        assert!(!ran.is_known(&job(1, 2, |_| {})), "the ledger knows that ID");
        assert!(!ran.is_known(&job(2, 1, |_| {})), "two of one attempt are two");
        let differs: [fn(&mut Completed); 5] = [
            |completed| completed.started_at = completed.ended_at,
            |completed| completed.ended_at = None,
            |completed| completed.job.as_mut().unwrap().run = Some(RunId(7)),
            |completed| completed.job.as_mut().unwrap().name = Some("another".to_owned()),
            |completed| completed.job.as_mut().unwrap().runner = Some("another".to_owned()),
        ];
        for differs in differs {
            assert!(!ran.is_known(&job(2, 2, differs)));
        }
    }

    #[test]
    fn what_was_accepted_long_ago_is_forgotten() {
        let ran = Ran::default();
        let of_run =
            |run: usize| move |completed: &mut Completed| completed.job.as_mut().unwrap().run = Some(RunId(run as u64));
        for run in 0..=REMEMBERED_MAX {
            ran.note(&job(1, 1, of_run(run)));
        }
        assert!(!ran.is_known(&job(2, 2, of_run(0))) && ran.is_known(&job(2, 2, of_run(1))));
        assert_eq!(ran.lock().jobs.len(), REMEMBERED_MAX);
    }
}
