//! What a hub knows: repositories with their runs, hooks, deliveries, tokens, orders, and each request that came in.
//!
//! Invariant: it is read and changed under one lock, which nobody holds while something is sent or waited for.

use super::{
    access::Access,
    actions::Run,
    deliveries::Delivery,
    faults::{Asked, Ordered},
    limits::Budget,
    shapes,
    webhooks::Hook,
};
use crate::github::CopiedId;
use jiff::Timestamp;
use serde_json::Value;
use std::{fmt, net::SocketAddr, time::Duration};

/// GitHub waits this long for the answer to a delivery.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a hook, or an installation, belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A repository, by its ID.
    Repository(u64),
    /// An organisation, by its ID.
    Organisation(u64),
}

/// An owner of repositories. Each is an organisation.
#[derive(Debug)]
pub(super) struct Organisation {
    pub(super) id: u64,
    pub(super) login: String,
}

/// A repository and what happened in it.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) id: u64,
    pub(super) organisation_id: u64,
    pub(super) owner: String,
    pub(super) name: String,
    /// The object of the API.
    pub(super) object: Value,
    pub(super) workflows: Vec<Value>,
    pub(super) runs: Vec<Run>,
}

impl Repository {
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    pub(super) fn is(&self, owner: &str, name: &str) -> bool {
        self.owner.eq_ignore_ascii_case(owner) && self.name.eq_ignore_ascii_case(name)
    }
}

/// All that a hub knows.
pub(crate) struct State {
    /// The base URL, without `/api/v3`.
    pub(super) base: String,
    pub(super) clock_offset_s: i64,
    pub(super) delivery_timeout: Duration,
    /// URLs' beginnings, and who answers there.
    pub(super) roads: Vec<(String, SocketAddr)>,
    pub(super) organisations: Vec<Organisation>,
    pub(super) repositories: Vec<Repository>,
    pub(super) hooks: Vec<Hook>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) access: Access,
    pub(super) budget: Budget,
    pub(super) copied_id: CopiedId,
    pub(super) orders: Vec<Ordered>,
    pub(super) requests: Vec<Asked>,
    /// Deliveries that are being made.
    pub(super) under_way: usize,
    last_id: u64,
    /// Grows whenever those that hang are let go.
    pub(super) releases: u64,
    /// While it is set, none hangs.
    pub(super) is_stopped: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests: Vec<String> = self.requests.iter().map(ToString::to_string).collect();
        f.debug_struct("State")
            .field("requests", &requests)
            .field("hooks", &self.hooks)
            .field("deliveries", &self.deliveries.iter().map(ToString::to_string).collect::<Vec<_>>())
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn new(base: String) -> Self {
        Self {
            base,
            clock_offset_s: 0,
            delivery_timeout: DELIVERY_TIMEOUT,
            roads: Vec::new(),
            organisations: Vec::new(),
            repositories: Vec::new(),
            hooks: Vec::new(),
            deliveries: Vec::new(),
            access: Access::default(),
            budget: Budget::default(),
            copied_id: CopiedId::default(),
            orders: Vec::new(),
            requests: Vec::new(),
            under_way: 0,
            last_id: 541_554_773,
            releases: 0,
            is_stopped: false,
        }
    }

    /// All requests, in the order in which they came in.
    pub(crate) fn requests(&self) -> &[Asked] {
        &self.requests
    }

    /// All hooks.
    pub(crate) fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// All deliveries, in the order in which they were logged.
    pub(crate) fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Whether no delivery is being made.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// The second it is for this hub.
    pub(crate) fn clock(&self) -> i64 {
        Timestamp::now().as_second().saturating_add(self.clock_offset_s)
    }

    /// Where the API is.
    pub(super) fn api(&self) -> String {
        format!("{}/api/v3", self.base)
    }

    /// An ID that nothing has yet.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The repository of this name, made if there is none; its index.
    pub(super) fn repository_made(&mut self, owner: &str, name: &str) -> usize {
        if let Some(index) = self.repositories.iter().position(|known| known.is(owner, name)) {
            return index;
        }
        let organisation_id = self.organisation_made(owner);
        let id = shapes::RECORDED_REPOSITORY_ID + self.repositories.len() as u64;
        let mut repository = Repository {
            id,
            organisation_id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            object: Value::Null,
            workflows: Vec::new(),
            runs: Vec::new(),
        };
        repository.object = shapes::repository(&repository, &self.base);
        self.repositories.push(repository);
        self.repositories.len() - 1
    }

    fn organisation_made(&mut self, login: &str) -> u64 {
        if let Some(known) = self.organisation(login) {
            return known.id;
        }
        let id = shapes::RECORDED_OWNER_ID + self.organisations.len() as u64;
        self.organisations.push(Organisation { id, login: login.to_owned() });
        id
    }

    pub(super) fn repository(&self, owner: &str, name: &str) -> Option<&Repository> {
        self.repositories.iter().find(|known| known.is(owner, name))
    }

    pub(super) fn organisation(&self, login: &str) -> Option<&Organisation> {
        self.organisations.iter().find(|known| known.login.eq_ignore_ascii_case(login))
    }

    /// `owner/name` as the repository, `owner` as the organisation, if there is one.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        match name.split_once('/') {
            Some((owner, name)) => self.repository(owner, name).map(|known| Place::Repository(known.id)),
            None => self.organisation(name).map(|known| Place::Organisation(known.id)),
        }
    }

    /// Where the API has the objects of a place.
    pub(super) fn address(&self, place: &Place) -> String {
        let path = match place {
            Place::Repository(id) => {
                let known = self.repositories.iter().find(|known| known.id == *id);
                known.map(|known| format!("repos/{}", known.full_name()))
            }
            Place::Organisation(id) => {
                let known = self.organisations.iter().find(|known| known.id == *id);
                known.map(|known| format!("orgs/{}", known.login))
            }
        };
        format!("{}/{}", self.api(), path.expect("a place stays"))
    }
}
