//! GitHub's REST API, as far as runs can be found in it: webhooks and their deliveries, runs, attempts and jobs.
//!
//! Invariant: a token goes to the API's own address alone, and is in no error and no log. GitHub's limits are waited for. Only
//! this room knows GitHub's paths and fields.
//!
//! Sources: GitHub's REST API reference ("Repository webhooks", "Organization webhooks", "Workflow runs", "Workflow jobs"),
//! "Rate limits for the REST API", "Best practices for using the REST API".

mod auth;
mod client;
mod error;
mod hooks;
mod jobs;
mod runs;
mod verdict;

use crate::outgoing::plain_url;
use std::{fmt, str::FromStr};

pub use auth::{App, Auth, Token};
pub use client::{Github, Limits, Notice};
pub use error::GithubError;
pub use hooks::{Delivered, Hook, HookConfig};
pub use jobs::ListedJob;
pub use runs::{ListedRun, SEARCH_MAX, Workflows};

/// A repository, or an organization as a whole: what has webhooks, and where an App is installed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// `owner/name`.
    Repository(String),
    /// Its login.
    Organization(String),
}

impl Place {
    /// Where the API has it.
    fn path(&self) -> String {
        match self {
            Self::Repository(name) => format!("/repos/{name}"),
            Self::Organization(login) => format!("/orgs/{login}"),
        }
    }

    /// Reads the login of an organization.
    ///
    /// # Errors
    /// The text is none.
    pub fn organization(text: &str) -> Result<Self, NotAPlace> {
        if is_name(text) {
            Ok(Self::Organization(text.to_owned()))
        } else {
            Err(NotAPlace("not an organization's login"))
        }
    }
}

/// The text names no repository, or no organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAPlace(&'static str);

impl FromStr for Place {
    type Err = NotAPlace;

    /// Reads `owner/name`.
    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        match text.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) => Ok(Self::Repository(text.to_owned())),
            _ => Err(NotAPlace("not a repository: OWNER/NAME")),
        }
    }
}

/// Whether a text can stand in a path as it is. GitHub's names have no other characters.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !matches!(text, "." | "..")
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name) | Self::Organization(name) => f.write_str(name),
        }
    }
}

/// Where the API of a GitHub is, from the address that people know it by; `None` if that is no address. What has a path is
/// taken as it stands. Source: "Getting started with the REST API" of Enterprise Server and of Enterprise Cloud.
#[must_use]
pub fn api_root(url: &str) -> Option<String> {
    let url = plain_url(url.trim())?;
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.to_ascii_lowercase();
    Some(match host.as_str() {
        "github.com" | "www.github.com" => "https://api.github.com".to_owned(),
        _ if host.contains('/') || host.starts_with("api.") => url.to_owned(),
        _ if host.ends_with(".ghe.com") => format!("{scheme}://api.{host}"),
        _ => format!("{url}/api/v3"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_where_each_kind_of_github_has_it() {
        for (url, root) in [
            ("https://github.com", "https://api.github.com"),
            ("https://GitHub.com/", "https://api.github.com"),
            ("https://api.github.com", "https://api.github.com"),
            ("https://ghe.example.com", "https://ghe.example.com/api/v3"),
            ("https://ghe.example.com:8443/", "https://ghe.example.com:8443/api/v3"),
            ("https://ghe.example.com/api/v3/", "https://ghe.example.com/api/v3"),
            ("https://acme.ghe.com", "https://api.acme.ghe.com"),
            ("http://127.0.0.1:7000", "http://127.0.0.1:7000/api/v3"),
        ] {
            assert_eq!(api_root(url).as_deref(), Some(root), "{url}");
        }
        for url in ["", "github.com", "ftp://github.com", "https://user:word@github.com", "https://github.com?x=1"] {
            assert_eq!(api_root(url), None, "{url}");
        }
    }

    #[test]
    fn a_place_is_named_as_on_github_and_its_path_is_its_own() {
        assert_eq!("acme/web.site_2".parse::<Place>().unwrap().path(), "/repos/acme/web.site_2");
        assert_eq!(Place::organization("acme-inc").unwrap().path(), "/orgs/acme-inc");
        for text in
            ["", "acme", "/web", "acme/", "acme/web/x", "acme/../x", "acme/..", "a b/c", "acme/we%62", "acme/web?x"]
        {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        for text in ["", "acme/web", "..", "a b"] {
            assert!(Place::organization(text).is_err(), "{text}");
        }
    }
}
