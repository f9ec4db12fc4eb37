//! The webhook's secrets, and how one follows another while deliveries are under way.
//!
//! Invariant: a delivery is taken if any secret verifies it that is valid now, or was until less than `OVERLAP` ago: one in
//! flight may still be signed with the secret before, and a file that is read while it is written may miss a line.

use crate::{
    signature::{Secret, Signature},
    watched::Watched,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long secrets stay valid after it was noticed that their file no longer holds them.
pub const OVERLAP: Duration = Duration::from_secs(60);

/// All secrets that may sign. Its `Debug` shows none.
#[derive(Debug)]
pub struct Secrets {
    fixed: Vec<Secret>,
    file: Option<Rotating>,
}

/// The secrets of a file, and those it held shortly before.
#[derive(Debug)]
struct Rotating {
    file: Watched<Vec<Secret>>,
    past: Mutex<Past>,
}

#[derive(Debug)]
struct Past {
    current: Arc<Vec<Secret>>,
    /// Secrets of before, each with the moment at which they cease to be valid.
    retired: Vec<(Arc<Vec<Secret>>, Instant)>,
}

impl From<Vec<Secret>> for Secrets {
    fn from(fixed: Vec<Secret>) -> Self {
        Self { fixed, file: None }
    }
}

impl Secrets {
    /// These, which are always valid, and those of a file, one a line, as they are at the time.
    ///
    /// # Errors
    /// The file cannot be read or has no secret: which it is, and why.
    pub fn of_file(fixed: Vec<Secret>, path: PathBuf) -> Result<Self, String> {
        let file = Watched::read("the file of webhook secrets", vec![path], parse)?;
        let past = Past { current: file.get(), retired: Vec::new() };
        Ok(Self { fixed, file: Some(Rotating { file, past: Mutex::new(past) }) })
    }

    /// Those that are valid and not on their way out, the fixed ones first.
    #[must_use]
    pub fn current(&self) -> Vec<Secret> {
        let of_file = self.file.as_ref().map(|rotating| rotating.file.get());
        self.fixed.iter().chain(of_file.iter().flat_map(|secrets| secrets.iter())).cloned().collect()
    }

    /// Whether the file cannot be used as it is now, so that the secrets are those of before.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.file.as_ref().is_some_and(|rotating| rotating.file.is_stale())
    }

    /// Whether a secret that is valid at this moment has signed this body.
    #[must_use]
    pub fn verify(&self, body: &[u8], signature: &Signature, now: Instant) -> bool {
        let is_signed = |secrets: &[Secret]| secrets.iter().any(|secret| secret.verifies(body, signature));
        is_signed(&self.fixed)
            || self.file.as_ref().is_some_and(|file| file.valid(now).iter().any(|secrets| is_signed(secrets)))
    }
}

impl Rotating {
    /// Those of the file now, and those of before that are still valid.
    fn valid(&self, now: Instant) -> Vec<Arc<Vec<Secret>>> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.file.get();
        if !Arc::ptr_eq(&current, &past.current) {
            let before = std::mem::replace(&mut past.current, current);
            past.retired.push((before, now + OVERLAP));
        }
        past.retired.retain(|(_, until)| now < *until);
        let retired = past.retired.iter().rev().map(|(secrets, _)| Arc::clone(secrets));
        std::iter::once(Arc::clone(&past.current)).chain(retired).collect()
    }
}

fn parse(contents: &[Vec<u8>]) -> Result<Vec<Secret>, String> {
    let text = contents.first().map(|text| std::str::from_utf8(text));
    let text = text.and_then(Result::ok).ok_or("it is not UTF-8")?;
    let secrets: Vec<Secret> = text.lines().filter_map(|line| Secret::new(line.trim().as_bytes())).collect();
    if secrets.is_empty() { Err("it holds no secret".to_owned()) } else { Ok(secrets) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    const BODY: &[u8] = b"body";

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).unwrap()
    }

    fn of_file(fixed: &[&str], path: &Path) -> Secrets {
        let fixed = fixed.iter().map(|text| secret(text)).collect();
        Secrets::of_file(fixed, path.to_owned()).unwrap()
    }

    /// Whether a delivery that is signed with this is taken.
    fn takes(secrets: &Secrets, text: &str, now: Instant) -> bool {
        let signature = Signature::parse(secret(text).sign(BODY).as_bytes()).unwrap();
        secrets.verify(BODY, &signature, now)
    }

    #[test]
    fn after_a_change_the_secrets_of_before_are_valid_for_a_minute_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        fs::write(&path, "old\n").unwrap();
        let secrets = of_file(&[], &path);
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(takes(&secrets, "old", start) && !takes(&secrets, "new", start));
        fs::write(&path, "new\n").unwrap();
        assert!(takes(&secrets, "new", start) && takes(&secrets, "old", start));
        assert!(takes(&secrets, "old", after(59)) && takes(&secrets, "new", after(59)));
        assert!(!takes(&secrets, "old", after(60)) && takes(&secrets, "new", after(60)));
        assert!(!takes(&secrets, "old", after(0)), "it does not come back");
    }

    #[test]
    fn each_of_several_changes_has_a_minute_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        fs::write(&path, "one").unwrap();
        let secrets = of_file(&[], &path);
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        fs::write(&path, "two").unwrap();
        assert!(takes(&secrets, "two", after(0)));
        fs::write(&path, "three").unwrap();
        assert!(takes(&secrets, "three", after(40)));
        assert!(takes(&secrets, "one", after(59)) && takes(&secrets, "two", after(99)));
        assert!(!takes(&secrets, "one", after(60)) && !takes(&secrets, "two", after(100)));
    }

    #[test]
    fn a_file_that_is_empty_or_gone_changes_nothing_and_a_fixed_secret_is_always_valid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        fs::write(&path, "of the file").unwrap();
        let secrets = of_file(&["fixed"], &path);
        let now = Instant::now();
        let much_later = now + 10 * OVERLAP;
        for text in [Some("\n \n"), None, Some("other")] {
            match text {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            assert!(takes(&secrets, "of the file", now), "{text:?}");
            assert!(takes(&secrets, "fixed", much_later), "{text:?}");
        }
        assert!(!secrets.is_stale());
        fs::write(&path, "").unwrap();
        assert!(secrets.is_stale());
    }

    #[test]
    fn no_secret_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        fs::write(&path, "hush").unwrap();
        assert!(!format!("{:?}", of_file(&["hush"], &path)).contains("hush"));
    }
}
