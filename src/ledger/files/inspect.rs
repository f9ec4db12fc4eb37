//! A look at the files that changes nothing.

use super::{FileError, Files, keys::KeySet, layout, lock, recover};
use crate::{
    event::Key,
    ledger::{
        Reruns,
        disk::{RealDisk, Storage},
        state::State,
    },
};
use std::{fs, io, path::Path};

/// Looks at directory, journal and cache: a line about each, or what is wrong with it. No lock is taken, so a write that
/// is under way can look torn.
#[must_use]
pub fn inspect(files: &Files) -> Vec<Result<String, FileError>> {
    let mut state = State::default();
    let cache_bytes = read(&files.cache);
    let sent = sent(cache_bytes.as_ref().ok().and_then(Option::as_deref));
    let journal = read(&files.journal).and_then(|bytes| journal(&files.journal, bytes, &mut state, &sent));
    let cache = cache_bytes.and_then(|bytes| cache(&files.cache, bytes, &state));
    vec![directory(&files.dir), journal, cache]
}

/// What the files of a service record at one moment, while it may be at work: it decides, this only spares it questions.
#[derive(Debug, Default)]
pub struct Known {
    sent: KeySet,
    accepted: State,
}

impl Known {
    /// What can be read of them now. What cannot is not known.
    #[must_use]
    pub fn of(files: &Files) -> Self {
        let sent = sent(read(&files.cache).ok().flatten().as_deref());
        let journal = read(&files.journal).ok().flatten();
        let accepted = journal.and_then(|bytes| recover::inspect_journal(&files.journal, &bytes, |_| false).ok());
        Self { sent, accepted: accepted.map(|(state, _)| state).unwrap_or_default() }
    }

    /// Those of these attempts that would be new.
    #[must_use]
    pub fn unknown(&self, mut keys: Vec<Key>, reruns: Reruns) -> Vec<Key> {
        keys.retain(|key| match reruns {
            Reruns::Push => !self.accepted.is_pending(*key) && !self.sent.contains_key(*key),
            Reruns::Drop => !self.accepted.is_any_attempt_pending(*key) && !self.sent.contains_any_attempt(*key),
        });
        keys
    }
}

/// Who has the files at the moment, by what they wrote into the lock.
#[must_use]
pub fn holder(files: &Files) -> Option<String> {
    let is_held = fs::File::open(&files.lock).ok()?.try_lock().is_err();
    is_held.then(|| lock::holder(&RealDisk, &files.lock))
}

/// Whether a file can be made there is tried with a file that has no name left a moment later.
fn directory(dir: &Path) -> Result<String, FileError> {
    if dir.exists() && !dir.is_dir() {
        return Err(FileError::io(dir, io::ErrorKind::NotADirectory.into()));
    }
    let existing = dir.ancestors().find(|dir| dir.is_dir() || dir.as_os_str().is_empty()).unwrap_or(dir);
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    match tempfile::tempfile_in(existing) {
        Ok(_) if existing == dir => Ok(format!("{}: can be written to", dir.display())),
        Ok(_) => Ok(format!("{}: will be made", dir.display())),
        Err(source) => Err(FileError::io(existing, source)),
    }
}

/// What stands in a file that a service could read and write.
fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let usable = RealDisk.open(path).and_then(|file| if file.is_some() { RealDisk.read(path) } else { Ok(None) });
    usable.map_err(|source| FileError::io(path, source))
}

/// The IDs that can be read in a cache, however damaged.
fn sent(cache: Option<&[u8]>) -> KeySet {
    cache.map(layout::readable_ids).unwrap_or_default().iter().collect()
}

fn journal(path: &Path, bytes: Option<Vec<u8>>, state: &mut State, sent: &KeySet) -> Result<String, FileError> {
    let Some(bytes) = bytes else {
        return Ok(format!("{}: will be made", path.display()));
    };
    let (read, contents) = recover::inspect_journal(path, &bytes, |key| sent.contains_key(key))?;
    let torn = if contents.end < bytes.len() { "; then a torn write, which a start cuts off" } else { "" };
    let pending: Vec<_> = read.pending_runs().filter(|run| !sent.contains_key(run.key)).collect();
    let sealed = pending.iter().filter(|run| !read.is_waiting(run.key)).count();
    let runs = match pending.iter().min_by_key(|run| run.end) {
        None => "no run is pending".to_owned(),
        Some(oldest) => {
            let end = jiff::Timestamp::from_second(oldest.end).unwrap_or_default();
            let (count, key) = (pending.len(), oldest.key);
            format!("{count} runs pending, {sealed} of them in the last batch; the oldest, {key}, ended {end}")
        }
    };
    *state = read;
    Ok(format!("{}: {runs}; {} groups, {} bytes{torn}", path.display(), contents.groups, bytes.len()))
}

fn cache(path: &Path, bytes: Option<Vec<u8>>, state: &State) -> Result<String, FileError> {
    let Some(bytes) = bytes else {
        return Ok(format!("{}: will be made", path.display()));
    };
    let mut known = 0_usize;
    match layout::read(&bytes, |_| known += 1) {
        Ok(_) => Ok(format!("{}: {known} IDs sent", path.display())),
        Err(_) if recover::torn(&bytes, state).is_some() => {
            Ok(format!("{}: a torn write at its end, which a start completes", path.display()))
        }
        Err(flaw) => Err(FileError::damaged(path, flaw.offset, flaw.what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{Ledger, Mode, Opened, Options},
        metrics::tests::{completed, tagging},
    };

    fn keys(texts: &[&str]) -> Vec<Key> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[actix_web::test]
    async fn what_is_sent_or_pending_is_known_while_a_service_has_the_files_and_asked_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), Mode::Live);
        assert_eq!(Known::of(&files).unknown(keys(&["1"]), Reruns::Push), keys(&["1"]), "there are no files");
        fs::write(&files.cache, "{\n  \"sent\": [\n    \"7\"\n  ]\n}").unwrap();
        for (reruns, new) in [(Reruns::Push, &["7/attempts/2", "30433642/attempts/2", "8"][..]), (Reruns::Drop, &["8"])]
        {
            let Opened { ledger, owner, .. } = Ledger::open(Options::new(files.clone(), reruns, 1)).unwrap();
            ledger.accept(tagging().run(&completed(), 1), 1).await.unwrap();
            let all = keys(&["7", "7/attempts/2", "30433642", "30433642/attempts/2", "8"]);
            assert_eq!(Known::of(&files).unknown(all.clone(), reruns), keys(new), "{reruns:?}");
            assert_eq!(ledger.unknown(all).await.unwrap(), keys(new), "{reruns:?}");
            drop(ledger);
            owner.join().unwrap();
        }
    }
}
