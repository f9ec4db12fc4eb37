//! Leading: one replica at a time seals what waits, and records what became of it.
//!
//! Invariant: who leads holds an advisory lock with its session, and has raised the term; all that it changes, it changes in that
//! session and only while the term is its own. A session that says nothing for the lease is ended by the server. When anything
//! fails, the term is over: what is known then stands in the database, and whoever leads next begins with that.

use super::{Common, Failure, reign::Reign, statements};
use crate::{
    ledger::{
        Sealed, Term, Unavailable,
        keeper::{Command, Reply, answer},
        state::LAST_KEPT_S,
    },
    vitals::Vitals,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver, watch},
    time::{Instant, MissedTickBehavior, interval, interval_at},
};

/// How often whoever leads says something, and others try to lead.
const BEAT: Duration = Duration::from_secs(1);

/// How long a statement of whoever leads may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// How often partitions are made and dropped, and seconds forgotten that nothing could use.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(3600);

/// The one who leads, or would.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) common: Arc<Common>,
    pub(super) inbox: UnboundedReceiver<Command>,
    /// The term, while this is the one.
    pub(super) leading: watch::Sender<Option<i64>>,
    pub(super) news: Arc<Notify>,
    pub(super) vitals: Arc<Vitals>,
    /// Whether somebody has asked to deliver.
    pub(super) is_wanted: bool,
    /// Whether a term of this process is over.
    pub(super) has_led: bool,
}

impl Leader {
    /// Works until nobody can ask any more.
    pub(super) async fn run(mut self) {
        while let Some(reign) = self.campaign().await {
            let term = reign.term;
            log::info!("this replica delivers from now on: term {term}");
            self.common.note_success();
            self.leading.send_replace(Some(term));
            self.news.notify_one();
            let ended = self.reign(reign).await;
            self.leading.send_replace(None);
            let Some(failure) = ended else {
                return;
            };
            log::warn!("term {term} is over, another replica may deliver: {}", failure.unavailable());
        }
    }

