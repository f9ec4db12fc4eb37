//! Leading: one replica at a time seals what waits, and records what became of it.
//!
//! Invariant: who leads holds an advisory lock with its session, and has raised the term; all that it changes, it changes in that
//! session and only while the term is its own. A session that says nothing for the lease is ended by the server. When anything
//! fails, the term is over: what is known then stands in the database, and whoever leads next begins with that.

use super::{
    Common, Failure,
    database::Session,
    statements::{self, Last},
    text,
};
use crate::{
    event::Key,
    explain::explain,
    ledger::{
        Batch, Choice, Sealed, Term, Unavailable,
        keeper::{Command, answer},
        record::Record,
        state::State,
    },
    metrics::TagSet,
    vitals::Vitals,
};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// After so long without a word from whoever leads, the server ends its session. Others find that out within a beat, and begin:
/// within ten seconds of the last word, which is the lease.
const SILENCE: Duration = Duration::from_millis(8_500);

/// How often whoever leads says something, and others try to lead.
const BEAT: Duration = Duration::from_secs(1);

/// How long a statement of whoever leads may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// How often partitions are made and dropped, and seconds forgotten that nothing could use.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(3600);

/// The most runs that a batch is planned of, and the fewest that are read for one.
const WINDOW: usize = 10_000;
const WINDOW_MIN: usize = 500;

/// How long after it a used second is remembered.
const LAST_KEPT_S: i64 = 70 * 60;

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
}

/// A term, and what its leader knows in it.
#[derive(Debug)]
struct Reign {
    session: Session,
    term: i64,
    birth: i64,
    /// The open batch with its runs, and nothing else that lasts.
    state: State,
    /// Whether who delivers has been told of this term, and what is asked is asked in it.
    is_told: bool,
    /// The last second that delivery told, by Datadog's clock.
    now: Option<i64>,
    /// How many runs are read for the next batch.
    window: usize,
}

impl Leader {
    /// Works until nobody can ask any more.
    pub(super) async fn run(mut self) {
        while let Some(reign) = self.campaign().await {
            let term = reign.term;
            log::info!("this replica delivers from now on: term {term}");
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
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = self.inbox.recv() => refuse(command?, &Unavailable("this replica does not deliver".to_owned())),
                _ = ticks.tick() => match tokio::time::timeout(PATIENCE, self.begin(&mut session)).await {
                    Ok(Ok(Some(reign))) => return Some(reign),
                    Ok(Ok(None)) => {}
                    Ok(Err(failure)) => {
                        session = None;
                        self.common.note(&failure);
                    }
                    Err(_) => {
                        session = None;
                        self.common.note(&self.common.silent(PATIENCE));
                    }
                },
            }
        }
    }

    /// Begins a term, if nobody leads.
    async fn begin(&self, kept: &mut Option<Session>) -> Result<Option<Reign>, Failure> {
        let session = if let Some(session) = kept.take() {
            session
        } else {
            let session = self.common.database.connect().await?;
            let ms = SILENCE.as_millis();
            let lease = format!("SET idle_session_timeout TO {ms}; SET tcp_user_timeout TO {ms}");
            session.client.batch_execute(&lease).await?;
            session
        };
        let Some(begun) = statements::lead(&session.client, &self.common.name).await? else {
            *kept = Some(session);
            return Ok(None);
        };
        let mut state = State::new(begun.birth);
        if let Some(batch) = &begun.batch {
            let sealed = record(batch)?;
            let Record::Seal { slots, .. } = &sealed else {
                return Err(Failure::unreadable("the open batch"));
            };
            let keys: Vec<Key> = slots.iter().flat_map(|slot| &slot.keys).copied().collect();
            for run in statements::runs(&session.client, &keys).await? {
                apply(&mut state, record(&run)?)?;
            }
            apply(&mut state, sealed)?;
        }
        let (term, birth) = (begun.term, begun.birth);
        Ok(Some(Reign { session, term, birth, state, is_told: false, now: None, window: WINDOW }))
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
                    tokio::time::timeout(PATIENCE, self.take(&mut reign, command)).await
                }
                _ = beats.tick() => tokio::time::timeout(PATIENCE, self.beat(&reign)).await,
                () = reign.session.ended() => Ok(Err(Failure::deposed())),
            };
            match done {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Some(failure),
                Err(_) => return Some(self.common.silent(PATIENCE)),
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
                let sealed = reign.seal(now, limit, &choice).await;
                if let Ok(Sealed::Batch(batch)) = &sealed {
                    self.vitals.restamp(batch.restamped());
                }
                told(reply, sealed)
            }
            Command::Unseal { keys, in_doubt, reply } => told(reply, reign.unseal(keys, in_doubt).await),
            Command::Reject { keys, reply } => told(reply, reign.reject(keys).await),
            Command::Mark { keys, reply } => told(reply, reign.mark(&keys).await),
            other => unreachable!("this is asked elsewhere: {other:?}"),
        }
    }
}

