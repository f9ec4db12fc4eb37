//! The identity of a run: which ID, which attempt, and the one text both are recorded as.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, num::NonZeroU32, str::FromStr};

/// What stands between the ID and the attempt, as in GitHub's own path of an attempt.
const ATTEMPTS: &str = "/attempts/";

/// GitHub's ID of a workflow run. It stays the same when the run is re-run. 64 bits, never a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

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

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id.0)?;
        if self.attempt > Attempt::FIRST {
            write!(f, "{ATTEMPTS}{}", self.attempt.0)?;
        }
        Ok(())
    }
}

/// The text is not the key of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a run's ID, nor ID/attempts/N with N of 2 or more")]
pub struct NotAKey;

impl FromStr for RunKey {
    type Err = NotAKey;

    /// Reads exactly what `Display` writes: no sign, no leading zero, no attempt 1 written out.
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let (id, attempt) = match text.split_once(ATTEMPTS) {
            Some((id, attempt)) => (id, attempt.parse().map_err(|_| NotAKey)?),
            None => (text, NonZeroU32::MIN),
        };
        let key = Self { id: RunId(id.parse().map_err(|_| NotAKey)?), attempt: Attempt(attempt) };
        // A sign, a leading zero or `/attempts/1` parses too, yet would be a second text of one key.
        let canonical = id.len() == decimal_digits(key.id.0) && text.len() == id.len() + attempt_text_len(key.attempt);
        canonical.then_some(key).ok_or(NotAKey)
    }
}

fn decimal_digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn attempt_text_len(attempt: Attempt) -> usize {
    if attempt == Attempt::FIRST {
        return 0;
    }
    ATTEMPTS.len() + decimal_digits(attempt.0.get().into())
}

impl Serialize for RunKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunKey {
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
            assert_eq!(text.parse::<RunKey>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_second_text_for_the_same_key_is_refused() {
        let too_big = "18446744073709551616";
        for text in ["", "+1", "-1", "01", "1/attempts/1", "1/attempts/0", "1/attempts/02", too_big] {
            assert_eq!(text.parse::<RunKey>(), Err(NotAKey), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_key_reads_back_from_its_text(id: u64, attempt in 1..u32::MAX) {
            let attempt = Attempt(NonZeroU32::new(attempt).unwrap());
            let key = RunKey { id: RunId(id), attempt };
            prop_assert_eq!(key.to_string().parse::<RunKey>(), Ok(key));
        }
    }
}
