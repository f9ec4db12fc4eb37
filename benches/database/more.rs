//! What one more run costs, by how many are known.

use crate::{
    cluster::{Cluster, Session},
    common::{self, FIRST_ID},
    ledger_of, median, new_database,
};
use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use runhound::{
    datadog::{ApiKey, Client, Endpoint},
    delivery::{Backoff, Clock, Delivery, Step},
    ledger::{Accepted, Files, Ledger, Mode, Opened, Options, Reruns},
};
use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Keys are as old as they can be.
const MONTHS: u64 = 13;

/// In each round, so many runs by themselves, and then so many at once.
const ALONE: u64 = 10;
const AT_ONCE: u64 = 1_000;

/// So long ago ended what is delivered first; each round's runs a little later, so that none waits for its second.
const AGO_S: i64 = 20 * 60;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn measure(cluster: &Cluster, parent: &Path, known: &[u64], rounds: u64) -> Result<()> {
    let runtime = actix_web::rt::System::new();
    let intake = common::start_intake()?;
    let mut sides = Vec::new();
    for known in known {
        sides.push(Side::new(Where::Database(cluster), parent, *known, intake)?);
    }
    for known in known {
        sides.push(Side::new(Where::Files, parent, *known, intake)?);
    }
    cluster.session("postgres")?.ask("checkpoint")?;
    // The first one brings what is done once: connections, plans, Datadog's time.
    for round in 0..=rounds {
        for turn in 0..sides.len() {
            let turn = (usize::try_from(round)? + turn) % sides.len();
            let costs = runtime.block_on(sides[turn].round())?;
            if round > 0 {
                sides[turn].rounds.push(costs);
            }
        }
    }
    println!("one more run, {rounds} rounds, median in ms and, of the rounds, what it is of the one with fewest known");
    println!(
        "{:<24} {:>16} {:>20} {:>20} {:>20}",
        "", "accept one", "1,000 at once", "push and mark those", "round trip of one"
    );
    for side in &sides {
        let first = sides.iter().find(|other| other.is_in_files == side.is_in_files).context("no side")?;
        let cell = |of: fn(&Costs) -> f64| {
            let ratios = side.rounds.iter().zip(&first.rounds).map(|(own, other)| of(own) / of(other));
            format!("{:.3} ({:.2})", median(side.rounds.iter().map(of)), median(ratios))
        };
        println!(
            "{:<24} {:>16} {:>20} {:>20} {:>20}",
            side.name,
            cell(|costs| costs.accept_one),
            cell(|costs| costs.accept_many),
            cell(|costs| costs.send_many),
            cell(|costs| costs.round_trip),
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Where<'c> {
    Database(&'c Cluster),
    Files,
}

/// In milliseconds. Those of single runs are the median of the round's.
struct Costs {
    accept_one: f64,
    accept_many: f64,
    send_many: f64,
    round_trip: f64,
}

/// A ledger that knows so many runs, and whoever delivers what it holds.
struct Side {
    name: String,
    is_in_files: bool,
    _dir: TempDir,
    ledger: Ledger,
    delivery: Delivery,
    next: u64,
    end: i64,
    rounds: Vec<Costs>,
}

impl Side {
    fn new(place: Where<'_>, parent: &Path, known: u64, intake: SocketAddr) -> Result<Self> {
        let dir = tempfile::tempdir_in(parent)?;
        let files = Files::new(dir.path(), Mode::Live);
        let now = jiff::Timestamp::now().as_second();
        let mut options = Options::new(files.clone(), Reruns::Push, now - 7_200);
        let is_in_files = matches!(place, Where::Files);
        match place {
            Where::Files => common::write_cache(&files.cache, FIRST_ID..FIRST_ID + known)?,
            Where::Database(cluster) => {
                let name = format!("known_{known}");
                let database = ledger_of(&new_database(cluster, &name)?)?;
                options.database = Some(database.clone());
                // The schema is made by whoever opens it.
                let Opened { ledger, owner, .. } = Ledger::open(options)?;
                drop(ledger);
                owner.join().map_err(|_| anyhow::anyhow!("the ledger has failed"))?;
                fill(&cluster.session(&name)?, known)?;
                options = Options::new(files, Reruns::Push, now - 7_200);
                options.database = Some(database);
            }
        }
        let Opened { ledger, .. } = Ledger::open(options)?;
        let endpoint = Endpoint::new(&format!("http://{intake}")).context("an address is an endpoint")?;
        let client = Client::new(endpoint, ApiKey::new("key").context("a key")?)?;
        let delivery = Delivery::new(ledger.clone(), Some(client), Clock::system(), Backoff::full_jitter());
        let name = format!("{}, {known} known", if is_in_files { "files" } else { "PostgreSQL" });
        let (next, end) = (known, now - AGO_S);
        Ok(Self { name, is_in_files, _dir: dir, ledger, delivery, next, end, rounds: Vec::new() })
    }

    async fn round(&mut self) -> Result<Costs> {
        let (mut accepts, mut trips) = (Vec::new(), Vec::new());
        for _ in 0..ALONE {
            accepts.push(self.accept(1).await?);
        }
        self.send().await?;
        let accept_many = self.accept(AT_ONCE).await?;
        let send_many = self.send().await?;
        for _ in 0..ALONE {
            trips.push(self.accept(1).await? + self.send().await?);
        }
        Ok(Costs { accept_one: median(accepts), accept_many, send_many, round_trip: median(trips) })
    }

    /// How long it takes to accept so many that end now, in milliseconds.
    async fn accept(&mut self, count: u64) -> Result<f64> {
        let runs = self.next..self.next + count;
        (self.next, self.end) = (runs.end, self.end + 1);
        let runs = runs.map(|number| common::run(number, self.end, Arc::new(common::tag_set(number))));
        let runs = runs.collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        let answers = join_all(runs.into_iter().map(|run| self.ledger.accept(run, self.end))).await;
        let took = begun.elapsed();
        ensure!(answers.iter().all(|answer| matches!(answer, Ok(Accepted::New))), "a run is new");
        Ok(took.as_secs_f64() * 1000.0)
    }

    /// How long it takes until all is pushed and marked, in milliseconds.
    async fn send(&mut self) -> Result<f64> {
        let begun = Instant::now();
        let mut took = None;
        let wanted = self.delivery.totals().pushed;
        loop {
            ensure!(begun.elapsed() < PATIENCE, "{}: nothing is sent", self.name);
            let pushed = self.delivery.totals().pushed;
            match self.delivery.step().await {
                Step::Idle if pushed > wanted => break,
                // Another term has yet to begin.
                Step::Idle => {
                    drop(tokio::time::timeout(PATIENCE, self.ledger.until_leading()).await);
                }
                Step::Wait(wait) => tokio::time::sleep(wait).await,
                Step::Moved => {}
                // It is marked. That nothing is left is no part of it.
                Step::Pushed { .. } => took = Some(begun.elapsed()),
            }
        }
        Ok(took.context("nothing was marked")?.as_secs_f64() * 1000.0)
    }
}

/// Makes keys that were sent month by month, in the order of their IDs.
fn fill(session: &Session, known: u64) -> Result<()> {
    session.ask("set search_path to runhound")?;
    session.ask("set timezone to 'UTC'")?;
    for month in 0..MONTHS {
        let (first, end) = (known * month / MONTHS, known * (month + 1) / MONTHS);
        let ago = MONTHS - 1 - month;
        let begin = format!("date_trunc('month', now()) - interval '{ago} months'");
        let name = session.ask(&format!("select to_char({begin}, '\"sent_\"YYYY\"_\"MM')"))?;
        if ago > 0 {
            let bounds =
                format!("select format('for values from (%L) to (%L)', {begin}, {begin} + interval '1 month')");
            let bounds = session.ask(&bounds)?;
            session.ask(&format!("create table {name} partition of sent {bounds}"))?;
        }
        session.ask(&format!(
            "insert into {name} (key, sent_at, number) \
             select ({FIRST_ID} + n)::text, {begin} + interval '1 second' * (n % 80000), n + 1 \
             from generate_series({first}, {end} - 1) as n"
        ))?;
    }
    session.ask(&format!("select setval('sent_number', {known})"))?;
    session.ask(&format!("update ledger set sent = {known}"))?;
    session.ask("vacuum analyze")?;
    Ok(())
}
