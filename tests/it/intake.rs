//! A stand-in for Datadog's intake that keeps Datadog's rules: it takes what Datadog takes, refuses what Datadog
//! refuses, keeps the last value of each metric, tag set and second, and throws away points that are too old or too
//! far ahead while it says 202. It goes wrong in the ways Datadog and the network do, when it is ordered to.
//!
//! Invariant: it serves on loopback only, and everything it did can be read afterwards, also while it is stopped.

#[path = "../../src/metrics/tests/datadog.rs"]
mod described;
mod rules;
mod state;
#[cfg(test)]
mod tests;

use self::state::Shared;
use crate::http::Server;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::net::TcpSocket;

pub(crate) use rules::{Dropped, Overwritten, PointKey, UNPACKED_MAX_BYTES, WIRE_MAX_BYTES};
pub(crate) use state::{Order, Received, State};

/// The key that an intake expects until it is told another one.
pub(crate) const TEST_KEY: &str = "test-key";

/// The listening side of an intake.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    /// At work unless the intake is stopped.
    server: Option<Server>,
    /// Holds the port without listening on it: while the intake is stopped connections are refused, and nobody else
    /// gets the port. Not every system lets one socket hold a port on which another listens.
    held: Option<TcpSocket>,
}

/// A stand-in for Datadog's intake, at work from [`Intake::start`] until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Intake {
    shared: Arc<Shared>,
    address: SocketAddr,
    door: Mutex<Door>,
}

impl Intake {
    /// An intake on a free port.
    pub(crate) fn start() -> Self {
        Self::start_at(0)
    }

