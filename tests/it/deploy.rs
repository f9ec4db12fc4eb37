//! What `deploy/` holds: held against what there is, and put to work.

mod booted;
mod image;
mod units;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file or folder of `deploy/`.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// The text of a file of `deploy/`.
fn read(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
