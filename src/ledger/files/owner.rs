//! The thread that owns the files: it takes what has come in, writes it as one group, syncs, and answers.

mod upkeep;

use super::{
    FileError,
    arrivals::Arrivals,
    cache::WorkflowCache,
    count::SeriesFile,
    journal::Journal,
    lock::Lock,
    recover::{self, Recovered},
    weight::Weight,
};
use crate::{
    event::Key,
    explain::explain,
    ledger::{
        Accepted, Batch, Choice, ONLY_TERM, OpenError, Options, Overview, Reruns, Sealed, Standing, Term, Unavailable,
        disk::Storage,
        keeper::{Command, Keeper, Reply, answer},
        lines::{self, Lines},
        record::Record,
        state::State,
    },
    metrics::Run,
    vitals::Vitals,
};
use std::{
    collections::HashSet,
    io,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};
use tokio::sync::Notify;

/// A group is written when it has grown to this, though more may be waiting.
const GROUP_MAX_BYTES: usize = 1 << 20;

/// Who waits for a group to be on disk.
#[derive(Debug)]
enum Waiting {
    Accept(Reply<Accepted>, Accepted),
    Seal(Reply<Sealed>),
    Change(Reply<()>),
}

/// Records that will be written and synced together, and those who wait for it.
#[derive(Debug, Default)]
struct Group {
    lines: Vec<u8>,
    records: Vec<Record>,
    waiting: Vec<Waiting>,
    /// The runs in it: not on disk yet, but seen. Where re-runs are dropped, the first attempt stands for every one.
    seen: HashSet<Key>,
    /// The second at which the first of them came, by the local clock.
    came_at: Option<i64>,
    /// Whether it changes the batch or what is in it; such a group is written before the next change.
    changes_batch: bool,
    weight: Weight,
}

impl Group {
    fn add(&mut self, record: Record, line: &[u8], waiting: Waiting) {
        self.weight.count(&record, line.len());
        self.lines.extend_from_slice(line);
        self.records.push(record);
        self.waiting.push(waiting);
    }

    /// Makes room for the next one, and keeps the memory for it.
    fn clear(&mut self) {
        let Self { lines, records, waiting, seen, came_at, changes_batch, weight } = self;
        lines.clear();
        records.clear();
        waiting.clear();
        seen.clear();
        (*came_at, *changes_batch, *weight) = (None, false, Weight::default());
    }

    fn change(&mut self, record: Record, waiting: Waiting) {
        let line = record.line();
        self.add(record, &line, waiting);
        self.changes_batch = true;
    }
}

/// What the owning thread has: both files, and what they say.
#[derive(Debug)]
pub(crate) struct Owner {
    state: State,
    journal: Journal,
    cache: WorkflowCache,
    rejected: Lines,
    payloads: Lines,
    series: SeriesFile,
    reruns: Reruns,
    compact_at_bytes: u64,
    max_journal_bytes: u64,
    /// What the largest run takes that was refused because the journal would have grown past its limit; 0 if there is room.
    refused_bytes: u64,
    /// Whether the journal ends with a batch that no later record says to be settled.
    is_last_batch_bare: bool,
    /// The last second that delivery told, by Datadog's clock.
    now: Option<i64>,
    /// What the journal holds, settled runs with the others.
    weight: Weight,
    news: Arc<Notify>,
    storage: Arc<dyn Storage>,
    lock: Lock,
    /// Who has taken the directory from us.
    lost: Option<String>,
    arrivals: Arrivals,
    vitals: Arc<Vitals>,
    /// Empty between two turns.
    group: Group,
    /// When a journal was last made anew for somebody who asked, in vain, and why.
    unready: Option<(Instant, Unavailable)>,
}

impl Keeper for Owner {
    fn standing(&self) -> Standing {
        Standing { known: self.cache.len(), pending: self.state.pending_len() }
    }

    /// Ends at once where another process has the directory: only a new start knows what is in it.
    fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        while let Ok(first) = inbox.recv() {
            // A sync costs the same however many share it. Where threads are more than processors, others go first, and what they
            // hand in joins this group; where a processor is free, this returns at once.
            thread::yield_now();
            self.turn(first, inbox);
            if let Some(lost) = &self.lost {
                log::error!("{lost}");
                return;
            }
        }
        self.close();
    }
}

