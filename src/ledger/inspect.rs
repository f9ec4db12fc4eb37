//! A look at the files that changes nothing.

use super::{FileError, Files, layout, recover, state::State};
use std::{fs, io, path::Path};

/// Looks at directory, journal and cache: a line about each, or what is wrong with it. No lock is taken, so a write that
/// is under way can look torn.
#[must_use]
pub fn inspect(files: &Files) -> Vec<Result<String, FileError>> {
    let mut state = State::default();
    let journal = journal(&files.journal, &mut state);
    vec![directory(&files.dir), journal, cache(&files.cache, &state)]
}

/// Whether a file can be made there is tried with a file that has no name left a moment later.
fn directory(dir: &Path) -> Result<String, FileError> {
    let existing = dir.ancestors().find(|dir| dir.is_dir() || dir.as_os_str().is_empty()).unwrap_or(dir);
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    match tempfile::tempfile_in(existing) {
        Ok(_) if existing == dir => Ok(format!("{}: can be written to", dir.display())),
        Ok(_) => Ok(format!("{}: will be made", dir.display())),
        Err(source) => Err(FileError::io(existing, source)),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::io(path, source)),
    }
}

fn journal(path: &Path, state: &mut State) -> Result<String, FileError> {
    let Some(bytes) = read(path)? else {
        return Ok(format!("{}: will be made", path.display()));
    };
    let (read, contents, runs) = recover::read_journal(path, &bytes)?;
    *state = read;
    let torn = if contents.end < bytes.len() { ", then a torn write, which a start cuts off" } else { "" };
    let batch: usize = state.batch().map_or(0, |batch| batch.slots.iter().map(|slot| slot.runs.len()).sum());
    Ok(format!(
        "{}: {runs} runs, {} of them waiting, {batch} in the last batch{torn}",
        path.display(),
        state.waiting_len()
    ))
}

fn cache(path: &Path, state: &State) -> Result<String, FileError> {
    let Some(bytes) = read(path)? else {
        return Ok(format!("{}: will be made", path.display()));
    };
    let mut known = 0_usize;
    match layout::read(&bytes, |_| known += 1) {
        Ok(_) => Ok(format!("{}: {known} IDs", path.display())),
        Err(_) if recover::torn(&bytes, state).is_some() => {
            Ok(format!("{}: a torn write at its end, which a start completes", path.display()))
        }
        Err(flaw) => Err(FileError::damaged(path, flaw.offset, flaw.what)),
    }
}
