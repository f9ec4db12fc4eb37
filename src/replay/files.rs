//! Which files to replay, and what is in them.

use crate::event::Recorded;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A delivery, and where it was found.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) path: PathBuf,
    pub(super) recorded: Recorded,
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It cannot be read.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("{}, line {line}: not a delivery", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// The line at which its delivery begins.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// There is no delivery in all that was named.
    #[error("no delivery in {0}")]
    Nothing(String),
}

impl FilesError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "name files or folders that exist and can be read",
            Self::NotJson { .. } => {
                "a file is a payload, or a delivery as GitHub's deliveries API returns it; nothing was sent"
            }
            Self::Nothing(_) => "a folder is searched for files that end in .json or .jsonl, in it and below it",
        }
    }
}

/// All deliveries of `paths`: files as they are named, folders by the names in them.
pub(super) fn collect(paths: &[PathBuf]) -> Result<Vec<Delivery>, FilesError> {
    let mut files = Vec::new();
    for path in paths {
        find(path, true, &mut files).map_err(|source| FilesError::Io { path: path.clone(), source })?;
    }
    let mut deliveries = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|source| FilesError::Io { path: path.clone(), source })?;
        read(&path, &text, &mut deliveries)?;
    }
    if deliveries.is_empty() {
        let named: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(FilesError::Nothing(named.join(", ")));
    }
    Ok(deliveries)
}

fn find(path: &Path, is_named: bool, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| find(entry, false, files));
    }
    if is_named || path.extension().is_some_and(|extension| extension == "json" || extension == "jsonl") {
        files.push(path.to_owned());
    }
    Ok(())
}

fn read(path: &Path, text: &str, deliveries: &mut Vec<Delivery>) -> Result<(), FilesError> {
    let is_lines = path.extension().is_some_and(|extension| extension == "jsonl");
    let texts: Vec<(usize, &str)> = if is_lines { text.lines().enumerate().collect() } else { vec![(0, text)] };
    for (line, text) in texts.into_iter().filter(|(_, text)| !is_lines || !text.trim().is_empty()) {
        let recorded = Recorded::read(text).map_err(|source| FilesError::NotJson {
            path: path.to_owned(),
            line: line + 1,
            source,
        })?;
        deliveries.push(Delivery { path: path.to_owned(), recorded });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_taken_in_the_order_of_names_and_only_their_json() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.json", "{\"b\":1}"),
            ("a.json", "{\"a\":1}"),
            ("README.md", "#"),
            ("c.jsonl", "{\"c\":1}\n\n{\"c\":2}\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/d.json"), "{\"d\":1}").unwrap();
        let deliveries = collect(&[dir.path().to_owned()]).unwrap();
        let payloads: Vec<&str> = deliveries.iter().map(|delivery| delivery.recorded.payload.as_str()).collect();
        assert_eq!(payloads, ["{\"a\":1}", "{\"b\":1}", "{\"c\":1}", "{\"c\":2}", "{\"d\":1}"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| collect(&[path.to_owned()]).unwrap_err().to_string();
        assert!(error(dir.path()).starts_with("no delivery in "));
        assert!(error(&dir.path().join("none")).ends_with("none"));
        let lines = dir.path().join("x.jsonl");
        fs::write(&lines, "{}\nnot json\n").unwrap();
        assert!(error(&lines).contains("x.jsonl, line 2: not a delivery"));
    }
}
