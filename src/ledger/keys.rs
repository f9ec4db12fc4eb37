//! The set of keys already sent, small enough to keep millions of them in memory.

use crate::event::{Attempt, RunKey};
use std::collections::{BTreeSet, HashSet};

/// A set of keys. Any text can be one; numeric IDs, which nearly all are, cost 9 bytes a bucket of a table
/// that is between seven sixteenths and seven eighths full: 10 to 21 bytes each, 31 while it grows.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    first_attempts: HashSet<u64>,
    later_attempts: BTreeSet<RunKey>,
    other: HashSet<Box<str>>,
}

impl KeySet {
    /// Makes room for so many numeric IDs, of which nearly all are first attempts.
    pub(super) fn reserve(&mut self, ids: usize) {
        self.first_attempts.reserve(ids);
    }

    /// Adds a key; false if it was there.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        match text.parse() {
            Ok(key) => self.insert_key(key),
            Err(_) => self.other.insert(text.into()),
        }
    }

    fn insert_key(&mut self, key: RunKey) -> bool {
        if key.attempt == Attempt::FIRST {
            self.first_attempts.insert(key.id.0)
        } else {
            self.later_attempts.insert(key)
        }
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        match text.parse() {
            Ok(key) => self.contains_key(key),
            Err(_) => self.other.contains(text),
        }
    }

    pub(super) fn contains_key(&self, key: RunKey) -> bool {
        if key.attempt == Attempt::FIRST {
            self.first_attempts.contains(&key.id.0)
        } else {
            self.later_attempts.contains(&key)
        }
    }

    /// Whether any attempt of the key's run is in the set.
    pub(super) fn contains_any_attempt(&self, key: RunKey) -> bool {
        self.first_attempts.contains(&key.id.0)
            || any_attempt(key, |range| self.later_attempts.range(range).next().is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.first_attempts.len() + self.later_attempts.len() + self.other.len()
    }
}

/// Asks for the range of all attempts of a key's run.
pub(super) fn any_attempt<T>(key: RunKey, ask: impl FnOnce(std::ops::RangeInclusive<RunKey>) -> T) -> T {
    let first = RunKey { attempt: Attempt::FIRST, ..key };
    let last = RunKey { attempt: Attempt(std::num::NonZeroU32::MAX), ..key };
    ask(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_a_key_and_each_is_there_once() {
        let mut keys = KeySet::default();
        for text in ["1", "01", "1/attempts/2", "1/attempts/1", "workflow-1", "", "18446744073709551616"] {
            assert!(!keys.contains(text), "{text}");
            assert!(keys.insert(text), "{text}");
            assert!(!keys.insert(text), "{text}");
            assert!(keys.contains(text), "{text}");
        }
        assert_eq!(keys.len(), 7);
    }

    #[test]
    fn any_attempt_of_a_run_is_found_by_its_id() {
        let mut keys = KeySet::default();
        keys.insert("7/attempts/3");
        keys.insert("9");
        let found = |text: &str| keys.contains_any_attempt(text.parse().unwrap());
        assert!(found("7") && found("7/attempts/2") && found("9/attempts/4"));
        assert!(!found("6") && !found("8/attempts/3"));
    }

    #[test]
    fn a_numeric_id_costs_at_most_32_bytes_of_memory() {
        let mut keys = KeySet::default();
        let mut most = 0;
        for id in 0..1_000_000_u64 {
            let before = keys.first_attempts.capacity();
            keys.insert(&(30_433_642 + id).to_string());
            let after = keys.first_attempts.capacity();
            if after != before && id > 100 {
                // While the table grows, the old and the new one stand side by side. A table holds seven
                // eighths of its buckets, and a bucket is the ID and one control byte.
                most = most.max((before + after) * 8 / 7 * 9 / keys.first_attempts.len());
            }
        }
        assert!(most <= 32, "{most} bytes an ID");
        assert!(keys.later_attempts.is_empty() && keys.other.is_empty());
    }
}