    /// Tries to lead until it does; `None` once nobody asks any more.
    async fn campaign(&mut self) -> Option<Reign> {
        while !self.is_wanted {
            // Whoever only takes in, or looks, must not be in the way of who delivers.
            match self.inbox.recv().await? {
                Command::Lead { reply } => {
                    self.is_wanted = true;
                    answer(reply, Ok(None));
                }
                other => refuse(other, &Failure::deposed().unavailable()),
            }
        }
        let mut session = None;
        // Whoever has just lost its term leaves the next one to others, and what fails each time fails once a second.
        let first = Instant::now() + if self.has_led { BEAT } else { Duration::ZERO };
        let mut ticks = interval_at(first, BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Self { common, inbox, .. } = self;
        loop {
            let tried = async {
                ticks.tick().await;
                common.within(PATIENCE, Reign::begin(common, &mut session)).await
            };
            tokio::pin!(tried);
            let begun = loop {
                tokio::select! {
                    command = inbox.recv() => refuse(command?, &Failure::deposed().unavailable()),
                    begun = &mut tried => break begun,
                }
            };
            match begun {
                Ok(Some(reign)) => {
                    self.has_led = true;
                    return Some(reign);
                }
                Ok(None) => {}
                Err(failure) => common.note(&failure),
            }
        }
    }

    /// Does what is asked until the term is over, and why; `None` once nobody asks any more.
    async fn reign(&mut self, mut reign: Reign) -> Option<Failure> {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut keep_house_at = Instant::now();
        loop {
            let done = tokio::select! {
                command = self.inbox.recv() => {
                    let Some(command) = command else {
                        reign.resign().await;
                        return None;
                    };
                    self.take(&mut reign, command).await
                }
                _ = beats.tick() => self.common.within(PATIENCE, self.beat(&reign)).await,
                () = reign.session.ended() => Err(Failure::deposed()),
            };
            if let Err(failure) = done {
                return Some(failure);
            }
            if keep_house_at <= Instant::now() {
                keep_house_at = Instant::now() + HOUSEKEEPING_EVERY;
                drop(tokio::spawn(keep_house(Arc::clone(&self.common), reign.now)));
            }
        }
    }

    /// Keeps the lease, and looks whether another replica has taken something in.
    async fn beat(&self, reign: &Reign) -> Result<(), Failure> {
        match statements::beat(&reign.session.client, reign.term).await? {
            None => Err(Failure::deposed()),
            Some(is_pending) => {
                if is_pending && reign.state.batch().is_none() {
                    self.news.notify_one();
                }
                Ok(())
            }
        }
    }

    /// Does one thing and answers. On a failure the term is over.
    async fn take(&self, reign: &mut Reign, command: Command) -> Result<(), Failure> {
        if let Command::Lead { reply } = command {
            reign.is_told = true;
            answer(reply, Ok(Some(Term { number: reign.term, open_batch: reign.state.batch().cloned() })));
            return Ok(());
        }
        if !reign.is_told {
            refuse(command, &Failure::deposed().unavailable());
            return Ok(());
        }
        match command {
            Command::Seal { now, limit, choice, reply } => {
                let was_open = reign.state.batch().is_some();
                let sealed = self.common.within(PATIENCE, reign.seal(now, limit, &choice)).await;
                if let (false, Ok(Sealed::Batch(batch))) = (was_open, &sealed) {
                    self.vitals.restamp(batch.restamped());
                }
                told(reply, sealed)
            }
            Command::Unseal { keys, in_doubt, reply } => {
                told(reply, self.common.within(PATIENCE, reign.unseal(keys, in_doubt)).await)
            }
            Command::Reject { keys, reply } => told(reply, self.common.within(PATIENCE, reign.reject(keys)).await),
            Command::Mark { keys, reply } => told(reply, self.common.within(PATIENCE, reign.mark(&keys)).await),
            other => unreachable!("this is asked elsewhere: {other:?}"),
        }
    }
}

/// Answers, and keeps the failure for oneself too.
fn told<T>(reply: Reply<T>, result: Result<T, Failure>) -> Result<(), Failure> {
    match result {
        Ok(value) => {
            answer(reply, Ok(value));
            Ok(())
        }
        Err(failure) => {
            answer(reply, Err(failure.unavailable()));
            Err(failure)
        }
    }
}

/// Nobody but whoever leads does this.
fn refuse(command: Command, why: &Unavailable) {
    match command {
        Command::Lead { reply } => answer(reply, Ok(None)),
        Command::Seal { reply, .. } => answer(reply, Err(why.clone())),
        Command::Unseal { reply, .. } | Command::Reject { reply, .. } | Command::Mark { reply, .. } => {
            answer(reply, Err(why.clone()));
        }
        other => unreachable!("this is asked elsewhere: {other:?}"),
    }
}

/// Partitions for the months to come, none for those too long ago, and no seconds that no run could be given again. It has a
/// session of its own: nobody waits for it, and it waits for nobody.
async fn keep_house(common: Arc<Common>, now: Option<i64>) {
    let kept = async {
        let session = common.database.connect().await?;
        session.client.batch_execute("SET lock_timeout TO '200ms'; SET statement_timeout TO '10min'").await?;
        session.client.batch_execute("SELECT make_partitions()").await?;
        let days = common.database.retention_days;
        // One an hour: a clock that is wrong for a moment does not forget everything.
        if let Some(dropped) =
            session.client.query_one("SELECT drop_partition($1)", &[&days]).await?.get::<_, Option<String>>(0)
        {
            log::info!("{dropped}: the keys of runs sent more than {days} days ago are forgotten");
        }
        let old_series = "DELETE FROM series WHERE told_at < now() - interval '31 days'";
        session.client.batch_execute(old_series).await?;
        if let Some(now) = now {
            let forget = "DELETE FROM last_second WHERE second + $1 <= $2 AND NOT is_historical";
            session.client.execute(forget, &[&LAST_KEPT_S, &now]).await?;
        }
        Ok::<(), Failure>(())
    };
    if let Err(failure) = kept.await {
        log::warn!("partitions are looked after again in an hour: {}", failure.unavailable());
    }
}
