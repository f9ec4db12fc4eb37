//! A file system of a test's own.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A tmpfs that is mounted until this is dropped.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts a tmpfs over a directory. Where that is not permitted it says so, and a test cannot go on; in CI it must.
    pub(crate) fn over(dir: &Path, options: &str) -> Option<Self> {
        let options = format!("mode=0700,uid={},{options}", fs::metadata(dir).unwrap().uid());
        if as_root(&["mount", "-t", "tmpfs", "-o", &options, "runhound", dir.to_str().unwrap()]) {
            return Some(Self(dir.to_owned()));
        }
        let needs = "this test needs to mount a small file system, which is not permitted here";
        assert!(std::env::var_os("CI").is_none(), "{needs}");
        println!("skipped: {needs}");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, for a service that a failed test has left may have files open there.
        if !as_root(&["umount", "--lazy", self.0.to_str().unwrap()]) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

/// Runs a command that needs root, by sudo where that asks for no password.
fn as_root(command: &[&str]) -> bool {
    [command, &[&["sudo", "-n"], command].concat()].iter().any(|words| {
        let status = Command::new(words[0]).args(&words[1..]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    })
}
