//! Files of lines that people read: what was rejected, and what was or would have been sent.

use super::disk::{self, Storage};
use std::{
    io,
    path::{Path, PathBuf},
};

/// At this size a file becomes `….1`, in place of the one before it.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// A file of lines that is given another name when it has grown.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    max_bytes: u64,
    /// Whether what stands in the file is known to end with a line, also after a crash.
    is_sure: bool,
}

impl Lines {
    pub(super) fn new(path: &Path, max_bytes: u64) -> Self {
        Self { path: path.to_owned(), max_bytes, is_sure: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line (without its line feed) and makes it durable, and the file's name with it.
    ///
    /// What an earlier process or a failed append has left may be torn after a crash, whatever can be read now: the next
    /// line keeps its distance from it.
    pub(super) fn append(&mut self, storage: &dyn Storage, line: &[u8]) -> io::Result<()> {
        let mut opened = storage.open(&self.path)?;
        if let Some(file) = &opened
            && file.stamp()?.len >= self.max_bytes
        {
            let mut older = self.path.as_os_str().to_owned();
            older.push(".1");
            storage.rename(&self.path, Path::new(&older))?;
            opened = None;
        }
        let mut file = match opened {
            Some(file) => file,
            None => storage.create(&self.path)?,
        };
        let end = file.stamp()?.len;
        let mut text = Vec::with_capacity(line.len() + 2);
        if end > 0 && !self.is_sure {
            text.push(b'\n');
        }
        text.extend_from_slice(line);
        text.push(b'\n');
        self.is_sure = false;
        disk::write_all_at(file.as_mut(), &text, end)?;
        file.sync()?;
        storage.sync_dir(disk::folder_of(&self.path))?;
        self.is_sure = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_becomes_dot_1_and_a_torn_line_keeps_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut lines = Lines::new(&path, 12);
        std::fs::write(&path, b"one\ntor").unwrap();
        for line in ["two", "three", "four"] {
            lines.append(&disk::RealDisk, line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("lines.1")).unwrap(), "one\ntor\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\nfour\n");
    }
}
