//! A value that is parsed from files, and parsed again once they have changed: a rotation needs no restart.
//!
//! Invariant: it is looked at when it is asked for, which costs a `stat` for each file, and by nobody else. New content that
//! cannot be read or used leaves the value as it was, with one warning until it is mended. Nothing of what the files hold is
//! in a log or a `Debug`.

use crate::ledger::{RealDisk, Stamp, Storage};
use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// How long a file that was read must not have changed before its stamp alone says that it is the same: a file system may tell
/// time in steps, and two changes in one step have one stamp.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// Makes the value of the files' contents, in their order, or says why it cannot. What it says is logged.
type Parse<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// A value that is parsed from files, and parsed again once they have changed.
pub struct Watched<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    parse: Parse<T>,
    seen: Mutex<Seen<T>>,
}

/// What was found when the files were last looked at.
struct Seen<T> {
    value: Arc<T>,
    /// Whether what the files hold now cannot be used.
    is_stale: bool,
    /// Of what was read last, if it was read for good.
    stamps: Option<Vec<Stamp>>,
    contents: Option<Vec<Vec<u8>>>,
}

impl<T> Watched<T> {
    /// Reads `what` from its files for the first time.
    ///
    /// # Errors
    /// The files cannot be read, or hold nothing usable: which, and why.
    pub fn read(
        what: &'static str,
        paths: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let stamps = stamps(&paths);
        let contents = contents(&paths)?;
        let value = parse(&contents).map_err(|cause| format!("{}: {cause}", listed(&paths)))?;
        let seen = Seen {
            value: Arc::new(value),
            is_stale: false,
            stamps: stamps.ok().filter(|stamps| is_settled(stamps)),
            contents: Some(contents),
        };
        Ok(Self { what, paths, parse: Box::new(parse), seen: Mutex::new(seen) })
    }

    /// `value`, until the files, which nobody has looked at yet, hold another one.
    pub fn of(
        value: T,
        what: &'static str,
        paths: Vec<PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        let seen = Seen { value: Arc::new(value), is_stale: false, stamps: None, contents: None };
        Self { what, paths, parse: Box::new(parse), seen: Mutex::new(seen) }
    }

    /// The value as it is now. It is the same `Arc` for as long as it is the same.
    pub fn get(&self) -> Arc<T> {
        let mut seen = self.seen();
        self.look(&mut seen);
        Arc::clone(&seen.value)
    }

    /// Whether the files, as they are now, cannot be used, so that the value is of before.
    pub fn is_stale(&self) -> bool {
        let mut seen = self.seen();
        self.look(&mut seen);
        seen.is_stale
    }

    /// Nothing panics while it is held but a parser, and that leaves what was seen before.
    fn seen(&self) -> MutexGuard<'_, Seen<T>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, seen: &mut Seen<T>) {
        // Before they are read: what changes meanwhile has another stamp the next time.
        let now = stamps(&self.paths);
        if now.as_ref().is_ok_and(|now| seen.stamps.as_ref() == Some(now)) {
            return;
        }
        let read = now.and_then(|now| Ok((now, contents(&self.paths)?)));
        match read {
            Ok((now, contents)) => {
                let is_new = seen.contents.as_ref() != Some(&contents);
                seen.stamps = is_settled(&now).then_some(now);
                if is_new || seen.is_stale {
                    self.take(seen, contents);
                }
            }
            Err(cause) => {
                seen.stamps = None;
                self.warn_once(seen, &cause);
            }
        }
    }

    fn take(&self, seen: &mut Seen<T>, contents: Vec<Vec<u8>>) {
        let listed = listed(&self.paths);
        match (self.parse)(&contents) {
            // Nobody had looked at the files before, or they hold again what they held.
            Ok(_) if seen.contents.as_ref() == Some(&contents) => {
                log::info!("{listed}: {} can be read again", self.what);
                seen.is_stale = false;
            }
            Ok(value) => {
                if seen.contents.is_some() || seen.is_stale {
                    log::info!("{listed}: {} changed", self.what);
                }
                seen.value = Arc::new(value);
                seen.contents = Some(contents);
                seen.is_stale = false;
            }
            Err(cause) => self.warn_once(seen, &format!("{listed}: {cause}")),
        }
    }

    fn warn_once(&self, seen: &mut Seen<T>, cause: &str) {
        if !seen.is_stale {
            log::warn!("{cause}: {} of before is used", self.what);
        }
        seen.is_stale = true;
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("what", &self.what).field("paths", &self.paths).finish_non_exhaustive()
    }
}

