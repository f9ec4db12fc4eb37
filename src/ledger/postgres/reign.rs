//! A term: what whoever leads seals, and what becomes of it.
//!
//! Invariant: the state is changed first and then written, so what fails ends the term; the next one reads what was committed.

use super::{
    Common, Failure,
    session::Session,
    statements::{self, Last},
    text,
};
use crate::{
    event::Key,
    ledger::{Batch, Choice, Sealed, record::Record, state::State},
    metrics::TagSet,
};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// After so long without a word from whoever leads, the server ends its session. Others find that out within a beat, and begin:
/// within ten seconds of the last word, which is the lease.
const SILENCE: Duration = Duration::from_millis(8_500);

/// The most runs that a batch is planned of, and the fewest that are read for one.
const WINDOW: usize = 10_000;
const WINDOW_MIN: usize = 500;

/// How long the end of a term may take to be told.
const RESIGN_PATIENCE: Duration = Duration::from_secs(1);

/// A term, and what its leader knows in it.
#[derive(Debug)]
pub(super) struct Reign {
    pub(super) session: Session,
    pub(super) term: i64,
    pub(super) birth: i64,
    /// The open batch with its runs, and nothing else that lasts.
    pub(super) state: State,
    /// Whether who delivers has been told of this term, and what is asked is asked in it.
    pub(super) is_told: bool,
    /// The last second that delivery told, by Datadog's clock.
    pub(super) now: Option<i64>,
    /// How many runs are read for the next batch.
    window: usize,
}

impl Reign {
    /// Begins a term, if nobody leads.
    pub(super) async fn begin(common: &Common, kept: &mut Option<Session>) -> Result<Option<Self>, Failure> {
        let session = if let Some(session) = kept.take() {
            session
        } else {
            let session = common.database.connect().await?;
            let ms = SILENCE.as_millis();
            let lease = format!("SET idle_session_timeout TO {ms}; SET tcp_user_timeout TO {ms}");
            session.client.batch_execute(&lease).await?;
            session
        };
        let Some(begun) = statements::lead(&session.client, &common.name).await? else {
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
            // A slot that is sent whole may hold what was sent before.
            state.settle(&statements::sent_of(&session.client, &keys).await?);
        }
        let (term, birth) = (begun.term, begun.birth);
        Ok(Some(Self { session, term, birth, state, is_told: false, now: None, window: WINDOW_MIN }))
    }

    /// Gives the open batch, sealing one first if there is none.
    pub(super) async fn seal(&mut self, now: i64, limit: usize, choice: &Choice) -> Result<Sealed, Failure> {
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

    pub(super) async fn unseal(&mut self, keys: Vec<Key>, in_doubt: bool) -> Result<(), Failure> {
        let keys = self.pending(keys);
        apply(&mut self.state, Record::Unseal { keys, in_doubt })?;
        self.settle(&[], &[]).await
    }

    pub(super) async fn reject(&mut self, keys: Vec<Key>) -> Result<(), Failure> {
        let keys = self.pending(keys);
        apply(&mut self.state, Record::Reject { keys: keys.clone() })?;
        self.settle(&[], &keys).await
    }

    pub(super) async fn mark(&mut self, keys: &[Key]) -> Result<(), Failure> {
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
    pub(super) async fn resign(self) {
        let resigned = tokio::time::timeout(RESIGN_PATIENCE, statements::resign(&self.session.client, self.term)).await;
        if !matches!(resigned, Ok(Ok(()))) {
            log::warn!("another replica delivers once the session of this one has ended");
        }
    }
}

/// The families of tag sets that waiting runs have, by the digest that stands for each in the database.
#[derive(Debug, Default)]
struct Families {
    /// Of each tag set, that of its family.
    digests: HashMap<Arc<TagSet>, Vec<u8>>,
    /// Each with its text.
    families: HashMap<Vec<u8>, (Arc<TagSet>, String)>,
}

impl Families {
    fn meet(&mut self, tag_set: &Arc<TagSet>) {
        if !self.digests.contains_key(tag_set) {
            let family = tag_set.family().map_or_else(|| Arc::clone(tag_set), Arc::new);
            let (digest, text) = digested(&family);
            self.families.insert(digest.clone(), (family, text));
            self.digests.insert(Arc::clone(tag_set), digest);
        }
    }

    fn digests(&self) -> Vec<Vec<u8>> {
        self.families.keys().cloned().collect()
    }

    fn of_digest(&self, digest: &[u8]) -> Option<Arc<TagSet>> {
        self.families.get(digest).map(|(family, _)| Arc::clone(family))
    }

    /// The last second that each of them has in a batch.
    fn last_of(&self, batch: &Batch) -> Vec<Last> {
        let mut last: HashMap<&[u8], Last> = HashMap::new();
        for slot in &batch.slots {
            let digest = slot.tag_set().and_then(|tag_set| self.digests.get(tag_set));
            let Some((digest, (family, text))) = digest.and_then(|digest| Some((digest, self.families.get(digest)?)))
            else {
                continue;
            };
            let known = last.entry(digest).or_insert_with(|| Last {
                digest: digest.clone(),
                family: text.clone(),
                second: slot.second,
                is_historical: family.is_historical(),
            });
            known.second = known.second.max(slot.second);
        }
        last.into_values().collect()
    }
}

/// A tag set as the database has it: the digest that stands for it, and its text.
pub(super) fn digested(tag_set: &TagSet) -> (Vec<u8>, String) {
    match serde_json::to_string(tag_set) {
        Ok(text) => (Sha256::digest(&text).to_vec(), text),
        Err(error) => unreachable!("plain data always serialises: {error}"),
    }
}

pub(super) fn record(line: &str) -> Result<Record, Failure> {
    serde_json::from_str(line).map_err(|error| Failure::unreadable(&format!("a record ({error})")))
}

pub(super) fn apply(state: &mut State, record: Record) -> Result<(), Failure> {
    state.apply(record).map_err(|error| Failure::unreadable(&error.to_string()))
}
