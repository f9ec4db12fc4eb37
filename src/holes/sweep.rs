//! A look at the logs every so often, in the background of a service.
//!
//! Invariant: a completion that was found is fetched once for good, however often its failed tries are seen. What stands in the
//! way at one place keeps no other from being healed.

use super::{Hole, HolesError, Patience, holes, hooks, is_of_one, recorded, tell_unheard};
use crate::{
    event::Detail,
    explain::explain,
    github::{Github, GithubError, Notice, Place},
    inlet::{Answered, Inlet},
    ledger::Ledger,
    receiver::Receiver,
    vitals::Vitals,
};
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// How far back the longest of GitHub's logs reach: seven days, on an Enterprise Server; on github.com three. Source: "Viewing
/// webhook deliveries".
const KEPT_S: i64 = 7 * 24 * 3600;

/// A delivery that GitHub does not find is gone, if it can be: after the shorter of both.
const GONE_S: i64 = 3 * 24 * 3600;

/// How much of the time before the last look is looked at again: an entry may be late.
const OVERLAP_S: i64 = 15 * 60;

/// Looks at the logs of webhooks every so often.
#[derive(Debug)]
pub(crate) struct Sweeper {
    github: Github,
    /// Places, each with the second from when on there is something to look at.
    places: Vec<(Place, i64)>,
    every: Duration,
    inlet: Inlet,
    detail: Detail,
    /// The places whose webhooks have been seen.
    seen: HashSet<Place>,
    ledger: Ledger,
    vitals: Arc<Vitals>,
    /// Completions that were fetched, or are gone, each with the second of its last try.
    settled: HashMap<String, i64>,
    /// Those that could not be fetched, or not be taken in.
    open: Vec<Open>,
}

/// A completion that is to be fetched.
#[derive(Debug)]
struct Open {
    hole: Hole,
    /// Whether it is told of already.
    is_counted: bool,
}

impl Sweeper {
    pub(crate) fn new(
        github: Github,
        places: Vec<Place>,
        every: Duration,
        receiver: Arc<Receiver>,
        ledger: Ledger,
    ) -> Self {
        let vitals = Arc::clone(ledger.vitals());
        vitals.recovers();
        let noticed = Arc::clone(&vitals);
        github.tell_by(move |notice| {
            log::warn!("{notice}");
            if let Notice::Waiting(until) = notice {
                noticed.waits_for_github(until);
            }
        });
        let since = Timestamp::now().as_second() - KEPT_S;
        let places = places.into_iter().map(|place| (place, since)).collect();
        let (detail, settled, open) = (receiver.detail(), HashMap::new(), Vec::new());
        Self {
            github,
            places,
            every,
            inlet: Inlet::Here(receiver),
            detail,
            seen: HashSet::new(),
            ledger,
            vitals,
            settled,
            open,
        }
    }

    /// Works for ever.
    pub(crate) async fn run(mut self) {
        loop {
            // Of several replicas the one that delivers looks: what it finds is recorded for all.
            self.ledger.until_leading().await;
            let error = self.sweep().await.err();
            self.vitals.swept(Timestamp::now(), error.map(|error| explain(&error)), self.github.limits());
            tokio::time::sleep(self.every).await;
        }
    }

    /// Looks everywhere, and takes in what it can; the first thing that stood in the way, if anything did.
    async fn sweep(&mut self) -> Result<(), HolesError> {
        let begun = Timestamp::now().as_second();
        let mut first = Ok(());
        for index in 0..self.places.len() {
            let Some((place, since)) = self.places.get(index).cloned() else { continue };
            match self.look(&place, since).await {
                Ok(()) => self.places.get_mut(index).into_iter().for_each(|(_, since)| *since = begun - OVERLAP_S),
                Err(error) => {
                    told(&error);
                    first = first.and(Err(error));
                }
            }
        }
        self.settled.retain(|_, tried_at| *tried_at > begun - KEPT_S);
        let filled = self.fill().await;
        first.and(filled)
    }

    async fn look(&mut self, place: &Place, since: i64) -> Result<(), HolesError> {
        let hooks = hooks(&self.github, place, None, self.detail).await?;
        if self.seen.insert(place.clone()) {
            tell_unheard(place, &hooks, self.detail);
        }
        for hook in hooks {
            let holes = holes(&self.github, place, hook.id, since, (self.detail, false), || {}).await?;
            for hole in holes {
                let is_open = self.open.iter().any(|open| open.hole.last.guid == hole.last.guid);
                if !is_open && !self.settled.contains_key(&hole.last.guid) {
                    self.open.push(Open { hole, is_counted: false });
                }
            }
        }
        Ok(())
    }

    /// Takes in what is missing. What could not be is kept for the next time; the first thing that stood in the way.
    async fn fill(&mut self) -> Result<(), HolesError> {
        let (mut first, mut patience, mut barred) = (Ok(()), Patience::default(), Vec::new());
        let mut is_over = false;
        for mut open in std::mem::take(&mut self.open) {
            if is_over || barred.contains(&open.hole.place) {
                self.open.push(open);
                continue;
            }
            match self.fill_one(&mut open).await {
                Ok(true) => {
                    patience.renew();
                    self.settled.insert(open.hole.last.guid, open.hole.last.delivered_at.as_second());
                }
                Ok(false) => self.open.push(open),
                Err(error) => {
                    match &error {
                        HolesError::Github(GithubError::NoAnswer { .. }) => is_over = !patience.bears_silence(),
                        HolesError::Github(_) | HolesError::NoHook { .. } => barred.push(open.hole.place.clone()),
                        HolesError::Receiver(_) => is_over = true,
                    }
                    told(&error);
                    self.open.push(open);
                    first = first.and(Err(error));
                }
            }
        }
        first
    }

    /// Takes one in; whether that is settled.
    async fn fill_one(&self, open: &mut Open) -> Result<bool, HolesError> {
        let Hole { place, last, .. } = &open.hole;
        let delivery = last.guid.as_str();
        let recorded = match recorded(&self.github, &open.hole).await {
            Err(error) if is_of_one(&error) => {
                let is_gone = Timestamp::now().as_second() - last.delivered_at.as_second() > GONE_S;
                // What is odd stays odd; what is not found may be hidden from a token that has lost its rights.
                let is_settled = is_gone || !matches!(error, GithubError::NotFound { .. });
                log::warn!(delivery, place:%; "a delivery had failed, and cannot be fetched: {}", explain(&error));
                self.vitals.holes(u64::from(!open.is_counted), 0);
                open.is_counted = true;
                return Ok(is_settled);
            }
            recorded => recorded?,
        };
        let answered = self.inlet.take(&recorded).await?;
        let is_filled = answered == Answered::Accepted;
        let is_settled = !matches!(answered, Answered::Refused(_));
        if is_filled || !is_settled {
            self.vitals.holes(u64::from(!open.is_counted), u64::from(is_filled));
            open.is_counted = true;
        }
        if is_filled {
            log::warn!(delivery, place:%; "a delivery had failed ({}): it is taken in", last.status);
        }
        Ok(is_settled)
    }
}

fn told(error: &HolesError) {
    let hint = error.hint().unwrap_or_default();
    log::warn!("missing deliveries could not be looked for or taken in: {}; hint: {hint}", explain(error));
}
