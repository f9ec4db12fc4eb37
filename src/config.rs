//! From arguments and environment to settings, once, at the start.
//!
//! Invariant: what comes out is complete and valid; no error and no `Debug` shows a secret.

mod github;
mod ledger;
mod repositories;

use crate::{
    cli::{Common, TagArgs, TlsArgs},
    datadog::{ApiKey, Endpoint},
    ledger::{AddressError, Database, Mode, Reruns},
    limits::Limits,
    metrics::{BACKFILL_TAG, METRIC_NAME_MAX_CHARS, TAG_KEYS, Tagging, tag, tag_form},
    secrets::Secrets,
    signature::Secret,
    tls::Tls,
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::{
    env::VarError,
    fs, io,
    path::{Path, PathBuf},
};

pub use github::github;
pub use ledger::database;
pub use repositories::Repositories;

/// What the longest metric's name has after the prefix, with room for a conclusion.
const METRIC_SUFFIX_CHARS: usize = 80;

/// Something in the configuration is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No webhook secret.
    #[error("no webhook secret: GITHUB_WEBHOOK_SECRET and GITHUB_WEBHOOK_SECRET_FILE are not set")]
    NoSecret,
    /// A file of secrets or of a key without one.
    #[error("{variable}: {} is empty", path.display())]
    EmptyFile {
        /// The variable that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A file of secrets or of a key that cannot be read.
    #[error("{variable}: {}", path.display())]
    Unreadable {
        /// The variable that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No API key.
    #[error("no Datadog API key: DD_API_KEY and DD_API_KEY_FILE are not set")]
    NoApiKey,
    /// A variable that is no text.
    #[error("{0}: not UTF-8")]
    NotText(String),
    /// An API key that cannot stand in a header.
    #[error("{variable}: the API key has characters that no key has")]
    BadApiKey {
        /// The variable it came by.
        variable: &'static str,
    },
    /// A site or URL that is none.
    #[error("{variable}: not a usable {what}")]
    BadEndpoint {
        /// The variable it came by.
        variable: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// A prefix that no metric can have.
    #[error("metric prefix {0:?}: not the beginning of a metric's name")]
    BadPrefix(String),
    /// A pattern that is none.
    #[error("branches")]
    BadGlob(#[from] globset::Error),
    /// A pattern of repositories that is none.
    #[error("repositories: {pattern:?}: {what}")]
    BadRepository {
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with it.
        what: String,
    },
    /// A certificate or a key that cannot be used.
    #[error("TLS: {0}")]
    BadTls(String),
    /// An address that is none of a GitHub.
    #[error("--github-url: not an http or https URL without query, user and password")]
    BadGithubUrl,
    /// Nothing to ask GitHub with.
    #[error("no GitHub token: GITHUB_TOKEN and GITHUB_TOKEN_FILE are not set, nor a GitHub App")]
    NoToken,
    /// A token, or a file of one, that cannot be used.
    #[error("{variable}: {what}")]
    BadToken {
        /// The variable that has it, or names it.
        variable: &'static str,
        /// What is wrong.
        what: String,
    },
    /// An App's key that cannot be used.
    #[error("--github-app-key: {}: {what}", path.display())]
    BadAppKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A database that cannot be one.
    #[error("--ledger")]
    BadLedger(#[from] AddressError),
    /// A tag that runs set themselves.
    #[error("DD_TAGS: the tag {0} is set by runs themselves")]
    ReservedTag(String),
}

impl ConfigError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoSecret => {
                "set GITHUB_WEBHOOK_SECRET to the secret that you gave the webhook in GitHub; `openssl rand -hex 32` makes one"
            }
            Self::EmptyFile { variable: "DD_API_KEY_FILE", .. } => {
                "write the API key into the file, or unset the variable"
            }
            Self::EmptyFile { .. } => "write the secret into the file, one a line, or unset the variable",
            Self::Unreadable { .. } => "name a file that this user can read, or unset the variable",
            Self::NoApiKey => {
                "set DD_API_KEY, or DD_API_KEY_FILE to the name of a file with it, or add --dry-run to push nothing"
            }
            Self::NotText(_) => "set the variable again, in UTF-8, or unset it",
            Self::BadApiKey { .. } => "copy the key again from Datadog: Organization Settings, API Keys",
            Self::BadEndpoint { .. } => {
                "DD_SITE is a host such as datadoghq.eu; DD_URL is a URL such as https://proxy.example/datadog"
            }
            Self::BadPrefix(_) => {
                "a prefix begins with a letter and has letters, digits, `_` and `.` only, 120 at the most"
            }
            Self::BadGlob(_) => "write branches as in a workflow's `branches:` filter: main, release/*, team/**",
            Self::BadRepository { .. } => {
                "write owners and repositories as on GitHub, `*` for any text: acme, acme/web-*"
            }
            Self::BadTls(_) => {
                "name PEM files with --tls-cert (the certificate, then those of its authorities) and --tls-key (its private \
                 key), which this user can read"
            }
            Self::BadGithubUrl => "name the server as people know it: https://github.example.com",
            Self::NoToken => {
                "set GITHUB_TOKEN, or GITHUB_TOKEN_FILE to the name of a file with it; or give --github-app-id and --github-app-key"
            }
            Self::BadToken { .. } => "copy the token again from GitHub: Settings, Developer settings",
            Self::BadAppKey { .. } => "name the PEM file that GitHub made for the App: its settings, Private keys",
            Self::BadLedger(AddressError::Password) => {
                "leave it out, and write it into a file that --ledger-password-file names, or into PGPASSWORD"
            }
            Self::BadLedger(AddressError::Bad(_)) => {
                "name a database as postgres://user@host:5432/database, or a folder of sockets as \
                 postgres://user@/database?host=/var/run/postgresql; sslmode is verify-full or disable"
            }
            Self::ReservedTag(_) => "give the tag another key",
        }
    }
}

/// Where variables come from. One that is empty is taken for one that is not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Result<Option<String>, ConfigError>;

/// The process's own environment.
///
/// # Errors
/// The variable is no text.
pub fn process_environment(name: &str) -> Result<Option<String>, ConfigError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(ConfigError::NotText(name.to_owned())),
    }
}

