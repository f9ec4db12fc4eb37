//! The set of keys already sent, small enough to keep millions of them in memory.

use crate::event::{Attempt, JobId, Key, RunId, RunKey};
use std::collections::{BTreeSet, HashSet};

/// A set of keys. Any text can be one. Numeric IDs, which nearly all are, cost 8 bytes each if a file held them; later ones
/// cost 9 bytes a bucket of a table that is between seven sixteenths and seven eighths full: 10 to 21 bytes each, 31 while
/// it grows.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    first_attempts: Ids,
    later_attempts: BTreeSet<RunKey>,
    jobs: Ids,
    other: HashSet<Box<str>>,
}

/// Numeric IDs of one kind.
#[derive(Debug, Default)]
struct Ids {
    /// Those that a file held: ascending, each once.
    loaded: Vec<u64>,
    /// Those that came later; none of them is among the loaded ones.
    added: HashSet<u64>,
}

impl Ids {
    fn insert(&mut self, id: u64) -> bool {
        self.loaded.binary_search(&id).is_err() && self.added.insert(id)
    }

    fn contains(&self, id: u64) -> bool {
        self.added.contains(&id) || self.loaded.binary_search(&id).is_ok()
    }

    fn len(&self) -> usize {
        self.loaded.len() + self.added.len()
    }

    fn order(&mut self) {
        self.loaded.sort_unstable();
        self.loaded.dedup();
        self.loaded.shrink_to_fit();
    }
}

impl KeySet {
    /// Adds a key; false if it was there.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        match text.parse() {
            Ok(Key::Run(RunKey { id: RunId(id), attempt: Attempt::FIRST })) => self.first_attempts.insert(id),
            Ok(Key::Run(key)) => self.later_attempts.insert(key),
            Ok(Key::Job(JobId(id))) => self.jobs.insert(id),
            Err(_) => self.other.insert(text.into()),
        }
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        match text.parse() {
            Ok(key) => self.contains_key(key),
            Err(_) => self.other.contains(text),
        }
    }

    pub(super) fn contains_key(&self, key: Key) -> bool {
        match key {
            Key::Run(RunKey { id: RunId(id), attempt: Attempt::FIRST }) => self.first_attempts.contains(id),
            Key::Run(key) => self.later_attempts.contains(&key),
            Key::Job(JobId(id)) => self.jobs.contains(id),
        }
    }

    /// Whether any attempt of the key's run is in the set. A job has one key alone.
    pub(super) fn contains_any_attempt(&self, key: Key) -> bool {
        match key {
            Key::Run(key) => {
                self.first_attempts.contains(key.id.0) || self.later_attempts.range(key.attempts()).next().is_some()
            }
            Key::Job(_) => self.contains_key(key),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.first_attempts.len() + self.later_attempts.len() + self.jobs.len() + self.other.len()
    }
}

/// The keys of a file on their way into a set, in any order, each as often as it stands there. To sort them once takes a
/// fraction of the time in which a table takes each.
#[derive(Debug)]
pub(super) struct Loading(KeySet);

impl Loading {
    /// With room for so many keys of each kind: while a list grows, two of them are in memory. Room that is not used is none:
    /// only what is written to takes memory.
    pub(super) fn with_room(ids: usize) -> Self {
        let room = || Ids { loaded: Vec::with_capacity(ids), ..Ids::default() };
        Self(KeySet { first_attempts: room(), jobs: room(), ..KeySet::default() })
    }

    pub(super) fn take(&mut self, text: &str) {
        match text.parse() {
            Ok(Key::Run(RunKey { id: RunId(id), attempt: Attempt::FIRST })) => self.0.first_attempts.loaded.push(id),
            Ok(Key::Job(JobId(id))) => self.0.jobs.loaded.push(id),
            _ => {
                self.0.insert(text);
            }
        }
    }

    /// The set of them.
    pub(super) fn done(self) -> KeySet {
        let Self(mut keys) = self;
        keys.first_attempts.order();
        keys.jobs.order();
        keys
    }
}