/// Answers, and keeps the failure for oneself too.
fn told<T>(reply: crate::ledger::keeper::Reply<T>, result: Result<T, Failure>) -> Result<(), Failure> {
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

impl Reign {
    /// Gives the open batch, sealing one first if there is none.
    async fn seal(&mut self, now: i64, limit: usize, choice: &Choice) -> Result<Sealed, Failure> {
        self.now = Some(now);
        if let Some(batch) = self.state.batch() {
            return Ok(Sealed::Batch(batch.clone()));
        }
        let (families, slots) = loop {
            let waiting = statements::waiting(&self.session.client, choice, self.window).await?;
            if waiting.is_empty() {
                return Ok(Sealed::Nothing);
            }
            let families = self.load(&waiting).await?;
            let (slots, looked_at) = self.state.plan_within(now, limit, choice);
            let has_more = looked_at.is_none() && waiting.len() == self.window && self.window < WINDOW;
            // Twice as many as the last batch looked at, and where that is too few for what a payload takes, all.
            self.window = looked_at.map_or(WINDOW, |runs| (2 * runs).clamp(WINDOW_MIN, WINDOW));
            if !has_more {
                break (families, slots);
            }
        };
        let Some(slots) = slots else {
            return Ok(Sealed::Later);
        };
        apply(&mut self.state, Record::Seal { at: now, sent: 0, slots })?;
        let Some(batch) = self.state.batch().cloned() else {
            return Ok(Sealed::Nothing);
        };
        let last = families.last_of(&batch);
        self.is_mine(statements::seal(&self.session.client, self.term, &text(batch.record(0).line()), &last).await?)?;
        Ok(Sealed::Batch(batch))
    }

    /// Takes up these runs, and which seconds are used already.
    async fn load(&mut self, waiting: &[String]) -> Result<Families, Failure> {
        self.state = State::new(self.birth);
        let mut families = Families::default();
        for line in waiting {
            let accepted = record(line)?;
            if let Record::Accept(run) = &accepted {
                families.meet(&run.tag_set);
            }
            apply(&mut self.state, accepted)?;
        }
        for (digest, second) in statements::last_seconds(&self.session.client, &families.digests()).await? {
            if let Some(tag_set) = families.of_digest(&digest) {
                apply(&mut self.state, Record::Last { tag_set, second })?;
            }
        }
        Ok(families)
    }

    async fn unseal(&mut self, keys: Vec<Key>, in_doubt: bool) -> Result<(), Failure> {
        let keys = self.pending(keys);
        apply(&mut self.state, Record::Unseal { keys, in_doubt })?;
        self.settle(&[], &[]).await
    }

    async fn reject(&mut self, keys: Vec<Key>) -> Result<(), Failure> {
        let keys = self.pending(keys);
        apply(&mut self.state, Record::Reject { keys: keys.clone() })?;
        self.settle(&[], &keys).await
    }

    async fn mark(&mut self, keys: &[Key]) -> Result<(), Failure> {
        self.state.settle(keys);
        self.settle(keys, &[]).await
    }

    /// A slot that is sent whole may hold runs that are settled already; only the others can still change.
    fn pending(&self, keys: Vec<Key>) -> Vec<Key> {
        keys.into_iter().filter(|key| self.state.is_pending(*key)).collect()
    }

    async fn settle(&self, taken: &[Key], refused: &[Key]) -> Result<(), Failure> {
        let rest = self.state.batch().map(|batch| text(batch.record(0).line()));
        self.is_mine(statements::settle(&self.session.client, self.term, rest.as_deref(), taken, refused).await?)
    }

    /// What was asked for is done and committed, if the term is this one's still.
    fn is_mine(&self, is_mine: bool) -> Result<(), Failure> {
        match self.session.take_warning() {
            Some(warning) => Err(Failure::warned(&warning)),
            None if is_mine => Ok(()),
            None => Err(Failure::deposed()),
        }
    }

    /// So that another one leads at once.
    async fn resign(self) {
        let resigned = tokio::time::timeout(BEAT, statements::resign(&self.session.client, self.term)).await;
        if !matches!(resigned, Ok(Ok(()))) {
            log::warn!("another replica delivers once the session of this one has ended");
        }
    }
}

/// The families of tag sets that waiting runs have, by the digest that stands for each in the database.
#[derive(Debug, Default)]
struct Families(HashMap<Arc<TagSet>, (Vec<u8>, Arc<TagSet>)>);

impl Families {
    fn meet(&mut self, tag_set: &Arc<TagSet>) {
        if !self.0.contains_key(tag_set) {
            let family = tag_set.family().map_or_else(|| Arc::clone(tag_set), Arc::new);
            let digest = Sha256::digest(family_text(&family)).to_vec();
            self.0.insert(Arc::clone(tag_set), (digest, family));
        }
    }

    fn digests(&self) -> Vec<Vec<u8>> {
        self.0.values().map(|(digest, _)| digest.clone()).collect()
    }

    fn of_digest(&self, digest: &[u8]) -> Option<Arc<TagSet>> {
        self.0.values().find(|(known, _)| known == digest).map(|(_, family)| Arc::clone(family))
    }

    /// The last second that each of them has in a batch.
    fn last_of(&self, batch: &Batch) -> Vec<Last> {
        let mut last: HashMap<&[u8], Last> = HashMap::new();
        for slot in &batch.slots {
            let Some((digest, family)) = slot.tag_set().and_then(|tag_set| self.0.get(tag_set)) else {
                continue;
            };
            let known = last.entry(digest).or_insert_with(|| Last {
                digest: digest.clone(),
                family: family_text(family),
                second: slot.second,
                is_historical: family.is_historical(),
            });
            known.second = known.second.max(slot.second);
        }
        last.into_values().collect()
    }
}

/// A family as the database has it.
pub(super) fn family_text(family: &TagSet) -> String {
    match serde_json::to_string(family) {
        Ok(text) => text,
        Err(error) => unreachable!("plain data always serialises: {error}"),
    }
}

pub(super) fn record(line: &str) -> Result<Record, Failure> {
    serde_json::from_str(line).map_err(|error| Failure::unreadable(&format!("a record ({error})")))
}

pub(super) fn apply(state: &mut State, record: Record) -> Result<(), Failure> {
    state.apply(record).map_err(|error| Failure::unreadable(&error.to_string()))
}

/// Partitions for the months to come, none for those too long ago, and no seconds that no run could be given again. It has a
/// session of its own: nobody waits for it, and it waits for nobody.
async fn keep_house(common: Arc<Common>, now: Option<i64>) {
    let kept = async {
        let session = common.database.connect().await?;
        session.client.batch_execute("SET lock_timeout TO '200ms'; SET statement_timeout TO '10min'").await?;
        session.client.batch_execute("SELECT make_partitions()").await?;
        let days = common.database.retention_days;
        while let Some(dropped) =
            session.client.query_one("SELECT drop_partition($1)", &[&days]).await?.get::<_, Option<String>>(0)
        {
            log::info!("{dropped}: the keys of runs sent more than {days} days ago are forgotten");
        }
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

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        use tokio_postgres::error::SqlState;
        let leaves_session = error
            .code()
            .is_some_and(|code| [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code));
        Self { why: format!("the database: {}", explain(&error)), may_pass: true, leaves_session }
    }
}
