//! The file of which series the last 30 days made.
//!
//! Invariant: it is a statistic, not a record. A start does without it where it is missing or cannot be read. It is written every
//! ten minutes at the most, by a thread of its own, for it can be large and nobody shall wait for it; and at the end.

use super::Files;
use crate::{
    explain::explain,
    ledger::{
        disk::{self, RealDisk, Storage},
        guard::{bound, forget},
    },
    metrics::{Run, SeriesCount, SeriesError, SeriesGuard},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

/// The file is not written again before so many seconds have passed.
const SAVE_EVERY_S: u64 = 600;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::ledger) enum CountError {
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}", path.display())]
    Content { path: PathBuf, source: SeriesError },
}

/// What is known of series, and the file it is kept in.
#[derive(Debug)]
pub(super) struct SeriesFile {
    path: PathBuf,
    guard: SeriesGuard,
    is_changed: bool,
    /// When it was last written, or tried to be.
    saved_at: Option<i64>,
    /// Who writes it at the moment.
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl SeriesFile {
    /// Reads what there is. In its place nothing is known, with a warning if the file is there.
    pub(super) fn open(storage: &dyn Storage, path: &Path, max: usize, now: i64) -> Self {
        let mut guard = read(storage, path, max).unwrap_or_else(|error| {
            log::warn!("{}: counting series anew", explain(&error));
            SeriesGuard::new(max)
        });
        forget(&mut guard, now);
        Self { path: path.to_owned(), guard, is_changed: false, saved_at: None, writing: None }
    }

    /// Decides the tags of a run that is accepted now; its journal line follows them.
    pub(super) fn bound(&mut self, run: Arc<Run>, line: Vec<u8>, now: i64) -> (Arc<Run>, Vec<u8>) {
        self.is_changed = true;
        bound(&mut self.guard, run, line, now)
    }

    /// Counts, forgets what is old, and has the file written where that is due.
    pub(super) fn turn(&mut self, storage: &Arc<dyn Storage>, now: i64) -> SeriesCount {
        forget(&mut self.guard, now);
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait();
        }
        let is_due = self.saved_at.is_none_or(|at| at.abs_diff(now) >= SAVE_EVERY_S);
        if is_due && self.writing.is_none() {
            self.saved_at = Some(now);
            self.begin(storage);
        }
        self.guard.count(now)
    }

    /// Has the file written, if anything has changed.
    fn begin(&mut self, storage: &Arc<dyn Storage>) {
        if !self.is_changed {
            return;
        }
        let (snapshot, storage, path) = (self.guard.snapshot(), Arc::clone(storage), self.path.clone());
        let write = move || disk::replace(storage.as_ref(), &path, snapshot.json().as_bytes()).map(drop);
        match thread::Builder::new().name("series".to_owned()).spawn(write) {
            Ok(writing) => (self.writing, self.is_changed) = (Some(writing), false),
            Err(error) => self.tell(&error),
        }
    }

    /// Waits until nobody writes the file. A failure costs no run, and the next time is as good.
    fn wait(&mut self) {
        let written = self.writing.take().map(JoinHandle::join);
        if let Some(Ok(Err(error))) = written {
            self.is_changed = true;
            self.tell(&error);
        }
    }

    fn tell(&self, error: &io::Error) {
        log::warn!("{} cannot be written: {error}", self.path.display());
    }

    /// Keys of tags whose new values are sent as `other`.
    pub(super) fn capped(&self) -> Vec<&'static str> {
        self.guard.capped().collect()
    }

    /// Writes the file, if anything has changed, and waits for it.
    pub(super) fn save(&mut self, storage: &dyn Storage) {
        self.wait();
        if !self.is_changed {
            return;
        }
        match disk::replace(storage, &self.path, self.guard.snapshot().json().as_bytes()) {
            Ok(_) => self.is_changed = false,
            Err(error) => self.tell(&error),
        }
    }
}

/// What the file holds; nothing is known where there is none.
pub(in crate::ledger) fn read(storage: &dyn Storage, path: &Path, max: usize) -> Result<SeriesGuard, CountError> {
    let text = storage.read(path).map_err(|source| CountError::Io { path: path.to_owned(), source })?;
    let guard = text.map(|text| SeriesGuard::from_json(max, &text)).transpose();
    let guard = guard.map_err(|source| CountError::Content { path: path.to_owned(), source })?;
    Ok(guard.unwrap_or_else(|| SeriesGuard::new(max)))
}

