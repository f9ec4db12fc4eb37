//! What is asked beside taking in and delivering: what is known, how things stand, which series there are.
//!
//! Invariant: nobody who takes in or delivers waits for it.

use super::{Common, Failure, series, session::Session, statements};
use crate::ledger::{
    Overview, Reruns, Standing, Unavailable,
    keeper::{Command, answer},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::Instant,
};
use tokio_postgres::{Client, Error};

/// How long a question may take, and how long a line for people is tried to be set aside.
const PATIENCE: Duration = Duration::from_millis(2500);
const SET_ASIDE_PATIENCE: Duration = Duration::from_secs(7);

/// How long the exchange of series may take.
const SERIES_PATIENCE: Duration = Duration::from_secs(5);

/// The wait before a question is asked once more.
const WAIT: Duration = Duration::from_millis(200);

/// The one who asks, in this process.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) common: Arc<Common>,
    /// Each question, and when it was asked.
    pub(super) inbox: UnboundedReceiver<(Instant, Command)>,
    pub(super) reruns: Reruns,
    pub(super) leading: watch::Receiver<Option<i64>>,
    /// What was known last.
    pub(super) standing: Standing,
    pub(super) series: series::Exchange,
}

impl Asker {
    /// Works until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let mut session = None;
        while let Some((asked_at, command)) = self.inbox.recv().await {
            match command {
                // Nobody waits any more.
                Command::Standing { reply } if reply.is_closed() => {}
                Command::Overview { reply } if reply.is_closed() => {}
                Command::CountSeries { reply, .. } if reply.is_closed() => {}
                Command::SetAside { lines, reply } => {
                    let lines: Vec<&str> = lines.lines().collect();
                    let asked = self.ask(&mut session, asked_at + SET_ASIDE_PATIENCE, async |client| {
                        statements::set_aside(client, &lines).await
                    });
                    answer(reply, asked.await);
                }
                Command::Unknown { keys, reply } => {
                    let asked = self.ask(&mut session, asked_at + SET_ASIDE_PATIENCE, async |client| {
                        statements::unknown(client, &keys, self.reruns).await
                    });
                    answer(reply, asked.await);
                }
                // It tells that somebody is here, and the last that was known.
                Command::Standing { reply } => {
                    drop(self.overview(&mut session, asked_at).await);
                    answer(reply, Ok(self.standing));
                }
                Command::Overview { reply } => {
                    let overview = self.overview(&mut session, asked_at).await;
                    answer(reply, overview);
                }
                Command::CountSeries { now, reply } => {
                    // Where the others cannot be asked, this replica counts its own.
                    let guard = &self.common;
                    if self.series.is_due(now) {
                        let turn = async {
                            let session = self.common.session(&mut session).await?;
                            self.series.turn(&session.client, guard, now).await.map_err(Failure::from)
                        };
                        if let Err(failure) = guard.within(SERIES_PATIENCE, turn).await {
                            self.common.note(&failure);
                            session = None;
                        }
                    }
                    answer(reply, Ok(guard.count(now)));
                }
                other => unreachable!("this is asked elsewhere: {other:?}"),
            }
        }
    }

    async fn overview(&mut self, session: &mut Option<Session>, asked_at: Instant) -> Result<Overview, Unavailable> {
        let mut overview =
            self.ask(session, asked_at + PATIENCE, async |client| statements::overview(client).await).await?;
        overview.capped = self.common.series().capped().collect();
        if let Some(leadership) = &mut overview.leadership {
            leadership.leads = self.leading.borrow().is_some();
        }
        self.standing = overview.standing;
        Ok(overview)
    }

    /// Asks, on a new session and once more where that can be of use.
    async fn ask<T>(
        &self,
        session: &mut Option<Session>,
        due: Instant,
        question: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Unavailable> {
        let begun = Instant::now();
        loop {
            let asked = async {
                let session = self.common.session(session).await?;
                question(&session.client).await.map_err(Failure::from)
            };
            let failure = match tokio::time::timeout_at(due, asked).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(_) => self.common.silent(begun.elapsed()),
            };
            *session = None;
            self.common.note(&failure);
            if !failure.may_pass || Instant::now() + WAIT >= due {
                return Err(failure.unavailable());
            }
            tokio::time::sleep(WAIT).await;
        }
    }
}
