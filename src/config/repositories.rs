//! Which repositories runs are taken of.

use super::{ConfigError, with_crossing_stars};
use crate::event::RepoName;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns of owners and repositories, at least one.
#[derive(Debug, Clone)]
pub struct Repositories(GlobSet);

impl Repositories {
    /// These patterns: `owner/name`, or `owner` alone for all of an owner's repositories. As in GitHub's names, case makes no
    /// difference. `None` where there is no pattern, which means all.
    ///
    /// # Errors
    /// A pattern is none.
    pub fn new(patterns: &[String]) -> Result<Option<Self>, ConfigError> {
        let mut set = GlobSetBuilder::new();
        let patterns = patterns.iter().map(|pattern| pattern.trim()).filter(|pattern| !pattern.is_empty());
        for pattern in patterns {
            let bad = |what: String| ConfigError::BadRepository { pattern: pattern.to_owned(), what };
            let whole = match pattern.split('/').collect::<Vec<_>>()[..] {
                [_] => format!("{pattern}/*"),
                [owner, name] if !owner.is_empty() && !name.is_empty() => pattern.to_owned(),
                _ => return Err(bad("neither owner nor owner/name".to_owned())),
            };
            let whole = with_crossing_stars(&whole);
            let glob = GlobBuilder::new(&whole).literal_separator(true).case_insensitive(true).build();
            set.add(glob.map_err(|error| bad(error.kind().to_string()))?);
        }
        let set = set.build().map_err(|error| ConfigError::BadRepository {
            pattern: error.glob().unwrap_or_default().to_owned(),
            what: error.kind().to_string(),
        })?;
        Ok((!set.is_empty()).then_some(Self(set)))
    }

    /// Whether runs of this repository are taken. One whose owner is not told is of none of these.
    #[must_use]
    pub fn take(&self, repository: &RepoName) -> bool {
        repository.owner.as_ref().is_some_and(|owner| self.0.is_match(format!("{owner}/{}", repository.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::explain;

    fn new(patterns: &[&str]) -> Result<Option<Repositories>, ConfigError> {
        Repositories::new(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>())
    }

    fn takes(patterns: &[&str], repository: &str) -> bool {
        let (owner, name) = repository.split_once('/').unwrap();
        let repository = RepoName { owner: Some(owner.to_owned()), name: name.to_owned() };
        new(patterns).unwrap().unwrap().take(&repository)
    }

    #[test]
    fn an_owner_or_a_repository_is_matched_whole_and_in_any_case() {
        for (pattern, taken, others) in [
            ("acme", &["acme/web", "Acme/WEB"][..], &["acme2/web", "other/acme"][..]),
            ("Acme/Web-*", &["acme/web-shop", "ACME/WEB-"], &["acme/web", "acme/my-web-shop", "other/web-shop"]),
            ("*/infra", &["acme/infra", "b/infra"], &["acme/infra2"]),
            ("team-*", &["team-a/x"], &["a-team/x", "team/x"]),
            ("**", &["acme/web"], &[]),
            ("acme/[a-c]?", &["acme/b1"], &["acme/d1", "acme/b12"]),
        ] {
            for repository in taken {
                assert!(takes(&[pattern], repository), "{pattern} {repository}");
            }
            for repository in others {
                assert!(!takes(&[pattern], repository), "{pattern} {repository}");
            }
        }
        assert!(takes(&[" acme ", "", "b/x"], "B/X") && !takes(&["acme", "b/x"], "b/y"));
        let nobodys = RepoName { owner: None, name: "web".to_owned() };
        assert!(!new(&["**"]).unwrap().unwrap().take(&nobodys));
    }

    #[test]
    fn no_pattern_means_all() {
        assert!(new(&[]).unwrap().is_none() && new(&["", " "]).unwrap().is_none());
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        for pattern in ["acme/", "/web", "a/b/c", "https://github.com/acme", "acme/[x", "{a/x"] {
            let error = explain(&new(&["fine", pattern]).unwrap_err());
            assert!(error.starts_with("repositories: ") && error.contains(&format!("{pattern:?}")), "{error}");
        }
    }
}
