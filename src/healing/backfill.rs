//! Runs that no delivery ever told of, by GitHub's list of runs.
//!
//! Invariant: a search that has more results than GitHub gives is halved in time until it has not. Of runs that are not missing
//! only the IDs are kept in memory.

use super::{HealingError, Opened, bar, counter, tally::Tally};
use crate::{
    cli::{self, Late},
    config,
    event::{Recorded, RunKey},
    explain::explain,
    github::{Github, GithubError, ListedRun, Place, SEARCH_MAX, Workflows},
    holes::Patience,
    inlet::{Inlet, Look},
};
use jiff::Timestamp;
use std::{
    collections::HashSet,
    io::{self, Write},
};

/// How long after its end a run is taken at its own time. Source: Datadog, "Submit metrics".
const LATE_S: i64 = 3600;

/// Finds runs that are not recorded, and takes them in.
///
/// # Errors
/// GitHub or the receiver cannot be asked, or not everything could be taken in.
pub fn backfill(arguments: &cli::Backfill) -> Result<(), HealingError> {
    let now = Timestamp::now().as_second();
    let since = arguments.since.second(now);
    let until = arguments.until.map_or(now, |until| until.second(now));
    if since >= until {
        return Err(HealingError::NoTime);
    }
    let (root, auth) = config::github(&arguments.github, &config::process_environment)?;
    actix_web::rt::System::new().block_on(async {
        let github = Github::new(root, auth)?;
        let opened = Opened::new(&arguments.inlet, &arguments.common, !arguments.inlet.plan)?;
        let mut tally = Tally::default();
        let work = async |look: Look, inlet: Option<Inlet>| {
            let way = inlet.map(|inlet| Way::new(inlet, arguments.late, since, now));
            for place in &arguments.repository {
                let missing = find(&github, place, (since, until), &look).await?;
                missing.tell(place, now, arguments.late)?;
                tally.known += missing.attempts - missing.keys();
                match &way {
                    Some(way) => fill(&github, place, way, missing, &mut tally).await?,
                    None => writeln!(io::stdout(), "{} are missing; nothing was taken in", missing.keys())?,
                }
            }
            Ok(())
        };
        let done = opened.run(work, arguments.inlet.timeout).await;
        if arguments.inlet.plan { done.work } else { done.told(&tally, &github) }
    })
}

/// The runs of a place that are not recorded, each with its attempts of which that is so.
#[derive(Debug, Default)]
struct Missing {
    /// How many completed runs and attempts there are in all.
    runs: usize,
    attempts: usize,
    unknown: Vec<(ListedRun, Vec<RunKey>)>,
}

impl Missing {
    fn keys(&self) -> usize {
        self.unknown.iter().map(|(_, keys)| keys.len()).sum()
    }

    /// Says how much is missing, and what it means that some of it is late.
    fn tell(&self, place: &Place, now: i64, late: Late) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let Self { runs, attempts, .. } = self;
        writeln!(out, "{place}: {runs} completed runs with {attempts} attempts, {} of them not recorded", self.keys())?;
        let are_late = self.unknown.iter().filter(|(run, _)| is_late(run.updated_at, now)).map(|(_, keys)| keys.len());
        let are_late: usize = are_late.sum();
        if are_late == 0 && (late != Late::Historical || self.unknown.is_empty()) {
            return Ok(());
        }
        let means = match late {
            Late::Restamp => "by --late restamp they are counted at the time at which they are sent",
            Late::Skip => "by --late skip they are left out",
            Late::Historical => {
                "by --late historical they are sent with their own time and the tag backfill: enable Historical Metrics for each \
                 metric in Datadog's Metrics Summary first, or they are dropped"
            }
        };
        let why = "ended more than an hour ago, which Datadog does not take at their own time";
        writeln!(out, "  at least {are_late} of those {why}: {means}")
    }

    fn add(&mut self, run: ListedRun, keys: Vec<RunKey>) {
        if !keys.is_empty() {
            self.unknown.push((run, keys));
        }
    }
}

fn is_late(end: Option<Timestamp>, now: i64) -> bool {
    end.is_some_and(|end| now - end.as_second() > LATE_S)
}