/// All that a receiver needs.
#[derive(Debug)]
pub struct Settings {
    /// Live or dry run.
    pub mode: Mode,
    /// Where the files are kept.
    pub cache_dir: PathBuf,
    /// The database that has the ledger, if it is not in files.
    pub database: Option<Database>,
    /// What a re-run counts as.
    pub reruns: Reruns,
    /// How runs are tagged.
    pub tagging: Tagging,
    /// Secrets, at least one.
    pub secrets: Secrets,
    /// The only repositories that runs are taken of; `None` for all.
    pub repositories: Option<Repositories>,
    /// The limits of the public listener.
    pub limits: Limits,
    /// What the public listener speaks TLS with, if it does.
    pub tls: Option<Tls>,
    /// The size of the journal from which no new runs are accepted.
    pub max_journal_bytes: u64,
    /// Where to push, and with which key; `None` for a dry run.
    pub datadog: Option<(Endpoint, ApiKey)>,
    /// The limit on distinct series in 30 days.
    pub max_series: usize,
    /// Where payloads are logged, if not where a dry run logs them.
    pub payload_log: Option<PathBuf>,
}

impl Settings {
    /// Settings of a receiver in `mode` with `secrets`, without TLS and within the usual limits.
    ///
    /// # Errors
    /// Something is missing or wrong.
    pub fn new(
        mode: Mode,
        cache_dir: &Path,
        common: &Common,
        secrets: Secrets,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let datadog = match mode {
            Mode::Live => Some((endpoint(environment)?, api_key(environment)?)),
            Mode::DryRun => None,
        };
        Ok(Self {
            mode,
            cache_dir: cache_dir.to_owned(),
            database: database(&common.ledger, mode, environment)?,
            reruns: common.reruns,
            tagging: tagging(&common.tags, environment)?,
            secrets,
            repositories: Repositories::new(&common.repositories)?,
            limits: Limits::default(),
            tls: None,
            max_journal_bytes: u64::from(common.max_journal_mib) << 20,
            datadog,
            max_series: common.max_series,
            payload_log: common.payload_log.clone(),
        })
    }
}

fn variable(environment: Environment<'_>, name: &str) -> Result<Option<String>, ConfigError> {
    Ok(environment(name)?.filter(|value| !value.trim().is_empty()))
}

fn file(environment: Environment<'_>, variable_name: &'static str) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let Some(path) = variable(environment, variable_name)?.map(PathBuf::from) else {
        return Ok(None);
    };
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Err(ConfigError::EmptyFile { variable: variable_name, path }),
        Ok(text) => Ok(Some((path, text))),
        Err(source) => Err(ConfigError::Unreadable { variable: variable_name, path, source }),
    }
}

/// The webhook's secrets: that of the environment, and those of the file, one a line, as they are at the time.
///
/// # Errors
/// There is none, or the file cannot be used.
pub fn secrets(environment: Environment<'_>) -> Result<Secrets, ConfigError> {
    let one = variable(environment, "GITHUB_WEBHOOK_SECRET")?;
    // A line feed at the end of a variable is an accident of how it was set; GitHub's form cannot hold one.
    let one = one.as_deref().map(|secret| secret.trim_end_matches(['\r', '\n']));
    let fixed: Vec<Secret> = one.and_then(|secret| Secret::new(secret.as_bytes())).into_iter().collect();
    let name = "GITHUB_WEBHOOK_SECRET_FILE";
    match file(environment, name)? {
        Some((path, _)) => Secrets::of_file(fixed, path.clone()).map_err(|cause| ConfigError::Unreadable {
            variable: name,
            path,
            source: io::Error::other(cause),
        }),
        None if fixed.is_empty() => Err(ConfigError::NoSecret),
        None => Ok(fixed.into()),
    }
}

