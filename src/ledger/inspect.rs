//! A look at the files that changes nothing.

use super::{FileError, Files, RealDisk, Storage, keys::KeySet, layout, lock, recover, state::State};
use std::{fs, io, path::Path};

/// Looks at directory, journal and cache: a line about each, or what is wrong with it. No lock is taken, so a write that
/// is under way can look torn.
#[must_use]
pub fn inspect(files: &Files) -> Vec<Result<String, FileError>> {
    let (mut state, mut sent) = (State::default(), KeySet::default());
    let cache_bytes = read(&files.cache);
    if let Ok(Some(bytes)) = &cache_bytes {
        for id in layout::readable_ids(bytes) {
            sent.insert(&id);
        }
    }
    let journal = read(&files.journal).and_then(|bytes| journal(&files.journal, bytes, &mut state, &sent));
    let cache = cache_bytes.and_then(|bytes| cache(&files.cache, bytes, &state));
    vec![directory(&files.dir), journal, cache]
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