impl<S: AsRef<str>> FromIterator<S> for KeySet {
    fn from_iter<T: IntoIterator<Item = S>>(texts: T) -> Self {
        let texts = texts.into_iter();
        let mut loading = Loading::with_room(texts.size_hint().0);
        texts.for_each(|text| loading.take(text.as_ref()));
        loading.done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn loaded_in_any_order_and_more_than_once_each_is_there_once() {
        let texts = ["9", "7/attempts/3", "3", "9", "01", "5", "3", "7/attempts/3", "01", "18446744073709551615"];
        let mut keys: KeySet = texts.iter().collect();
        assert_eq!(keys.first_attempts.loaded, [3, 5, 9, u64::MAX]);
        assert_eq!(keys.len(), 6);
        for text in texts {
            assert!(keys.contains(text) && !keys.insert(text), "{text}");
        }
        for text in ["4", "1", "10", "9/attempts/2", "001"] {
            assert!(!keys.contains(text) && keys.insert(text), "{text}");
            assert!(keys.contains(text) && !keys.insert(text), "{text}");
        }
        assert_eq!((keys.len(), keys.first_attempts.loaded.len(), keys.first_attempts.added.len()), (11, 4, 3));
    }

    #[test]
    fn any_attempt_is_found_among_what_was_loaded_and_what_came_later() {
        let mut keys: KeySet = ["20", "10", "30/attempts/2"].iter().collect();
        keys.insert("15");
        keys.insert("25/attempts/2");
        let found = |text: &str| keys.contains_any_attempt(text.parse().unwrap());
        for text in ["10", "10/attempts/7", "15", "15/attempts/2", "20", "25", "25/attempts/3", "30/attempts/2", "30"] {
            assert!(found(text), "{text}");
        }
        assert!(!found("9") && !found("12/attempts/2") && !found("31"));
    }

    proptest! {
        /// What was loaded and what came later make one set.
        #[test]
        fn it_is_the_set_of_all_its_texts(
            loaded in proptest::collection::vec((0_u64..60, 1_u32..4), 0..80),
            added in proptest::collection::vec((0_u64..60, 1_u32..4), 0..80),
        ) {
            let text = |(id, attempt): &(u64, u32)| match attempt {
                1 => id.to_string(),
                _ => format!("{id}/attempts/{attempt}"),
            };
            let mut keys: KeySet = loaded.iter().map(text).collect();
            let mut all: HashSet<String> = loaded.iter().map(text).collect();
            for text in added.iter().map(text) {
                prop_assert_eq!(keys.insert(&text), all.insert(text));
            }
            prop_assert_eq!(keys.len(), all.len());
            for id in 0..60 {
                let of_run: Vec<bool> = (1..4).map(|attempt| all.contains(&text(&(id, attempt)))).collect();
                let any = keys.contains_any_attempt(id.to_string().parse().unwrap());
                prop_assert_eq!(any, of_run.contains(&true));
                for (attempt, is_there) in (1..4).zip(of_run) {
                    prop_assert_eq!(keys.contains(&text(&(id, attempt))), is_there);
                }
            }
        }
    }

    #[test]
    fn a_numeric_id_costs_at_most_32_bytes_of_memory() {
        let text = |id: u64| (30_433_642 + id).to_string();
        let mut keys = KeySet::default();
        let mut most = 0;
        for id in 0..1_000_000 {
            let before = keys.first_attempts.added.capacity();
            keys.insert(&text(id));
            let after = keys.first_attempts.added.capacity();
            if after != before && id > 100 {
                // While the table grows, the old and the new one stand side by side. A table holds seven
                // eighths of its buckets, and a bucket is the ID and one control byte.
                most = most.max((before + after) * 8 / 7 * 9 / keys.first_attempts.added.len());
            }
        }
        assert!(most <= 32, "{most} bytes an ID");
        assert!(keys.later_attempts.is_empty() && keys.other.is_empty());
    }

    #[test]
    fn a_numeric_id_that_is_loaded_costs_8_bytes_of_memory() {
        let mut loading = Loading::with_room(1_000);
        for id in 0..1_000 {
            loading.take(&(30_433_642 + id % 900).to_string());
            assert_eq!(loading.0.first_attempts.loaded.capacity(), 1_000, "it never grows");
        }
        let keys = loading.done();
        assert_eq!(
            (keys.first_attempts.loaded.len(), keys.first_attempts.loaded.capacity(), keys.len()),
            (900, 900, 900)
        );
        assert_eq!(keys.first_attempts.added.capacity(), 0);
    }
}