/// The secret that a new webhook gets, as text: that of the environment, else the first one of the file.
///
/// # Errors
/// There is none, or the file cannot be used.
pub fn webhook_secret(environment: Environment<'_>) -> Result<String, ConfigError> {
    if let Some(secret) = variable(environment, "GITHUB_WEBHOOK_SECRET")? {
        return Ok(secret.trim_end_matches(['\r', '\n']).to_owned());
    }
    let of_file = file(environment, "GITHUB_WEBHOOK_SECRET_FILE")?;
    let first = of_file.as_ref().and_then(|(_, text)| text.lines().map(str::trim).find(|line| !line.is_empty()));
    first.map(str::to_owned).ok_or(ConfigError::NoSecret)
}

/// What the public listener speaks TLS with, if it does.
///
/// # Errors
/// The certificate or its key cannot be used.
pub fn tls(arguments: &TlsArgs) -> Result<Option<Tls>, ConfigError> {
    let pair = arguments.tls_cert.clone().zip(arguments.tls_key.clone());
    pair.map(|(certificate, key)| Tls::read(certificate, key)).transpose().map_err(ConfigError::BadTls)
}

/// Datadog's API key: that of the variable, which wins, or that of the file.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn api_key(environment: Environment<'_>) -> Result<ApiKey, ConfigError> {
    let bad = |variable| ConfigError::BadApiKey { variable };
    if let Some(text) = variable(environment, "DD_API_KEY")? {
        return ApiKey::new(&text).ok_or(bad("DD_API_KEY"));
    }
    let name = "DD_API_KEY_FILE";
    let (path, text) = file(environment, name)?.ok_or(ConfigError::NoApiKey)?;
    Ok(ApiKey::new(&text).ok_or(bad(name))?.of_file(&path))
}

/// Where to push.
///
/// # Errors
/// The variable that says so is not usable.
pub fn endpoint(environment: Environment<'_>) -> Result<Endpoint, ConfigError> {
    for name in ["DD_DD_URL", "DD_URL"] {
        if let Some(url) = variable(environment, name)? {
            return Endpoint::new(url.trim()).ok_or(ConfigError::BadEndpoint { variable: name, what: "base URL" });
        }
    }
    let site = variable(environment, "DD_SITE")?.unwrap_or_else(|| "datadoghq.com".to_owned());
    Endpoint::of_site(site.trim()).ok_or(ConfigError::BadEndpoint { variable: "DD_SITE", what: "site" })
}

/// How runs are tagged.
///
/// # Errors
/// A prefix, a pattern or a tag cannot be used.
pub fn tagging(arguments: &TagArgs, environment: Environment<'_>) -> Result<Tagging, ConfigError> {
    let mut constant: Vec<String> = tag("env", variable(environment, "DD_ENV")?.as_deref()).into_iter().collect();
    let tags = variable(environment, "DD_TAGS")?.unwrap_or_default();
    for tag in tags.split([' ', ',', '\t', '\n']).filter_map(tag_form) {
        let key = tag.split(':').next().unwrap_or_default();
        if key == BACKFILL_TAG || TAG_KEYS.contains(&key) {
            return Err(ConfigError::ReservedTag(key.to_owned()));
        }
        constant.push(tag);
    }
    Ok(Tagging {
        prefix: prefix(&arguments.metric_prefix)?,
        branches: globs(&arguments.branches)?,
        detail: arguments.detail(),
        fold_matrix: arguments.fold_matrix,
        extra: arguments.extra_tags.clone(),
        constant,
    })
}

fn prefix(text: &str) -> Result<String, ConfigError> {
    let is_name = text.starts_with(|char: char| char.is_ascii_alphabetic())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "_.".contains(char))
        && !text.ends_with('.')
        && !text.contains("..")
        && text.len() <= METRIC_NAME_MAX_CHARS - METRIC_SUFFIX_CHARS;
    if is_name { Ok(text.to_owned()) } else { Err(ConfigError::BadPrefix(text.to_owned())) }
}

/// As in a workflow's filter: `*` stops at a slash, `**` does not.
fn globs(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns.iter().map(|pattern| pattern.trim()).filter(|pattern| !pattern.is_empty()) {
        // An error names the pattern as it was given.
        GlobBuilder::new(pattern).build()?;
        set.add(GlobBuilder::new(&with_crossing_stars(pattern)).literal_separator(true).build()?);
    }
    set.build()
}

/// globset takes `**` as such only where it is all that stands between slashes; elsewhere this says the same.
fn with_crossing_stars(pattern: &str) -> String {
    let mut glob = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once("**") {
        glob += before;
        let is_level = (glob.is_empty() || glob.ends_with('/')) && (after.is_empty() || after.starts_with('/'));
        let is_escaped = glob.ends_with('\\');
        glob += if is_level || is_escaped { "**" } else { "{*,*/**/*}" };
        rest = after;
    }
    glob + rest
}

#[cfg(test)]
mod tests;