fn stamps(paths: &[PathBuf]) -> Result<Vec<Stamp>, String> {
    let stamp = |path: &PathBuf| match RealDisk.stamp(path) {
        Ok(Some(stamp)) => Ok(stamp),
        Ok(None) => Err(format!("{}: no such file", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    paths.iter().map(stamp).collect()
}

fn contents(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: &PathBuf| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    paths.iter().map(read).collect()
}

/// Whether nothing can have changed since these stamps without changing them.
fn is_settled(stamps: &[Stamp]) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let settled = now.saturating_sub(SETTLED_AFTER).as_secs();
    stamps.iter().all(|stamp| u64::try_from(stamp.modified.0).is_ok_and(|modified| modified < settled))
}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::FileTimes,
        sync::atomic::{AtomicUsize, Ordering},
    };
    use tempfile::TempDir;

    /// A number in a file, and how often it was parsed.
    fn number(dir: &TempDir) -> (PathBuf, Watched<u32>, Arc<AtomicUsize>) {
        let path = dir.path().join("number");
        fs::write(&path, "1").unwrap();
        let parsed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&parsed);
        let parse = move |contents: &[Vec<u8>]| {
            count.fetch_add(1, Ordering::Relaxed);
            let text = String::from_utf8_lossy(&contents[0]).into_owned();
            text.parse().map_err(|_| "no number".to_owned())
        };
        (path.clone(), Watched::read("the number", vec![path], parse).unwrap(), parsed)
    }

    #[test]
    fn it_is_what_the_file_holds_and_stays_while_the_file_cannot_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let (path, number, _) = number(&dir);
        assert_eq!((*number.get(), number.is_stale()), (1, false));
        fs::write(&path, "2").unwrap();
        assert_eq!((*number.get(), number.is_stale()), (2, false));
        fs::write(&path, "x").unwrap();
        assert_eq!((*number.get(), number.is_stale()), (2, true));
        fs::remove_file(&path).unwrap();
        assert_eq!((*number.get(), number.is_stale()), (2, true));
        fs::write(&path, "2").unwrap();
        assert_eq!((*number.get(), number.is_stale()), (2, false));
        fs::write(path.with_extension("new"), "3").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        assert_eq!((*number.get(), number.is_stale()), (3, false));
    }

    #[test]
    fn a_second_change_in_one_step_of_the_file_systems_clock_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (path, number, _) = number(&dir);
        let step = FileTimes::new().set_modified(SystemTime::now());
        for text in ["2", "3"] {
            fs::write(&path, text).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_times(step).unwrap();
            assert_eq!(number.get().to_string(), text);
        }
    }

    #[test]
    fn a_file_that_has_not_changed_is_not_parsed_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, number, parsed) = number(&dir);
        let before = number.get();
        let touch =
            |time| fs::File::options().write(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(time));
        for time in [SystemTime::now(), SystemTime::now() - Duration::from_secs(60)] {
            touch(time).unwrap();
            assert!(Arc::ptr_eq(&before, &number.get()));
        }
        assert!(number.seen().stamps.is_some(), "its stamp alone says so");
        assert_eq!(parsed.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_cannot_be_read_at_the_start_says_which_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let parse = |contents: &[Vec<u8>]| if contents[0].is_empty() { Err("it is empty".to_owned()) } else { Ok(()) };
        let error = Watched::read("x", vec!["/nowhere/x".into()], parse).unwrap_err();
        assert!(error.starts_with("/nowhere/x: No such file"), "{error}");
        let path = dir.path().join("x");
        fs::write(&path, "").unwrap();
        let error = Watched::read("x", vec![path.clone()], parse).unwrap_err();
        assert_eq!(error, format!("{}: it is empty", path.display()));
    }

    #[test]
    fn a_value_of_files_that_are_not_there_yet_is_used_until_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        let parse = |contents: &[Vec<u8>]| String::from_utf8(contents[0].clone()).map_err(|_| "no text".to_owned());
        let text = Watched::of("before".to_owned(), "the text", vec![path.clone()], parse);
        assert_eq!((text.get().as_str(), text.is_stale()), ("before", true));
        fs::write(&path, "hush").unwrap();
        assert_eq!((text.get().as_str(), text.is_stale()), ("hush", false));
        assert!(!format!("{text:?}").contains("hush"));
    }
}
