//! Where deliveries come in, and how an address is bound.

use super::ServeError;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Connections that may wait to be accepted. The system has a limit of its own, which is often this.
const CONNECTIONS_QUEUED: i32 = 4096;

/// Where deliveries come in.
#[derive(Debug)]
pub enum Door {
    /// At an address that is to be bound.
    Address(SocketAddr),
    /// By a socket that somebody else has bound, and keeps while no service runs.
    Socket(TcpListener),
    /// Nowhere: what comes in is handed in by this process.
    Closed,
}

impl Door {
    /// The address there is now, and the listener.
    pub(super) fn open(self) -> Result<(SocketAddr, Option<TcpListener>), ServeError> {
        let (address, listener) = match self {
            Self::Address(address) => bind("--listen", address)?,
            Self::Socket(listener) => (listener.local_addr().map_err(ServeError::Socket)?, listener),
            Self::Closed => return Ok(((Ipv4Addr::UNSPECIFIED, 0).into(), None)),
        };
        Ok((address, Some(listener)))
    }
}

/// Binds an address: the one there is now, and the listener.
pub(super) fn bind(flag: &'static str, address: SocketAddr) -> Result<(SocketAddr, TcpListener), ServeError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        // `bind` has set it to 128: beyond that the system lets new clients wait for a second and more.
        rustix::net::listen(&listener, CONNECTIONS_QUEUED)?;
        Ok((listener.local_addr()?, listener))
    });
    bound.map_err(|source| ServeError::Listen { flag, address, source })
}
