//! Runs and jobs that no delivery ever told of, by GitHub's lists.
//!
//! Invariant: a search that has more results than GitHub gives is halved in time until it has not. Of runs that are not looked at
//! only the IDs are kept in memory.

use super::{HealingError, Opened, bar, counter, tally::Tally};
use crate::{
    cli::{self, Late},
    config,
    event::{Detail, JobId, Key, Recorded, RunKey},
    explain::explain,
    github::{Github, GithubError, ListedJob, ListedRun, Place, SEARCH_MAX, Workflows},
    holes::Patience,
    inlet::{Inlet, Look},
    ledger::Reruns,
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
        let (detail, reruns) = (arguments.common.tags.detail(), arguments.common.reruns);
        let work = async |look: Look, inlet: Option<Inlet>| {
            let way = inlet.map(|inlet| Way::new(inlet, arguments.late, since));
            for place in &arguments.repository {
                let missing = find(&github, place, (since, until), &look, detail).await?;
                missing.tell(place, now, arguments.late, detail)?;
                tally.known += missing.attempts - missing.keys();
                let (github, look, late) = (&github, &look, arguments.late);
                let filling = Filling { github, place, look, detail, reruns, late, now };
                if let Some(way) = &way {
                    filling.fill(way, missing, &mut tally).await?;
                } else {
                    let keys = filling.count(missing, &mut tally).await?;
                    writeln!(io::stdout(), "{keys} are missing; nothing was taken in")?;
                }
            }
            Ok(())
        };
        let done = opened.run(work, arguments.inlet.timeout).await;
        if arguments.inlet.plan { done.work.and(tally.complete()) } else { done.told(&tally, &github) }
    })
}

/// The runs of a place that are to be looked at.
#[derive(Debug, Default)]
struct Missing {
    /// How many completed runs and attempts there are in all.
    runs: usize,
    attempts: usize,
    /// Each with its attempts: those that are not recorded, and where jobs are counted the others too, for their jobs.
    found: Vec<(ListedRun, Vec<Wanted>)>,
}

/// An attempt that is to be looked at.
#[derive(Debug)]
struct Wanted {
    key: RunKey,
    /// Whether there is nothing to take in but its jobs: it is recorded, or has not ended.
    jobs_only: bool,
}

impl Missing {
    /// How many attempts are not recorded.
    fn keys(&self) -> usize {
        self.found.iter().map(|(_, attempts)| missing(attempts)).sum()
    }

    /// Says how much is missing, and what it means that some of it is late.
    fn tell(&self, place: &Place, now: i64, late: Late, detail: Detail) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let Self { runs, attempts, .. } = self;
        writeln!(out, "{place}: {runs} completed runs with {attempts} attempts, {} of them not recorded", self.keys())?;
        let ended = self.found.iter().filter(|(run, _)| is_late(run.updated_at, now));
        let are_late: usize = match detail {
            Detail::Runs => ended.map(|(_, found)| missing(found)).sum(),
            Detail::Jobs | Detail::Steps => {
                ended.filter(|(run, _)| run.unfinished().is_none()).map(|(_, found)| found.len()).sum()
            }
        };
        if detail >= Detail::Jobs && !self.found.is_empty() {
            writeln!(out, "  the jobs of all attempts are looked at, recorded or not")?;
        }
        if are_late == 0 && (late != Late::Historical || self.found.is_empty()) {
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
        let of_which = if detail >= Detail::Jobs { "attempts, with what is missing of them," } else { "of those" };
        writeln!(out, "  at least {are_late} {of_which} {why}: {means}")
    }
}

fn missing(attempts: &[Wanted]) -> usize {
    attempts.iter().filter(|attempt| !attempt.jobs_only).count()
}

fn is_late(end: Option<Timestamp>, now: i64) -> bool {
    end.is_some_and(|end| now - end.as_second() > LATE_S)
}

/// What is missing of the runs that were made in this time.
async fn find(
    github: &Github,
    place: &Place,
    span: (i64, i64),
    look: &Look,
    detail: Detail,
) -> Result<Missing, HealingError> {
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
                let unknown = look.unknown(keys.iter().copied().map(Key::from).collect()).await?;
                let attempt = |key: RunKey| Wanted { key, jobs_only: !unknown.contains(&key.into()) };
                let mut attempts: Vec<Wanted> = keys.into_iter().map(attempt).collect();
                attempts.retain(|attempt| detail >= Detail::Jobs || !attempt.jobs_only);
                let unfinished = run.unfinished().filter(|_| detail >= Detail::Jobs);
                attempts.extend(unfinished.map(|key| Wanted { key, jobs_only: true }));
                if !attempts.is_empty() {
                    missing.found.push((run, attempts));
                }
            }
            let Some(path) = next else { break };
            (_, page, next) = github.runs(place, (since, until), Some(path)).await?;
        }
    }
    bar.finish_and_clear();
    missing.found.sort_by_key(|(run, _)| (run.updated_at, run.id));
    Ok(missing)
}

/// Which way what is found goes in.
struct Way {
    inlet: Inlet,
    /// For what is late and is counted at its own time: with a tag that no delivery has, for Datadog keeps one value a second
    /// of each tag set, and nobody knows any more which seconds in the past have one.
    historical: Option<Inlet>,
}

impl Way {
    fn new(inlet: Inlet, late: Late, since: i64) -> Self {
        let date = Timestamp::from_second(since).unwrap_or_default().strftime("%Y-%m-%d").to_string();
        let historical = match &inlet {
            Inlet::Here(receiver) if late == Late::Historical => Some(Inlet::Here(receiver.backfilling(&date).into())),
            _ => None,
        };
        Self { inlet, historical }
    }
}