impl Owner {
    pub(in crate::ledger) fn open(options: Options, news: Arc<Notify>) -> Result<Self, OpenError> {
        let Options { files, reruns, lock_patience, birth, .. } = options;
        let Options { compact_at_bytes, max_journal_bytes, max_series, storage, vitals, .. } = options;
        storage.create_dir(&files.dir).map_err(|source| FileError::io(&files.dir, source))?;
        let lock = Lock::take(storage.as_ref(), &files.lock, lock_patience)?;
        let Recovered { state, journal, cache, weight, is_last_batch_bare, must_rewrite } =
            recover::recover(&storage, &files, birth)?;
        let mut owner = Self {
            state,
            journal,
            cache,
            rejected: Lines::new(&files.rejected, lines::MAX_BYTES),
            payloads: Lines::new(&files.payloads, lines::MAX_BYTES),
            series: SeriesFile::open(storage.as_ref(), &files.series, max_series, birth),
            reruns,
            compact_at_bytes,
            max_journal_bytes,
            refused_bytes: 0,
            is_last_batch_bare,
            now: None,
            weight,
            news,
            storage,
            lock,
            lost: None,
            arrivals: Arrivals::default(),
            vitals,
            group: Group::default(),
            unready: None,
        };
        if must_rewrite {
            owner.rewrite_journal().map_err(|source| FileError::io(&files.journal, source))?;
        }
        Ok(owner)
    }

    fn overview(&self) -> Overview {
        let oldest = self.state.oldest();
        let oldest_since = oldest.map(|(place, run)| self.arrivals.of(place).unwrap_or(run.end));
        Overview { standing: self.standing(), oldest_since, capped: self.series.capped(), leadership: None }
    }

    fn open_batch(&self) -> Option<Batch> {
        self.state.batch().cloned()
    }

    /// Takes what waits at this moment, in one group, and answers.
    pub(crate) fn turn(&mut self, first: Command, inbox: &mpsc::Receiver<Command>) {
        let mut group = std::mem::take(&mut self.group);
        self.take(first, &mut group);
        while group.lines.len() < GROUP_MAX_BYTES
            && !group.changes_batch
            && let Ok(command) = inbox.try_recv()
        {
            self.take(command, &mut group);
        }
        self.commit(&mut group);
        group.clear();
        self.group = group;
        self.compact_if_due();
    }

    fn take(&mut self, command: Command, group: &mut Group) {
        match command {
            Command::Accept { run, line, now, reply } => self.accept(run, line, now, reply, group),
            Command::Lead { reply } => {
                answer(reply, Ok(Some(Term { number: ONLY_TERM, open_batch: self.open_batch() })));
            }
            Command::Seal { now, limit, choice, reply } => self.seal(now, limit, &choice, reply, group),
            Command::Unseal { keys, in_doubt, reply } => {
                let keys = self.pending(keys);
                group.change(Record::Unseal { keys, in_doubt }, Waiting::Change(reply));
            }
            Command::Reject { keys, reply } => {
                let keys = self.pending(keys);
                group.change(Record::Reject { keys }, Waiting::Change(reply));
            }
            Command::SetAside { lines, reply } => {
                let set_aside = self.rejected.append(self.storage.as_ref(), lines.as_bytes());
                answer(reply, set_aside.map_err(|error| unavailable(&self.rejected, &error)));
            }
            Command::Mark { keys, reply } => answer(reply, self.mark(&keys)),
            Command::LogPayload { line, reply } => {
                let logged = self.payloads.append(self.storage.as_ref(), line.as_bytes());
                answer(reply, logged.map_err(|error| unavailable(&self.payloads, &error)));
            }
            Command::Unknown { mut keys, reply } => {
                keys.retain(|key| !self.is_recorded(*key));
                answer(reply, Ok(keys));
            }
            Command::Standing { reply } => answer(reply, Ok(self.standing())),
            Command::Overview { reply } => answer(reply, Ok(self.overview())),
            Command::Ready { reply } => answer(reply, self.ready()),
            Command::CountSeries { now, reply } => answer(reply, Ok(self.series.turn(&self.storage, now))),
        }
    }

