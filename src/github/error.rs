//! Why GitHub did not do what was asked, and what to do about it.

use super::Place;
use crate::outgoing::ClientError;

/// GitHub did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GithubError {
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody answers, or only with faults.
    #[error("{what}: {cause}")]
    NoAnswer {
        /// The request.
        what: String,
        /// What happened at the last try.
        cause: String,
    },
    /// The token is not valid.
    #[error("{what}: GitHub does not know the token: {message}")]
    Unauthorized {
        /// The request.
        what: String,
        /// GitHub's words.
        message: String,
    },
    /// The token has not the right.
    #[error("{what}: GitHub forbids it: {message}")]
    Forbidden {
        /// The request.
        what: String,
        /// GitHub's words.
        message: String,
    },
    /// There is no such thing, or the token may not see it.
    #[error("{what}: GitHub finds nothing there")]
    NotFound {
        /// The request.
        what: String,
    },
    /// It is somewhere else now.
    #[error("{what}: GitHub says that it has moved")]
    Moved {
        /// The request.
        what: String,
    },
    /// The App is not installed there.
    #[error("the GitHub App is not installed for {0}")]
    NotInstalled(Place),
    /// GitHub refuses what was asked for.
    #[error("{what}: GitHub refuses it: {message}")]
    Invalid {
        /// The request.
        what: String,
        /// GitHub's words.
        message: String,
    },
    /// An answer that nobody expects.
    #[error("{what}: {cause}")]
    Unexpected {
        /// The request.
        what: String,
        /// What is odd.
        cause: String,
    },
}

impl GithubError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Client(_) => "the certificates of this machine cannot be used",
            Self::NoAnswer { .. } => {
                "see to --github-url, name resolution, proxies and outgoing HTTPS, and to githubstatus.com; then run it again: \
                 what was done is not done twice"
            }
            Self::Unauthorized { .. } => {
                "GITHUB_TOKEN, or GITHUB_TOKEN_FILE, must be a token that has not expired; the GITHUB_TOKEN of a workflow cannot \
                 see webhooks. For an App, ID and key must be of the same one, and this machine's clock be right"
            }
            Self::Forbidden { .. } => {
                "give the token the rights: for webhooks `Webhooks: read and write` (a classic token: admin:repo_hook, or \
                 admin:org_hook), for runs `Actions: read` (a classic token: repo); where the organization has SSO, authorize the \
                 token for it"
            }
            Self::NotFound { .. } => {
                "check the name; GitHub also hides what a token may not see: for webhooks it needs `Webhooks: read and write` (a \
                 classic token: admin:repo_hook, or admin:org_hook), for runs `Actions: read` (a classic token: repo)"
            }
            Self::Moved { .. } => "the repository or its owner has another name now: use that one",
            Self::NotInstalled(_) => {
                "install the App for that owner, with `Webhooks: read and write` and `Actions: read`; or see that ID and key are its own"
            }
            Self::Invalid { .. } => "mend what GitHub names",
            Self::Unexpected { .. } => {
                "--github-url must be GitHub itself, or an Enterprise Server: https://github.example.com"
            }
        }
    }
}