/// The delivery that an attempt or a job would have been, and when it ended.
struct Found {
    key: Key,
    end: Option<Timestamp>,
    recorded: Recorded,
}

impl Found {
    fn new(key: Key, end: Option<Timestamp>, payload: String) -> Self {
        let recorded = Recorded { event: Some(key.event().to_owned()), guid: None, is_form: false, payload };
        Self { key, end, recorded }
    }

    async fn take(&self, inlet: &Inlet, tally: &mut Tally) -> Result<(), HealingError> {
        tally.count(|| named(self.key), inlet.take(&self.recorded).await?);
        Ok(())
    }
}

/// What it is called in a summary.
fn named(key: Key) -> String {
    match key {
        Key::Run(key) => format!("run {key}"),
        Key::Job(JobId(id)) => format!("job {id}"),
    }
}

/// What is to be fetched, and from where.
struct Filling<'f> {
    github: &'f Github,
    place: &'f Place,
    look: &'f Look,
    detail: Detail,
    reruns: Reruns,
    late: Late,
    now: i64,
}

impl Filling<'_> {
    /// How much is missing. Of jobs only their list tells.
    async fn count(&self, missing: Missing, tally: &mut Tally) -> Result<usize, HealingError> {
        if self.detail < Detail::Jobs {
            return Ok(missing.keys());
        }
        let mut keys = 0;
        let fetched = self.each(missing, tally, async |_, _| {
            keys += 1;
            Ok(())
        });
        fetched.await?;
        Ok(keys)
    }

    async fn fill(&self, way: &Way, missing: Missing, tally: &mut Tally) -> Result<(), HealingError> {
        let mut kept = Vec::new();
        let fetched = self.each(missing, tally, async |found, tally| match &way.historical {
            // Its second is given in the order in which all come.
            Some(historical) if is_late(found.end, self.now) => {
                kept.push((historical, found));
                Ok(())
            }
            _ => found.take(&way.inlet, tally).await,
        });
        let filled = fetched.await;
        // What was fetched so far is taken in whatever stood in the way of the rest.
        kept.sort_by_key(|(_, found)| (found.end, found.key));
        for (historical, found) in kept {
            found.take(historical, tally).await?;
        }
        filled
    }

    /// Fetches each attempt with what is missing of it, and hands it on, unless it is late and late ones are left out.
    async fn each(
        &self,
        missing: Missing,
        tally: &mut Tally,
        mut take: impl AsyncFnMut(Found, &mut Tally) -> Result<(), HealingError>,
    ) -> Result<(), HealingError> {
        if missing.found.is_empty() {
            return Ok(());
        }
        let workflows = self.github.workflows(self.place).await?;
        let attempts = missing.found.iter().map(|(_, attempts)| attempts.len()).sum();
        let (bar, mut patience) = (bar(self.github, attempts, "attempts"), Patience::default());
        let is_left_out = |end| self.late == Late::Skip && is_late(end, self.now);
        for (run, attempts) in missing.found {
            // An earlier attempt ended before the last one, and a job before its attempt.
            let is_all_left_out = run.unfinished().is_none() && is_left_out(run.updated_at);
            for attempt in attempts {
                bar.inc(1);
                if is_all_left_out {
                    tally.skipped += usize::from(!attempt.jobs_only);
                    continue;
                }
                match self.deliveries(&workflows, &run, &attempt, tally).await {
                    Ok(all) => {
                        patience.renew();
                        for found in all {
                            if is_left_out(found.end) {
                                tally.skipped += 1;
                            } else {
                                take(found, tally).await?;
                            }
                        }
                    }
                    Err(HealingError::Github(GithubError::NotFound { .. })) => tally.gone += 1,
                    Err(HealingError::Github(error)) if patience.bears(&error) => {
                        tally.failed.push((named(attempt.key.into()), explain(&error)));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// What is missing of an attempt: itself, its jobs.
    async fn deliveries(
        &self,
        workflows: &Workflows,
        run: &ListedRun,
        attempt: &Wanted,
        tally: &mut Tally,
    ) -> Result<Vec<Found>, HealingError> {
        let Self { github, place, .. } = *self;
        let key = attempt.key;
        let is_dropped = self.reruns.drops_jobs_of(key.attempt);
        if is_dropped && attempt.jobs_only {
            return Ok(Vec::new());
        }
        let jobs = github.jobs(place, key).await?;
        let missing = if is_dropped { Vec::new() } else { self.missing(&jobs, tally).await? };
        if attempt.jobs_only && missing.is_empty() {
            return Ok(Vec::new());
        }
        let told = if run.is_of(key) { run.clone() } else { github.attempt(place, key).await? };
        let mut found = Vec::new();
        if !attempt.jobs_only {
            let end = told.end(&jobs);
            found.push(Found::new(key.into(), end, workflows.payload(&told, end)));
        }
        let ran = missing.into_iter().filter(|job| !told.is_before(job));
        found.extend(ran.map(|job| Found::new(job.key(), job.completed_at, workflows.job_payload(&told, job))));
        Ok(found)
    }

    /// Those of the jobs that have completed and are not recorded, where jobs are counted.
    async fn missing<'j>(&self, jobs: &'j [ListedJob], tally: &mut Tally) -> Result<Vec<&'j ListedJob>, HealingError> {
        if self.detail < Detail::Jobs {
            return Ok(Vec::new());
        }
        let completed: Vec<&ListedJob> = jobs.iter().filter(|job| job.is_completed()).collect();
        let unknown = self.look.unknown(completed.iter().map(|job| job.key()).collect()).await?;
        tally.known += completed.len() - unknown.len();
        Ok(completed.into_iter().filter(|job| unknown.contains(&job.key())).collect())
    }
}
