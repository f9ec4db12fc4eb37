//! Why the service cannot run.

use crate::{config::ConfigError, datadog::ClientError, github::GithubError, ledger::OpenError};
use std::{io, net::SocketAddr, path::PathBuf};

/// The service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Something in the configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The address cannot be listened on.
    #[error("{flag} {address}")]
    Listen {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The socket that systemd handed over cannot be used.
    #[error("LISTEN_FDS")]
    Socket(#[source] io::Error),
    /// The payload log cannot be written.
    #[error("payload log {}", path.display())]
    PayloadLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// GitHub cannot be asked.
    #[error(transparent)]
    Github(#[from] GithubError),
    /// The runtime or a thread failed.
    #[error("the service failed")]
    Failed(#[from] io::Error),
}

impl ServeError {
    /// What to do about it, where something can be said.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config(error) => Some(error.hint()),
            Self::Ledger(error) => Some(error.hint()),
            Self::Listen { .. } => Some("choose another address with that flag, or stop what listens there"),
            Self::Socket(_) => Some("the socket unit wants one ListenStream=, an address and a port or a port alone"),
            Self::PayloadLog { .. } => {
                Some("name a file with --payload-log that this user can write, in a folder that exists")
            }
            Self::Github(error) => Some(error.hint()),
            Self::Client(_) | Self::Failed(_) => None,
        }
    }
}
