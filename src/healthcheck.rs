//! Whether the service on this machine is ready, asked from beside it: an image without a shell has no other program for
//! that.

use crate::cli::{self, AdminListen};
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// How long the answer may take: longer than the service waits for its disk before it says that it is not ready.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The service is not ready, or does not say.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// There is nobody to ask.
    #[error("--admin-listen: it is off, and nothing else can be asked")]
    Off,
    /// Nobody answers.
    #[error("http://{address}/readyz: {cause}")]
    NoAnswer {
        /// Who was asked.
        address: SocketAddr,
        /// What the client said.
        cause: String,
    },
    /// No run can be recorded now.
    #[error("not ready: {reason}")]
    NotReady {
        /// Why, in the service's own words.
        reason: String,
        /// What to do, in its own words.
        hint: String,
    },
}

impl HealthcheckError {
    /// What to do about it, where something can be said.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Off => Some("give the service an admin listener, or check GET /healthz on its public one"),
            Self::NoAnswer { .. } => {
                Some("RUNHOUND_ADMIN_LISTEN must be what the service has; its log says where it is")
            }
            Self::NotReady { hint, .. } => Some(hint).filter(|hint| !hint.is_empty()).map(String::as_str),
        }
    }
}

/// What `/readyz` answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Readiness {
    reason: String,
    hint: String,
}

/// Asks the service whether it is ready.
///
/// # Errors
/// It is not, or does not say.
pub fn healthcheck(arguments: &cli::Healthcheck) -> Result<(), HealthcheckError> {
    let AdminListen::At(address) = arguments.admin_listen else {
        return Err(HealthcheckError::Off);
    };
    let address = reachable(address);
    let (is_ready, text) = actix_web::rt::System::new()
        .block_on(ask(address))
        .map_err(|cause| HealthcheckError::NoAnswer { address, cause })?;
    if is_ready {
        return Ok(());
    }
    let Readiness { reason, hint } = serde_json::from_slice(&text).unwrap_or_default();
    Err(HealthcheckError::NotReady { reason, hint })
}

/// An address that stands for all of the machine's, as one that can be asked.
const fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

async fn ask(address: SocketAddr) -> Result<(bool, Vec<u8>), String> {
    let client = awc::Client::builder().timeout(ANSWER_TIMEOUT).finish();
    let mut answer = client.get(format!("http://{address}/readyz")).send().await.map_err(|error| error.to_string())?;
    let body = answer.body().await.map_err(|error| error.to_string())?;
    Ok((answer.status().is_success(), body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_stands_for_all_is_asked_on_the_loopback_interface() {
        let asked = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8081"), "127.0.0.1:8081");
        assert_eq!(asked("[::]:9"), "[::1]:9");
        assert_eq!(asked("10.0.0.7:8081"), "10.0.0.7:8081");
    }
}