    /// An intake on this port, with nothing stored. To bring a stopped one back use [`Intake::restart`].
    pub(crate) fn start_at(port: u16) -> Self {
        let shared = Arc::<Shared>::default();
        TEST_KEY.clone_into(&mut shared.lock().key);
        let door = Door::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &shared);
        Self { shared, address: door.address, door: Mutex::new(door) }
    }

    /// An intake that is not there yet: its port is chosen, and refuses connections until [`Intake::restart`].
    pub(crate) fn stopped() -> Self {
        let intake = Self::start();
        intake.stop();
        intake
    }

    /// The base URL. The intake also serves below any path put after it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it serves on.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Drops every connection and refuses new ones. What was stored can still be read.
    pub(crate) fn stop(&self) {
        self.shared.set_stopped(true);
        self.door.lock().unwrap_or_else(PoisonError::into_inner).close();
    }

    /// Serves again after [`Intake::stop`], on the same port and with all that was stored and ordered before.
    pub(crate) fn restart(&self) {
        self.shared.set_stopped(false);
        self.door.lock().unwrap_or_else(PoisonError::into_inner).reopen(&self.shared);
    }

    /// Puts an order at the end of the queue. Each push takes one, whether the rules would refuse it or not.
    pub(crate) fn order(&self, order: Order) {
        self.order_many([order]);
    }

    /// Puts orders at the end of the queue.
    pub(crate) fn order_many(&self, orders: impl IntoIterator<Item = Order>) {
        self.shared.lock().orders.extend(orders);
    }

    /// What to do with pushes for which no order is left, instead of [`Order::Take`]. The policy must not use the intake.
    pub(crate) fn set_policy(&self, policy: impl FnMut(&Received) -> Order + Send + 'static) {
        self.shared.lock().policy = Some(Box::new(policy));
    }

    /// Forgets the orders that are left and the policy: from now on everything goes by the rules.
    pub(crate) fn recover(&self) {
        let mut state = self.shared.lock();
        state.orders.clear();
        state.policy = None;
    }

    /// Drops the connections that hang.
    pub(crate) fn release(&self) {
        self.shared.release();
    }

    /// Stores every payload that [`Order::StoreLater`] kept, in the order of their coming, by the clock of now.
    pub(crate) fn land_late(&self) {
        self.shared.land_late();
    }

    /// Stores them in the opposite order.
    pub(crate) fn land_late_in_reverse(&self) {
        self.shared.lock().late.reverse();
        self.land_late();
    }

    /// Expects another key from now on.
    pub(crate) fn set_key(&self, key: &str) {
        key.clone_into(&mut self.shared.lock().key);
    }

    /// Whether points of any age are kept, as where Historical Metrics Ingestion is enabled for them.
    pub(crate) fn keep_history(&self, keeps: bool) {
        self.shared.lock().store.keeps_history = keeps;
    }

    /// Sets the intake's clock this far ahead of the system's, or behind it.
    pub(crate) fn set_clock_offset(&self, seconds: i64) {
        self.shared.lock().clock_offset_s = seconds;
    }

    /// Whether answers come without a `Date`.
    pub(crate) fn omit_date(&self, omits: bool) {
        self.shared.lock().omits_date = omits;
    }

    /// Has `GET /api/v1/validate` answered with this status, or by the rules.
    pub(crate) fn set_validate(&self, status: Option<u16>) {
        self.shared.lock().validate = status.map(Order::status);
    }

    /// Has `GET /api/v1/validate` answered with this status and body.
    pub(crate) fn set_validate_answer(&self, status: u16, body: &str) {
        self.shared.lock().validate = Some(Order::Status(status, body.to_owned(), Vec::new()));
    }

    /// Reads the state as it is at one moment.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.lock())
    }

    /// See [`State::count`].
    pub(crate) fn count(&self, metric: &str) -> f64 {
        self.read(|state| state.count(metric))
    }

    /// See [`State::stored`].
    pub(crate) fn stored(&self) -> BTreeMap<PointKey, f64> {
        self.read(|state| state.stored().clone())
    }

    /// See [`State::dropped`].
    pub(crate) fn dropped(&self) -> Vec<Dropped> {
        self.read(|state| state.dropped().to_vec())
    }

    /// See [`State::overwritten`].
    pub(crate) fn overwritten(&self) -> Vec<Overwritten> {
        self.read(|state| state.overwritten().to_vec())
    }

    /// See [`State::requests`].
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.read(|state| state.requests().to_vec())
    }

    /// See [`State::validations`].
    pub(crate) fn validations(&self) -> usize {
        self.read(State::validations)
    }

    /// See [`State::violations`].
    pub(crate) fn violations(&self) -> Vec<String> {
        self.read(|state| state.violations().to_vec())
    }

    /// Panics if anything that came in was not as Datadog's description of its API wants it.
    #[track_caller]
    pub(crate) fn assert_contract(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "the contract with Datadog is violated: {violations:#?}");
    }

    /// Panics if anything came in that was not compressed with gzip, and smaller for it.
    #[track_caller]
    pub(crate) fn assert_compressed(&self) {
        for Received { encoding, wire_bytes, unpacked, .. } in self.requests() {
            assert_eq!(encoding.as_deref(), Some("gzip"));
            assert!(wire_bytes < unpacked.len(), "{wire_bytes} bytes for {unpacked}");
        }
    }

    /// Blocks until `holds` does, which is asked anew whenever something has come in or landed; panics after `timeout`.
    #[track_caller]
    pub(crate) fn wait_until(&self, holds: impl Fn(&State) -> bool, timeout: Duration) {
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), timeout, |state| !holds(state))
            .expect("a policy or a rule panicked in the intake");
        let seen = format!("{state:?}");
        drop(state);
        assert!(!waited.timed_out(), "waited {timeout:?} in vain for the intake: {seen}");
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Door {
    /// Port 0 stands for any that is free.
    fn open(address: SocketAddr, shared: &Arc<Shared>) -> Self {
        let held = hold(address);
        let address = held.as_ref().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
        let mut door = Self { address, server: None, held };
        door.reopen(shared);
        door
    }

    fn reopen(&mut self, shared: &Arc<Shared>) {
        if self.server.is_none() {
            let listener = TcpListener::bind(self.address).or_else(|_| {
                self.held = None;
                TcpListener::bind(self.address)
            });
            let listener = listener.expect("the port is free");
            self.address = listener.local_addr().expect("a bound listener has an address");
            let shared = Arc::clone(shared);
            self.server = Some(Server::start(listener, move |request| shared.handle(request)));
        }
    }

    fn close(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
            self.held = self.held.take().or_else(|| hold(self.address));
        }
    }
}

/// Holds a port without listening on it, if the system lets us.
fn hold(address: SocketAddr) -> Option<TcpSocket> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_reuseaddr(true).ok()?;
    socket.bind(address).ok()?;
    Some(socket)
}
