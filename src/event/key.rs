//! The identity of what is counted: a run by its ID and attempt, a job by its ID, and the one text each is recorded as.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, num::NonZeroU32, ops::RangeInclusive, str::FromStr};

/// What stands between the ID and the attempt, as in GitHub's own path of an attempt.
const ATTEMPTS: &str = "/attempts/";

/// What stands before the ID of a job, as in GitHub's own path of it.
const JOBS: &str = "jobs/";

/// GitHub's ID of a workflow run. It stays the same when the run is re-run. 64 bits, never a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// GitHub's ID of a job. A job that runs again has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Which attempt of a run, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub NonZeroU32);

impl Attempt {
    /// The first attempt, which is also what a payload without `run_attempt` means.
    pub const FIRST: Self = Self(NonZeroU32::MIN);
}

/// The key of a completed attempt, under which it is counted exactly once.
///
/// Its text is the ID alone for the first attempt (`30433642`) and GitHub's path of the attempt for
/// later ones (`30433642/attempts/2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The run's ID.
    pub id: RunId,
    /// The run's attempt.
    pub attempt: Attempt,
}

impl RunKey {
    /// The keys of all attempts of this one's run.
    #[must_use]
    pub fn attempts(self) -> RangeInclusive<Self> {
        Self { attempt: Attempt::FIRST, ..self }..=Self { attempt: Attempt(NonZeroU32::MAX), ..self }
    }
}

/// The key under which something is counted exactly once: its text is that of a [`RunKey`], or `jobs/` and the job's ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An attempt of a run.
    Run(RunKey),
    /// A job.
    Job(JobId),
}

impl Key {
    /// The event that tells of it.
    #[must_use]
    pub const fn event(self) -> &'static str {
        match self {
            Self::Run(_) => "workflow_run",
            Self::Job(_) => "workflow_job",
        }
    }

    /// What stands for all attempts of a run: the first of them. A job stands for itself.
    #[must_use]
    pub const fn first_attempt(self) -> Self {
        match self {
            Self::Run(key) => Self::Run(RunKey { attempt: Attempt::FIRST, ..key }),
            Self::Job(_) => self,
        }
    }
}

impl From<RunKey> for Key {
    fn from(key: RunKey) -> Self {
        Self::Run(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(key) => key.fmt(f),
            Self::Job(JobId(id)) => write!(f, "{JOBS}{id}"),
        }
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id.0)?;
        if self.attempt > Attempt::FIRST {
            write!(f, "{ATTEMPTS}{}", self.attempt.0)?;
        }
        Ok(())
    }
}

/// The text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a run's ID, nor ID/attempts/N with N of 2 or more, nor jobs/ID")]
pub struct NotAKey;

impl FromStr for Key {
    type Err = NotAKey;

    /// Reads exactly what `Display` writes: no sign, no leading zero, no attempt 1 written out.
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        if let Some(id) = text.strip_prefix(JOBS) {
            return decimal(id).map(|id| Self::Job(JobId(id))).ok_or(NotAKey);
        }
        let key = match text.split_once(ATTEMPTS) {
            None => decimal(text).map(|id| RunKey { id: RunId(id), attempt: Attempt::FIRST }),
            Some((id, attempt)) => decimal(id).zip(decimal(attempt)).and_then(|(id, attempt)| {
                let attempt = Attempt(NonZeroU32::new(u32::try_from(attempt).ok()?)?);
                (attempt > Attempt::FIRST).then_some(RunKey { id: RunId(id), attempt })
            }),
        };
        key.map(Self::Run).ok_or(NotAKey)
    }
}

/// A number as it is written. A sign or a leading zero parses too, yet would make a second text of one key.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    let digits = number.checked_ilog10().map_or(1, |log| log as usize + 1);
    (digits == text.len()).then_some(number)
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_attempt_is_the_id_alone_and_later_ones_are_githubs_path() {
        for text in ["0", "30433642", "30433642/attempts/2", "18446744073709551615"] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_second_text_for_the_same_key_is_refused() {
        let too_big = "18446744073709551616";
        for text in ["", "+1", "-1", "01", "1/attempts/1", "1/attempts/0", "1/attempts/02", too_big] {
            assert_eq!(text.parse::<Key>(), Err(NotAKey), "{text}");
        }
        for text in ["jobs/", "jobs/01", "jobs/+1", "jobs/1/attempts/2", "jobs/jobs/1", "job/1", "Jobs/1"] {
            assert_eq!(text.parse::<Key>(), Err(NotAKey), "{text}");
        }
    }

    #[test]
    fn a_job_is_another_thing_than_a_run_of_the_same_id() {
        let job: Key = "jobs/30433642".parse().unwrap();
        assert_eq!((job, job.to_string().as_str()), (Key::Job(JobId(30_433_642)), "jobs/30433642"));
        assert_ne!(job, "30433642".parse().unwrap());
        assert_eq!(size_of::<Key>(), size_of::<RunKey>(), "millions of them are in memory");
    }

    proptest! {
        #[test]
        fn every_key_reads_back_from_its_text(id: u64, attempt in 1..u32::MAX) {
            let attempt = Attempt(NonZeroU32::new(attempt).unwrap());
            for key in [RunKey { id: RunId(id), attempt }.into(), Key::Job(JobId(id))] {
                prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
            }
        }
    }
}
