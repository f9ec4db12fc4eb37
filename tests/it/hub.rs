//! A stand-in for GitHub that keeps GitHub's rules: its REST API, below `/api/v3` as on an Enterprise Server, with hooks,
//! their deliveries, runs, jobs, tokens and limits; and its deliveries, which it really makes, once each. It goes wrong in
//! the ways GitHub and the network do, when it is ordered to.
//!
//! Invariant: it serves and delivers on loopback only, and everything it did can be read afterwards.

mod access;
mod actions;
mod deliveries;
mod faults;
mod jobs;
mod limits;
mod post;
mod record;
mod reply;
mod routes;
mod serving;
mod shapes;
mod state;
#[cfg(test)]
mod tests;
mod webhooks;

use self::{deliveries::Errand, faults::Ordered, jobs::Job, serving::Shared};
use crate::{
    github::{AttemptBuilder, CopiedId, JobBuilder},
    http::Server,
};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

pub(crate) use access::{App, Denial, Rights};
pub(crate) use actions::{Happened, Happens};
pub(crate) use deliveries::Delivery;
pub(crate) use faults::{Asked, Order};
pub(crate) use state::{Place, State};
pub(crate) use webhooks::{Config, Hook};

/// A stand-in for GitHub, at work from [`Hub::start`] until it is dropped.
#[derive(Debug)]
pub(crate) struct Hub {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// At work until the hub is dropped.
    server: Option<Server>,
}

