//! What `deploy/` holds: dashboards, monitors and alerts held against the program; command lines put to work.

mod booted;
mod datadog;
mod grafana;
mod image;
mod prometheus;
mod settings;
mod units;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file or folder of `deploy/`.
fn path(name: &str) -> PathBuf {
    root().join("deploy").join(name)
}

/// The text of a file of `deploy/`.
fn read(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// Every value under this key, however deep it is.
fn under<'a>(document: &'a Value, key: &str) -> Vec<&'a Value> {
    match document {
        Value::Object(fields) => {
            let own = fields.get(key).into_iter();
            own.chain(fields.values().flat_map(|field| under(field, key))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| under(item, key)).collect(),
        _ => Vec::new(),
    }
}

/// The files of the repository that a text names exist.
fn names_files_that_exist(text: &str) {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || "-_./".contains(char)));
    for word in words.map(|word| word.trim_end_matches('.')) {
        if word.starts_with("docs/") || word.starts_with("deploy/") {
            assert!(root().join(word).exists(), "there is no {word}: {text}");
        }
    }
}

/// `promtool` finds nothing wrong.
fn promtool(arguments: &[&str]) {
    let Ok(output) = Command::new("promtool").args(arguments).output() else {
        assert!(std::env::var_os("CI").is_none(), "promtool is needed: it comes with Prometheus");
        println!("skipped: this test needs promtool, which comes with Prometheus");
        return;
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