    fn accept(&mut self, run: Arc<Run>, line: Vec<u8>, now: i64, reply: Reply<Accepted>, group: &mut Group) {
        let is_on_disk = self.is_recorded(run.key);
        let key = match self.reruns {
            Reruns::Push => run.key,
            Reruns::Drop => run.key.first_attempt(),
        };
        if is_on_disk {
            answer(reply, Ok(Accepted::Duplicate));
        } else if group.seen.contains(&key) {
            group.waiting.push(Waiting::Accept(reply, Accepted::Duplicate));
        } else if let Err(error) = self.find_room(line.len(), group) {
            answer(reply, Err(error));
        } else {
            group.seen.insert(key);
            group.came_at.get_or_insert(now);
            let (run, line) = self.series.bound(run, line, now);
            group.add(Record::Accept(run), &line, Waiting::Accept(reply, Accepted::New));
        }
    }

    /// Whether a delivery of this attempt would be a duplicate of what is on disk.
    fn is_recorded(&self, key: Key) -> bool {
        match self.reruns {
            Reruns::Push => self.state.is_pending(key) || self.cache.contains_key(key),
            Reruns::Drop => self.state.is_any_attempt_pending(key) || self.cache.contains_any_attempt(key),
        }
    }

    fn seal(&mut self, now: i64, limit: usize, choice: &Choice, reply: Reply<Sealed>, group: &mut Group) {
        self.now = Some(now);
        if let Some(batch) = self.open_batch() {
            answer(reply, Ok(Sealed::Batch(batch)));
            return;
        }
        let Some(slots) = self.state.plan(now, limit, choice) else {
            let waits = self.state.waiting_len() > 0;
            answer(reply, Ok(if waits { Sealed::Later } else { Sealed::Nothing }));
            return;
        };
        let record = Record::Seal { at: now, sent: self.cache.len(), slots };
        group.change(record, Waiting::Seal(reply));
    }

    /// A slot that is sent whole may hold runs that are settled already; only the others can still change.
    fn pending(&self, keys: Vec<Key>) -> Vec<Key> {
        keys.into_iter().filter(|key| self.state.is_pending(*key)).collect()
    }

    fn mark(&mut self, keys: &[Key]) -> Result<(), Unavailable> {
        // Two processes that write into one cache would destroy it.
        self.keep_lock().map_err(|error| Unavailable(error.to_string()))?;
        let ids: Vec<String> = keys.iter().map(ToString::to_string).collect();
        self.cache.mark_as_sent(&ids).map_err(|error| Unavailable(explain(&error)))?;
        self.state.settle(keys);
        Ok(())
    }

    /// Writes and syncs the group, and only then lets it count and answers.
    fn commit(&mut self, group: &mut Group) {
        if group.records.is_empty() {
            return;
        }
        let begun = Instant::now();
        let written = self.write(&group.lines).map_err(|error| cannot_write(&error));
        if let Err(error) = &written {
            log::error!("{error}");
        } else {
            self.vitals.synced(group.seen.len(), begun.elapsed());
            self.weight.add(&group.weight);
            self.is_last_batch_bare |= group.records.iter().any(|record| matches!(record, Record::Seal { .. }));
            if let Some(now) = group.came_at {
                let place = self.state.next_place();
                self.arrivals.note(place, now, self.state.oldest_waiting_place());
            }
            recover::apply(&mut self.state, group.records.drain(..));
            if !group.seen.is_empty() {
                self.news.notify_one();
            }
        }
        for waiting in group.waiting.drain(..) {
            match waiting {
                Waiting::Accept(reply, accepted) => answer(reply, written.clone().map(|()| accepted)),
                Waiting::Change(reply) => answer(reply, written.clone()),
                Waiting::Seal(reply) => {
                    let batch = self.open_batch();
                    self.vitals.restamp(batch.as_ref().map_or(0, Batch::restamped));
                    let batch = batch.map_or(Sealed::Nothing, Sealed::Batch);
                    answer(reply, written.clone().map(|()| batch));
                }
            }
        }
    }
}

fn cannot_write(error: &io::Error) -> Unavailable {
    Unavailable(format!("the journal cannot be written: {error}"))
}

fn unavailable(lines: &Lines, error: &io::Error) -> Unavailable {
    Unavailable(format!("{}: {error}", lines.path().display()))
}
