//! Taking runs in: all that wait at one moment in one statement.
//!
//! Invariant: a run is answered after the commit that has it, or after its key was found. What cannot be committed before its
//! time is over is answered with why; it may be there all the same, and is a duplicate then.

use super::{Failure, session::Session, statements};
use crate::{
    event::Key,
    ledger::{
        Accepted, Reruns, Unavailable,
        guard::bound,
        keeper::{Reply, answer},
    },
    metrics::Run,
    vitals::Vitals,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver},
    time::Instant,
};

/// How long a delivery waits for the database. GitHub gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(7);

/// How long somebody waits who asks whether a run could be accepted.
const READY_PATIENCE: Duration = Duration::from_millis(2500);

/// The most runs of one statement.
const GROUP_MAX: usize = 1000;

/// The wait before another try, which doubles up to the longest.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A run to accept, or the question whether one could be.
#[derive(Debug)]
pub(super) enum Waiting {
    Run { run: Arc<Run>, line: Vec<u8>, now: i64, due: Instant, reply: Reply<Accepted> },
    Question { due: Instant, reply: Reply<()> },
}

impl Waiting {
    pub(super) fn run(run: Arc<Run>, line: Vec<u8>, now: i64, reply: Reply<Accepted>) -> Self {
        Self::Run { run, line, now, due: Instant::now() + PATIENCE, reply }
    }

    pub(super) fn question(reply: Reply<()>) -> Self {
        Self::Question { due: Instant::now() + READY_PATIENCE, reply }
    }

    const fn due(&self) -> Instant {
        match self {
            Self::Run { due, .. } | Self::Question { due, .. } => *due,
        }
    }

    fn refuse(self, why: Unavailable) {
        match self {
            Self::Run { reply, .. } => answer(reply, Err(why)),
            Self::Question { reply, .. } => answer(reply, Err(why)),
        }
    }
}

/// The one who takes runs in, in this process.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) common: Arc<super::Common>,
    pub(super) inbox: UnboundedReceiver<Waiting>,
    pub(super) reruns: Reruns,
    pub(super) news: Arc<Notify>,
    pub(super) vitals: Arc<Vitals>,
}

impl Acceptor {
    /// Works until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let mut queue: VecDeque<Waiting> = VecDeque::new();
        let mut session: Option<Session> = None;
        // One whose statement was not waited for to its end.
        let mut abandoned: Option<Session> = None;
        let mut wait = WAIT_MIN;
        loop {
            if queue.is_empty() {
                match self.inbox.recv().await {
                    Some(first) => queue.push_back(first),
                    None => return,
                }
            }
            while queue.len() < GROUP_MAX
                && let Ok(next) = self.inbox.try_recv()
            {
                queue.push_back(next);
            }
            let failure = match self.write(&mut session, &queue).await {
                Ok(new) => {
                    self.answer(queue.drain(..), &new);
                    self.common.note_success();
                    (abandoned, wait) = (None, WAIT_MIN);
                    continue;
                }
                Err(failure) => failure,
            };
            // The server works on in a session that is given up, or waits for a standby: there is one such session at a time.
            // What comes next is said in the same one, until the server takes it up or the connection ends.
            abandoned.take_if(|abandoned| abandoned.client.is_closed());
            if failure.is_silence && abandoned.is_none() {
                abandoned = session.take();
            } else if !failure.is_silence && !failure.leaves_session {
                session = None;
            }
            let why = failure.unavailable();
            self.common.note(&failure);
            let retry_at = Instant::now() + wait;
            wait = (wait * 2).min(WAIT_MAX);
            // Whoever would be answered too late by another try is told at once.
            let is_late = |waiting: &Waiting| !failure.may_pass || waiting.due() <= retry_at;
            let (late, rest): (VecDeque<Waiting>, VecDeque<Waiting>) = queue.into_iter().partition(is_late);
            queue = rest;
            for waiting in late {
                waiting.refuse(why.clone());
            }
            if !queue.is_empty() {
                tokio::time::sleep_until(retry_at).await;
            }
        }
    }

    /// The texts of the keys that are new, which are committed.
    async fn write(
        &self,
        session: &mut Option<Session>,
        queue: &VecDeque<Waiting>,
    ) -> Result<HashSet<String>, Failure> {
        // Whoever only asks is told in time by others, and cuts nobody short.
        let is_run = |waiting: &&Waiting| matches!(waiting, Waiting::Run { .. });
        let due = queue.iter().filter(is_run).map(Waiting::due).min();
        let due = due.or_else(|| queue.front().map(Waiting::due)).unwrap_or_else(Instant::now);
        let mut lines = HashMap::new();
        for waiting in queue {
            if let Waiting::Run { run, line, now, .. } = waiting
                && !lines.contains_key(&self.seen_as(run.key))
            {
                let (_, line) = bound(&mut self.common.series(), Arc::clone(run), line.clone(), *now);
                lines.insert(self.seen_as(run.key), (run.key.to_string(), super::text(line)));
            }
        }
        let (keys, lines): (Vec<String>, Vec<String>) = lines.into_values().unzip();
        let begun = Instant::now();
        let written = async {
            let session = self.common.session(session).await?;
            let new = statements::accept(&session.client, &keys, &lines, self.reruns).await?;
            // It is committed here, but a standby may not have it.
            session.take_warning().map_or(Ok(new), |warning| Err(Failure::warned(&warning)))
        };
        let new = tokio::time::timeout_at(due, written).await.map_err(|_| self.common.silent(PATIENCE))??;
        self.vitals.synced(new.len(), begun.elapsed());
        if !new.is_empty() {
            self.news.notify_one();
        }
        Ok(new)
    }

    fn answer(&self, queue: impl Iterator<Item = Waiting>, new: &HashSet<String>) {
        let mut seen = HashSet::new();
        for waiting in queue {
            match waiting {
                Waiting::Question { reply, .. } => answer(reply, Ok(())),
                Waiting::Run { run, reply, .. } => {
                    let is_first = seen.insert(self.seen_as(run.key));
                    let is_new = is_first && new.contains(&run.key.to_string());
                    answer(reply, Ok(if is_new { Accepted::New } else { Accepted::Duplicate }));
                }
            }
        }
    }

    /// Two that have this in common are one run.
    fn seen_as(&self, key: Key) -> Key {
        match self.reruns {
            Reruns::Push => key,
            Reruns::Drop => key.first_attempt(),
        }
    }
}
