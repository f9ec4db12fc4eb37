//! The same in the background of a service: a look at the logs every so often.
//!
//! Invariant: a completion that was found is fetched once for good, however often its failed tries are seen.

use super::{HealingError, recover};
use crate::{
    explain::explain,
    github::{Github, Place},
    inlet::{Answered, Here, Inlet},
    vitals::Vitals,
};
use indicatif::ProgressBar;
use jiff::Timestamp;
use recover::Hole;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How far back GitHub's logs reach: three days, and seven on an Enterprise Server. Source: "Viewing webhook deliveries".
const KEPT_S: i64 = 7 * 24 * 3600;

/// How much of the time before the last look is looked at again: an entry may be late.
const OVERLAP_S: i64 = 15 * 60;

/// Looks at the logs of webhooks every so often.
#[derive(Debug)]
pub(crate) struct Sweeper {
    github: Github,
    places: Vec<Place>,
    every: Duration,
    inlet: Inlet,
    vitals: Arc<Vitals>,
    /// From when on there is something to look at.
    since: i64,
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
    pub(crate) fn new(github: Github, places: Vec<Place>, every: Duration, here: Here) -> Self {
        let vitals = Arc::clone(here.ledger.vitals());
        vitals.recovers();
        let (inlet, since) = (Inlet::Here(here), Timestamp::now().as_second() - KEPT_S);
        Self { github, places, every, inlet, vitals, since, settled: HashMap::new(), open: Vec::new() }
    }

    /// Works for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let begun = Timestamp::now().as_second();
            let swept = self.sweep().await;
            match &swept {
                Ok(()) => {
                    self.since = begun - OVERLAP_S;
                    self.settled.retain(|_, tried_at| *tried_at > begun - KEPT_S);
                }
                Err(error) => {
                    let hint = error.hint().unwrap_or_default();
                    log::warn!("GitHub's delivery logs could not be read: {}; {hint}", explain(error));
                }
            }
            self.vitals.swept(Timestamp::now(), swept.err().map(|error| explain(&error)), self.github.limits());
            tokio::time::sleep(self.every).await;
        }
    }

    async fn sweep(&mut self) -> Result<(), HealingError> {
        for place in self.places.clone() {
            for hook in recover::hooks(&self.github, &place, None).await? {
                let (since, bar) = (self.since, ProgressBar::hidden());
                let holes = recover::holes(&self.github, &place, hook.id, since, false, &bar).await?;
                let is_known = |hole: &Hole| {
                    self.settled.contains_key(&hole.last.guid)
                        || self.open.iter().any(|open| open.hole.last.guid == hole.last.guid)
                };
                let new: Vec<Hole> = holes.into_iter().filter(|hole| !is_known(hole)).collect();
                self.open.extend(new.into_iter().map(|hole| Open { hole, is_counted: false }));
            }
        }
        for mut open in std::mem::take(&mut self.open) {
            // What cannot be done now is kept for the next time.
            let is_settled = self.fill(&mut open).await.unwrap_or_else(|error| {
                log::warn!("a missing delivery could not be fetched: {}", explain(&error));
                false
            });
            if is_settled {
                self.settled.insert(open.hole.last.guid, open.hole.last.delivered_at.as_second());
            } else {
                self.open.push(open);
            }
        }
        Ok(())
    }

    /// Takes one in; whether that is settled.
    async fn fill(&self, open: &mut Open) -> Result<bool, HealingError> {
        let recorded = match recover::recorded(&self.github, &open.hole).await {
            Err(error) if super::is_gone(&error) => return Ok(true),
            recorded => recorded?,
        };
        let answered = self.inlet.take(&recorded).await?;
        let is_settled = !matches!(answered, Answered::Refused(_));
        let is_filled = answered == Answered::Accepted;
        if is_filled || !is_settled {
            self.vitals.holes(u64::from(!open.is_counted), u64::from(is_filled));
            open.is_counted = true;
        }
        if is_filled {
            let Hole { place, last, .. } = &open.hole;
            let delivery = last.guid.as_str();
            log::warn!(delivery, place:%; "a delivery had failed ({}): its run is taken in", last.status);
        }
        Ok(is_settled)
    }
}