impl Hub {
    /// A hub on a free port, with nothing in it.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::new(State::new(format!("http://{address}"))));
        let handled = Arc::clone(&shared);
        let server = Server::start(listener, move |request| handled.handle(&request));
        Self { shared, address, server: Some(server) }
    }

    /// The base URL, for `--github-url`. The API is below `/api/v3`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a repository `owner/name`, and its owner, an organisation; the repository's ID. Whatever happens in a repository
    /// makes it, too.
    pub(crate) fn repository(&self, full_name: &str) -> u64 {
        let (owner, name) = full_name.split_once('/').expect("owner/name");
        let mut state = self.shared.lock();
        let index = state.repository_made(owner, name);
        state.repositories[index].id
    }

    /// Makes a hook of a repository `owner/name`, which is made if there is none, or of an organisation: active, for
    /// `workflow_run`, in JSON. Its ID.
    pub(crate) fn hook(&self, place: &str, url: &str, secret: &str) -> u64 {
        let secret = Some(secret).filter(|secret| !secret.is_empty()).map(str::to_owned);
        let (url, content_type, insecure_ssl) = (url.to_owned(), "json".to_owned(), "0".to_owned());
        self.hook_of(place, Config { url, content_type, secret, insecure_ssl }, &["workflow_run"])
    }

    /// Makes a hook with any config and events. Its ID.
    pub(crate) fn hook_of(&self, place: &str, config: Config, events: &[&str]) -> u64 {
        if place.contains('/') {
            self.repository(place);
        }
        let mut state = self.shared.lock();
        let place = state.place(place).expect("an organisation has a repository");
        let id = state.hook_made(place, config);
        let hook = state.hooks.last_mut().expect("it was made");
        hook.events = events.iter().map(|&event| event.to_owned()).collect();
        id
    }

    /// A token for `Authorization: Bearer`.
    pub(crate) fn token(&self, rights: Rights) -> String {
        self.shared.lock().access.give("ghp", rights, None)
    }

    /// Makes a token unknown.
    pub(crate) fn revoke(&self, token: &str) {
        self.shared.lock().access.revoke(token);
    }

    /// How a token without a right is refused.
    pub(crate) fn set_denial(&self, denial: Denial) {
        self.shared.lock().access.denial = denial;
    }

    /// Installs the App for an organisation.
    pub(crate) fn install(&self, organisation: &str, rights: Rights) -> App {
        let mut state = self.shared.lock();
        let id = state.organisation(organisation).expect("an organisation has a repository").id;
        state.install(id, rights)
    }

    /// How long the App's tokens live from now on.
    pub(crate) fn set_token_lifetime(&self, seconds: i64) {
        self.shared.lock().access.token_lifetime_s = seconds;
    }

    /// Something of a run or of one of its jobs happens, mostly its end; or the end of a run [with all its
    /// jobs](crate::github::RunBuilder::with_jobs). It is in the API, and delivered once by each hook that wants it. The
    /// deliveries, once each is answered or given up.
    pub(crate) fn complete(&self, what: &impl Happens) -> Vec<Delivery> {
        self.happen(what).iter().filter_map(|errand| self.shared.deliver(errand)).collect()
    }

    /// The same, but GitHub does not even try to deliver it.
    pub(crate) fn complete_silently(&self, what: &impl Happens) {
        drop(self.happen(what));
    }

    /// The same, but each delivery is logged as one that was answered by this status, or not at all if it is 0; none is made.
    pub(crate) fn complete_unheard(&self, what: &impl Happens, status_code: u16) -> Vec<Delivery> {
        self.happen(what).iter().filter_map(|errand| self.shared.pretend(errand, status_code)).collect()
    }

    fn happen(&self, what: &impl Happens) -> Vec<Errand> {
        let mut state = self.shared.lock();
        let happened = what.happen(&mut state);
        self.shared.changed.notify_all();
        let errands = happened.iter().flat_map(|Happened { repository_id, organisation_id, event, payload }| {
            let places = [Place::Repository(*repository_id), Place::Organisation(*organisation_id)];
            state.errands(&places, event, payload)
        });
        errands.collect()
    }

    /// The attempt after the latest of a run, by "re-run failed jobs" at this second: those that failed, were cancelled or timed
    /// out run again for as long as before, all succeed, and `ends` may change that of each; all others are told of once more.
    /// Nothing has happened in it yet: it can be completed, as a whole or job by job.
    pub(crate) fn failed_jobs_again(
        &self,
        run: u64,
        second: i64,
        ends: impl Fn(JobBuilder) -> JobBuilder,
    ) -> AttemptBuilder {
        self.shared.lock().failed_jobs_again(run, second, ends)
    }

    /// Which ID a job has from now on that a re-run tells of without having run it.
    pub(crate) fn set_copied_id(&self, id: CopiedId) {
        self.shared.lock().copied_id = id;
    }

    /// Another event of a repository, with any payload. The deliveries.
    pub(crate) fn deliver(&self, full_name: &str, event: &str, payload: &Value) -> Vec<Delivery> {
        self.repository(full_name);
        let state = self.shared.lock();
        let (owner, name) = full_name.split_once('/').expect("owner/name");
        let repository = state.repository(owner, name).expect("it was made");
        let places = [Place::Repository(repository.id), Place::Organisation(repository.organisation_id)];
        let errands = state.errands(&places, event, payload);
        drop(state);
        errands.iter().filter_map(|errand| self.shared.deliver(errand)).collect()
    }

    /// Sets `updated_at` of an attempt in the API, as annotations do; its jobs keep their end.
    pub(crate) fn set_updated_at(&self, run: u64, attempt: u32, second: i64) {
        self.shared.lock().attempt_mut(run, attempt).object["updated_at"] = json!(shapes::time(second));
    }

    /// Gives an attempt these jobs, each from one second to another, or still at work; or none.
    pub(crate) fn set_jobs(&self, run: u64, attempt: u32, times: &[(i64, Option<i64>)]) {
        let mut state = self.shared.lock();
        let ids: Vec<u64> = times.iter().map(|_| state.next_id()).collect();
        let base = state.base.clone();
        let attempt = state.attempt_mut(run, attempt);
        let job = |(id, times): (u64, &(i64, Option<i64>))| Job::of_run(id, &attempt.payload, Some(*times), &base);
        attempt.jobs = ids.into_iter().zip(times).map(job).collect();
        attempt.has_own_jobs = true;
    }

    /// Has this address answer at every URL that begins so, as a proxy would at `https://runhound.example.com`. At other URLs
    /// nobody answers, unless they are on loopback.
    pub(crate) fn road(&self, start: &str, address: SocketAddr) {
        self.shared.lock().roads.insert(0, (start.to_owned(), address));
    }

    /// Does this with the next `times` requests that match. The predicate must not use the hub.
    pub(crate) fn order(&self, order: Order, times: usize, matches: impl Fn(&Asked) -> bool + Send + 'static) {
        let matches = Box::new(matches);
        self.shared.lock().orders.extend((times > 0).then_some(Ordered { order, left: times, matches }));
    }

    /// Forgets the orders that are left, and drops the connections that hang.
    pub(crate) fn recover(&self) {
        self.shared.lock().orders.clear();
        self.release();
    }

    /// Drops the connections that hang.
    pub(crate) fn release(&self) {
        self.shared.release();
    }

    /// Sets the rate limit, what remains of it, and in how many seconds it is whole again.
    pub(crate) fn set_rate_limit(&self, limit: u64, remaining: u64, resets_in_s: i64) {
        let mut state = self.shared.lock();
        let resets_at = state.clock() + resets_in_s;
        state.budget.limit = limit;
        state.budget.used = limit.saturating_sub(remaining);
        state.budget.resets_at = resets_at;
    }

    /// The status of what the rate limit refuses: 403 or 429.
    pub(crate) fn set_rate_limit_refusal(&self, status: u16) {
        self.shared.lock().budget.refusal = status;
    }

    /// Sets the hub's clock this far ahead of the system's, or behind it.
    pub(crate) fn set_clock_offset(&self, seconds: i64) {
        self.shared.lock().clock_offset_s = seconds;
    }

    /// How long the answer to a delivery is waited for, instead of GitHub's 10 s.
    pub(crate) fn set_delivery_timeout(&self, timeout: Duration) {
        self.shared.lock().delivery_timeout = timeout;
    }

    /// Reads the state as it is at one moment.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.lock())
    }

    /// See [`State::requests`].
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.read(|state| state.requests().to_vec())
    }

    /// How many requests are like this.
    pub(crate) fn count(&self, is_so: impl Fn(&Asked) -> bool) -> usize {
        self.read(|state| state.requests().iter().filter(|asked| is_so(asked)).count())
    }

    /// See [`State::hooks`].
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        self.read(|state| state.hooks().to_vec())
    }

    /// See [`State::deliveries`].
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.read(|state| state.deliveries().to_vec())
    }

    /// Blocks until `holds` does, which is asked anew whenever something has come in or was delivered; panics after `timeout`.
    #[track_caller]
    pub(crate) fn wait_until(&self, holds: impl Fn(&State) -> bool, timeout: Duration) {
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), timeout, |state| !holds(state));
        let (state, waited) = waited.expect("a rule panicked in the hub");
        let seen = format!("{state:?}");
        drop(state);
        assert!(!waited.timed_out(), "waited {timeout:?} in vain for the hub: {seen}");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}
