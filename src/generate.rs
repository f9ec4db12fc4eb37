//! Completions and manual pages, made of the arguments, in the places where shells and `man` look for them.

use crate::cli::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where below a folder such as `/usr/share` each shell looks for completions.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/runhound"),
    (Shell::Fish, "fish/vendor_completions.d/runhound.fish"),
    (Shell::Zsh, "zsh/site-functions/_runhound"),
];

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct GenerateError {
    path: PathBuf,
    source: io::Error,
}

impl GenerateError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        "name a folder that this user can write to, such as ~/.local/share"
    }
}

/// Writes them below `share`.
///
/// # Errors
/// A folder cannot be made, or a file not be written.
pub fn generate(share: &Path) -> Result<(), GenerateError> {
    for (shell, name) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "runhound", &mut text);
        let path = share.join(name);
        make_folder(path.parent().unwrap_or(share))?;
        fs::write(&path, text).map_err(|source| GenerateError { path, source })?;
    }
    let pages = share.join("man/man1");
    make_folder(&pages)?;
    clap_mangen::generate_to(Cli::command(), &pages).map_err(|source| GenerateError { path: pages, source })
}

fn make_folder(path: &Path) -> Result<(), GenerateError> {
    fs::create_dir_all(path).map_err(|source| GenerateError { path: path.to_owned(), source })
}