/// Looks at the file and changes nothing: how many series up to `now`, the limit, and the tag with the most values.
#[must_use]
pub fn inspect(files: &Files, max: usize, now: i64) -> String {
    let path = files.series.display();
    let mut guard = match read(&RealDisk, &files.series, max) {
        Ok(guard) => guard,
        Err(error) => return format!("{}: a start counts series anew", explain(&error)),
    };
    // As a start would: what is old makes no tag wide, and caps nothing.
    guard.forget(now);
    let widest = match guard.widest() {
        Some((key, values)) => format!("the tag with the most values is {key}, with {values}"),
        None => "no tag has values yet".to_owned(),
    };
    let capped: Vec<&str> = guard.capped().collect();
    let capped = match capped.as_slice() {
        [] => String::new(),
        capped => format!("; new values are sent as `other` of: {}", capped.join(" ")),
    };
    format!("{path}: {}; the limit is {max}; {widest}{capped}", guard.count(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Completed,
        ledger::{Accepted, Ledger, Mode, Opened, Options, Reruns, record::Record},
        metrics::tests::{completed, tagging},
    };
    use std::{fs, os::unix::fs::PermissionsExt};

    const NOW: i64 = 1_800_000_000;

    /// A turn, and what it has written is there.
    fn turn(file: &mut SeriesFile, now: i64) -> SeriesCount {
        let storage: Arc<dyn Storage> = Arc::new(RealDisk);
        let count = file.turn(&storage, now);
        file.wait();
        count
    }

    fn accept(file: &mut SeriesFile, workflow: &str, now: i64) -> Arc<Run> {
        let completed = Completed { workflow: Some(workflow.to_owned()), ..completed() };
        let run = Arc::new(tagging().run(&completed, now));
        let line = Record::Accept(Arc::clone(&run)).line();
        let (run, line) = file.bound(run, line, now);
        assert_eq!(line, Record::Accept(Arc::clone(&run)).line(), "the journal has the tags that are sent");
        run
    }

    #[test]
    fn what_is_known_of_series_is_written_every_ten_minutes_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = Files::new(dir.path(), Mode::Live).series;
        let open = |now| SeriesFile::open(&RealDisk, &path, 8, now);
        let mut file = open(NOW);
        turn(&mut file, NOW);
        assert!(!path.exists(), "nothing has changed");
        accept(&mut file, "a", NOW);
        turn(&mut file, NOW + 599);
        assert!(!path.exists(), "not within ten minutes");
        assert_eq!(turn(&mut file, NOW + 600), SeriesCount { last_hour: 4, last_30_days: 4 });
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let first = fs::read(&path).unwrap();
        accept(&mut file, "b", NOW + 601);
        turn(&mut file, NOW + 602);
        assert_eq!(fs::read(&path).unwrap(), first);
        accept(&mut file, "c", NOW + 603);
        file.save(&RealDisk);
        let mut file = open(NOW + 604);
        assert_eq!(turn(&mut file, NOW + 604).last_30_days, 12);
        let run = accept(&mut file, "d", NOW + 604);
        assert!(run.tag_set.tags.contains(&"workflow_name:other".to_owned()), "the cap is known after a restart");
    }

    #[actix_web::test]
    async fn runs_that_come_in_at_the_same_moment_cannot_pass_the_limit_together() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { max_series: 40, ..Options::new(Files::new(dir.path(), Mode::Live), Reruns::Push, NOW) };
        let Opened { ledger, owner, .. } = Ledger::open(options).unwrap();
        let deliver = |id: u64| {
            let completed = Completed { workflow: Some(format!("w{id}")), ..completed() };
            let run = Run { key: id.to_string().parse().unwrap(), ..tagging().run(&completed, NOW) };
            let ledger = ledger.clone();
            actix_web::rt::spawn(async move { ledger.accept(run, NOW).await })
        };
        let asked: Vec<_> = (1..=50).chain(1..=50).map(deliver).collect();
        for (index, asked) in asked.into_iter().enumerate() {
            let expected = if index < 50 { Accepted::New } else { Accepted::Duplicate };
            assert_eq!(asked.await.unwrap().unwrap(), expected);
        }
        assert_eq!(ledger.count_series(NOW).await.unwrap().last_hour, 44);
        drop(ledger);
        owner.join().unwrap();
    }

    #[test]
    fn a_file_of_series_that_cannot_be_read_is_counted_anew() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), Mode::DryRun);
        assert!(files.series.ends_with("series-dry-run.json"));
        for text in ["", "{\"format\":1", "{\"format\":2}", "\u{0}\u{0}"] {
            fs::write(&files.series, text).unwrap();
            assert!(inspect(&files, 8, NOW).contains("a start counts series anew"), "{text:?}");
            let mut file = SeriesFile::open(&RealDisk, &files.series, 8, NOW);
            assert_eq!(turn(&mut file, NOW).last_30_days, 0, "{text:?}");
            assert_eq!(fs::read(&files.series).unwrap(), text.as_bytes(), "nothing has changed");
        }
    }

    #[test]
    fn a_look_at_the_series_leaves_out_what_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), Mode::Live);
        let mut file = SeriesFile::open(&RealDisk, &files.series, 8, NOW);
        for workflow in ["a", "b", "c"] {
            accept(&mut file, workflow, NOW);
        }
        file.save(&RealDisk);
        let told = inspect(&files, 8, NOW);
        assert!(told.contains("workflow_name, with 3; new values are sent as `other` of: workflow_name"), "{told}");
        let written = fs::read(&files.series).unwrap();
        let told = inspect(&files, 8, NOW + 31 * 86_400);
        assert!(told.contains("0 in the last 30 days; the limit is 8; no tag has values yet"), "{told}");
        assert!(!told.contains("`other`"), "{told}");
        assert_eq!(fs::read(&files.series).unwrap(), written, "a look changes nothing");
    }

    #[test]
    fn a_file_of_series_that_cannot_be_written_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("series.json");
        fs::create_dir(&path).unwrap();
        let mut file = SeriesFile::open(&RealDisk, &path, 8, NOW);
        accept(&mut file, "a", NOW);
        assert_eq!(turn(&mut file, NOW).last_hour, 4);
        fs::remove_dir(&path).unwrap();
        turn(&mut file, NOW + 600);
        assert!(path.is_file(), "the next time is as good");
    }
}
