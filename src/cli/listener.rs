//! Arguments of the public listener: TLS, and limits on what senders may take.

use super::above_zero;
use crate::limits::Limits;
use clap::Args;
use std::{path::PathBuf, time::Duration};

/// Files for TLS on the public listener.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// Serve HTTPS with the certificate chain in this PEM file; read again when it changes. Needs --tls-key
    #[arg(long, env = "RUNHOUND_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The PEM file of the certificate's private key; read again when it changes. Needs --tls-cert
    #[arg(long, env = "RUNHOUND_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// One of the two without the other is of no use.
    pub(super) fn is_half(&self) -> bool {
        self.tls_cert.is_some() != self.tls_key.is_some()
    }
}

/// Limits that no sender can pass.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// Bodies of requests with a verified signature that may be in memory at one time, in MiB
    #[arg(long, env = "RUNHOUND_MAX_IN_FLIGHT_MIB", value_name = "MIB", default_value_t = 256, value_parser = above_zero)]
    pub max_in_flight_mib: u32,
    /// Bodies that are still coming in, their signature not verified yet, that may be in memory at one time, in MiB
    #[arg(long, env = "RUNHOUND_MAX_UNVERIFIED_MIB", value_name = "MIB", default_value_t = 64, value_parser = above_zero)]
    pub max_unverified_mib: u32,
    /// Connections that may be open at one time; more have to wait
    #[arg(long, env = "RUNHOUND_MAX_CONNECTIONS", value_name = "N", default_value_t = 16_000, value_parser = above_zero)]
    pub max_connections: u32,
    /// How long a client may take to send a request's head, and then its body, in seconds
    #[arg(long, env = "RUNHOUND_CLIENT_TIMEOUT", value_name = "SECONDS", default_value_t = 10, value_parser = above_zero)]
    pub client_timeout: u32,
}

impl From<&LimitArgs> for Limits {
    fn from(arguments: &LimitArgs) -> Self {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let bytes = |mib: u32| count(mib).saturating_mul(1 << 20);
        Self {
            verified_max_bytes: bytes(arguments.max_in_flight_mib),
            unverified_max_bytes: bytes(arguments.max_unverified_mib),
            max_connections: count(arguments.max_connections),
            client_timeout: Duration::from_secs(arguments.client_timeout.into()),
            ..Self::default()
        }
    }
}
