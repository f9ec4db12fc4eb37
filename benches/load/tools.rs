//! What others need to run: found, or installed below cargo's target directory, or an error that says what is missing.

use anyhow::{Context, Result, ensure};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

const SERVER: &str = include_str!("plan/server.mjs");
const MANIFEST: &str = include_str!("plan/package.json");
const LOCK: &str = include_str!("plan/package-lock.json");

pub(crate) fn find(program: &str) -> Result<()> {
    let found = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let is_missing = found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    ensure!(!is_missing, "{program} is missing");
    let output = found.with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} --version fails");
    Ok(())
}

/// The program of the plan, with its dependency beside it. A second call tells what the first one came to.
pub(crate) fn plan() -> Result<PathBuf> {
    static PLAN: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| install_plan().map_err(|error| format!("{error:#}")));
    plan.clone().map_err(anyhow::Error::msg)
}

fn install_plan() -> Result<PathBuf> {
    find("node")?;
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-plan");
    fs::create_dir_all(&dir)?;
    // npm writes this file last, so it is there once the whole is.
    let is_installed = dir.join("node_modules/.package-lock.json").exists()
        && fs::read_to_string(dir.join("package-lock.json")).is_ok_and(|lock| lock == LOCK);
    let server = dir.join("server.mjs");
    fs::write(&server, SERVER)?;
    if !is_installed {
        find("npm")?;
        fs::write(dir.join("package.json"), MANIFEST)?;
        fs::write(dir.join("package-lock.json"), LOCK)?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]);
        let output = npm.current_dir(&dir).stdin(Stdio::null()).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "npm ci fails: {error}");
    }
    Ok(server)
}
