//! What systemd hands over: a socket. What it is told: ready, alive, stopping. Without systemd there is none and nobody is
//! told, and nothing is lost by it.

use crate::ledger::Ledger;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::{io, net::TcpListener};

/// The socket of a socket unit, which goes on taking connections while no service runs.
///
/// # Errors
/// There are several, or it is not a TCP one.
pub(crate) fn socket() -> io::Result<Option<TcpListener>> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 | 1 => sockets.take_tcp_listener(0),
        number => Err(io::Error::other(format!("{number} sockets were handed over, and one is needed"))),
    }
}

/// Tells systemd, if it asked to be told (`Type=notify`).
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("systemd cannot be told: {error}");
    }
}

/// Deliveries are taken from now on.
pub(crate) fn ready(address: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("receiving at {address}"))]);
}

/// No more deliveries are taken.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: finishing requests, and a last push")]);
}

/// Says twice in each `WatchdogSec=` that the service is alive, for as long as the thread that writes the files answers.
pub(crate) async fn watch(ledger: Ledger) {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(patience / 2);
    loop {
        ticks.tick().await;
        if ledger.standing().await.is_err() {
            return;
        }
        tell(&[NotifyState::Watchdog]);
    }
}