/// What is missing of the runs that were made in this time.
async fn find(github: &Github, place: &Place, span: (i64, i64), look: &Look) -> Result<Missing, HealingError> {
    let bar = counter(github, "runs found");
    let (mut missing, mut seen, mut spans) = (Missing::default(), HashSet::new(), vec![span]);
    while let Some((since, until)) = spans.pop() {
        let (total, mut page, mut next) = github.runs(place, (since, until), None).await?;
        // Should GitHub count no further than it lists, there are as many.
        if total >= SEARCH_MAX && since < until {
            let middle = since + (until - since) / 2;
            spans.extend([(middle + 1, until), (since, middle)]);
            continue;
        }
        if total > SEARCH_MAX {
            let second = Timestamp::from_second(since).unwrap_or_default();
            bar.suspend(|| {
                log::warn!(
                    "{place}: {total} runs were made in the one second {second}: GitHub lists {SEARCH_MAX} of them"
                );
            });
        }
        loop {
            // A page that is read while runs come in may have some of the one before.
            for run in page.into_iter().filter(|run| seen.insert(run.id)) {
                bar.inc(1);
                let keys: Vec<RunKey> = run.keys().collect();
                missing.runs += usize::from(!keys.is_empty());
                missing.attempts += keys.len();
                let unknown = look.unknown(keys).await?;
                missing.add(run, unknown);
            }
            let Some(path) = next else { break };
            (_, page, next) = github.runs(place, (since, until), Some(path)).await?;
        }
    }
    bar.finish_and_clear();
    missing.unknown.sort_by_key(|(run, _)| (run.updated_at, run.id));
    Ok(missing)
}

/// Which way a run goes in.
struct Way {
    inlet: Inlet,
    late: Late,
    now: i64,
    /// For those that are counted at their own time: with a tag that no delivery has, for Datadog keeps one value a second of
    /// each tag set, and nobody knows any more which seconds in the past have one.
    historical: Option<Inlet>,
}

impl Way {
    fn new(inlet: Inlet, late: Late, since: i64, now: i64) -> Self {
        let date = Timestamp::from_second(since).unwrap_or_default().strftime("%Y-%m-%d").to_string();
        let historical = match &inlet {
            Inlet::Here(receiver) if late == Late::Historical => Some(Inlet::Here(receiver.backfilling(&date).into())),
            _ => None,
        };
        Self { inlet, late, now, historical }
    }

    /// Takes in a run that ended then, or leaves it out.
    async fn take(&self, found: &Found, tally: &mut Tally) -> Result<(), HealingError> {
        let inlet = match (self.late, is_late(found.end, self.now)) {
            (Late::Skip, true) => {
                tally.skipped += 1;
                return Ok(());
            }
            (Late::Historical, true) => self.historical.as_ref().unwrap_or(&self.inlet),
            _ => &self.inlet,
        };
        tally.count(|| format!("run {}", found.key), inlet.take(&found.recorded).await?);
        Ok(())
    }
}

/// The delivery that an attempt would have been, and when it ended.
struct Found {
    key: RunKey,
    end: Option<Timestamp>,
    recorded: Recorded,
}

async fn fill(
    github: &Github,
    place: &Place,
    way: &Way,
    missing: Missing,
    tally: &mut Tally,
) -> Result<(), HealingError> {
    if missing.unknown.is_empty() {
        return Ok(());
    }
    let workflows = github.workflows(place).await?;
    let mut kept = Vec::new();
    let filled = fill_from(github, place, &workflows, way, missing, &mut kept, tally).await;
    // What was fetched so far is taken in whatever stood in the way of the rest.
    kept.sort_by_key(|found| (found.end, found.key));
    for found in kept {
        way.take(&found, tally).await?;
    }
    filled
}

/// Fetches each attempt and takes it in, or keeps it where its second is given in the order in which all come.
async fn fill_from(
    github: &Github,
    place: &Place,
    workflows: &Workflows,
    way: &Way,
    missing: Missing,
    kept: &mut Vec<Found>,
    tally: &mut Tally,
) -> Result<(), HealingError> {
    let (bar, mut patience) = (bar(github, missing.keys(), "attempts"), Patience::default());
    for (run, keys) in missing.unknown {
        for key in keys {
            bar.inc(1);
            // An earlier attempt ended before the last one.
            if way.late == Late::Skip && is_late(run.updated_at, way.now) {
                tally.skipped += 1;
                continue;
            }
            match delivery(github, place, workflows, &run, key).await {
                Ok(found) => {
                    patience.renew();
                    match way.historical {
                        Some(_) => kept.push(found),
                        None => way.take(&found, tally).await?,
                    }
                }
                Err(GithubError::NotFound { .. }) => tally.gone += 1,
                Err(error) if patience.bears(&error) => tally.failed.push((format!("run {key}"), explain(&error))),
                Err(error) => return Err(error.into()),
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

async fn delivery(
    github: &Github,
    place: &Place,
    workflows: &Workflows,
    run: &ListedRun,
    key: RunKey,
) -> Result<Found, GithubError> {
    let attempt = if run.is_completed(key) { run.clone() } else { github.attempt(place, key).await? };
    let end = github.end(place, &attempt, key).await?;
    let payload = workflows.payload(&attempt, end);
    let recorded = Recorded { event: Some("workflow_run".to_owned()), guid: None, is_form: false, payload };
    Ok(Found { key, end, recorded })
}
