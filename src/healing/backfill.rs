//! Runs that no delivery ever told of, by GitHub's list of runs.
//!
//! Invariant: a search that has more results than GitHub gives is halved in time until it has not.

use super::{HealingError, Opened, bar, counter, entry, is_gone, tally::Tally};
use crate::{
    cli::{self, Late},
    config,
    event::{Recorded, RunKey},
    github::{Github, GithubError, ListedRun, Place, SEARCH_MAX, Workflows},
    inlet::{Answered, Here, Inlet, InletError},
};
use indicatif::ProgressBar;
use jiff::Timestamp;
use std::{
    collections::HashMap,
    io::{self, Write},
};

/// How long after its end a run is taken at its own time. Source: Datadog, "Submit metrics".
const LATE_S: i64 = 3600;

/// An attempt that is missing.
struct Missing<'a> {
    place: &'a Place,
    workflows: &'a Workflows,
    /// The run, as it is after its last attempt.
    run: &'a ListedRun,
    key: RunKey,
}

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
        let opened = Opened::new(&arguments.inlet, &arguments.common)?;
        let mut tally = Tally::default();
        let work = async |inlet: Inlet| {
            let late = Lateness { now, late: arguments.late, historical: historical(&inlet, arguments.late, since) };
            let mut found = Vec::new();
            for place in &arguments.repository {
                let workflows = github.workflows(place).await?;
                found.push((place, workflows, list(&github, place, (since, until)).await?));
            }
            let missing = missing(&inlet, &found, &late, &mut tally).await?;
            if arguments.inlet.plan {
                return Ok(writeln!(io::stdout(), "{} are missing; nothing was taken in", missing.len())?);
            }
            fill(&github, &inlet, &late, missing, &mut tally).await
        };
        let (done, pushes) = opened.run(work, arguments.inlet.timeout).await?;
        let printed = if arguments.inlet.plan { Ok(()) } else { tally.print(pushes, &github) };
        // What kept it from the rest says more than what is left.
        done.and(printed)
    })
}

/// What is done with runs that are late.
struct Lateness {
    now: i64,
    late: Late,
    /// What takes those in that are counted at their own time.
    historical: Option<Inlet>,
}

impl Lateness {
    fn is_late(&self, end: Option<Timestamp>) -> bool {
        end.is_some_and(|end| self.now - end.as_second() > LATE_S)
    }

    fn means(&self) -> &'static str {
        match self.late {
            Late::Restamp => "by --late restamp they are counted at the time at which they are sent",
            Late::Skip => "by --late skip they are left out",
            Late::Historical => {
                "by --late historical they are sent with their own time and the tag backfill: enable Historical Metrics for each \
                 metric in Datadog's Metrics Summary first, or they are dropped"
            }
        }
    }
}

/// The same receiver, with a tag that no delivery has: Datadog keeps one value a second of each tag set, and nobody knows any
/// more which seconds in the past have one.
fn historical(inlet: &Inlet, late: Late, since: i64) -> Option<Inlet> {
    let Inlet::Here(Here { receiver, ledger }) = inlet else { return None };
    let date = Timestamp::from_second(since).unwrap_or_default().strftime("%Y-%m-%d").to_string();
    let receiver = (late == Late::Historical).then(|| receiver.backfilling(&date))?;
    Some(Inlet::Here(Here { receiver: receiver.into(), ledger: ledger.clone() }))
}

/// All completed runs that were made in this time, by their IDs.
async fn list(github: &Github, place: &Place, span: (i64, i64)) -> Result<Vec<ListedRun>, HealingError> {
    let bar = counter(github, "runs found");
    let mut runs = HashMap::new();
    let mut spans = vec![span];
    while let Some((since, until)) = spans.pop() {
        let (total, page, mut next) = github.runs(place, (since, until), None).await?;
        if total > SEARCH_MAX && since < until {
            let middle = since + (until - since) / 2;
            spans.extend([(middle + 1, until), (since, middle)]);
            continue;
        }
        if total > SEARCH_MAX {
            let second = Timestamp::from_second(since).unwrap_or_default();
            log::warn!("{place}: {total} runs were made in the one second {second}: GitHub lists {SEARCH_MAX} of them");
        }
        add(&mut runs, page, &bar);
        while let Some(path) = next {
            let (_, page, after) = github.runs(place, (since, until), Some(path)).await?;
            add(&mut runs, page, &bar);
            next = after;
        }
    }
    bar.finish_and_clear();
    let mut runs: Vec<ListedRun> = runs.into_values().filter(ListedRun::is_completed).collect();
    runs.sort_by_key(|run| (run.updated_at, run.id));
    Ok(runs)
}

/// A page that is read while runs come in may have some of the one before.
fn add(runs: &mut HashMap<u64, ListedRun>, page: Vec<ListedRun>, bar: &ProgressBar) {
    runs.extend(page.into_iter().map(|run| (run.id, run)));
    bar.set_position(runs.len() as u64);
}

/// The attempts that are not recorded, those that ended first first; says how many there are, and what it means.
async fn missing<'a>(
    inlet: &Inlet,
    found: &'a [(&'a Place, Workflows, Vec<ListedRun>)],
    late: &Lateness,
    tally: &mut Tally,
) -> Result<Vec<Missing<'a>>, HealingError> {
    let mut missing = Vec::new();
    for (place, workflows, runs) in found {
        let (mut attempts, mut unknown, mut are_late) = (0, 0, 0);
        for run in runs {
            let keys: Vec<RunKey> = run.keys().collect();
            attempts += keys.len();
            let keys = inlet.unknown(keys).await?;
            unknown += keys.len();
            if late.is_late(run.updated_at) {
                are_late += keys.len();
            }
            missing.extend(keys.into_iter().map(|key| Missing { place, workflows, run, key }));
        }
        tally.known += attempts - unknown;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{place}: {} completed runs with {attempts} attempts, {unknown} of them not recorded",
            runs.len()
        )?;
        if are_late > 0 {
            writeln!(
                out,
                "  {are_late} of those ended more than an hour ago, which Datadog does not take at their own time: {}",
                late.means()
            )?;
        }
    }
    missing.sort_by_key(|missing| (missing.run.updated_at, missing.key));
    Ok(missing)
}

async fn fill(
    github: &Github,
    inlet: &Inlet,
    late: &Lateness,
    missing: Vec<Missing<'_>>,
    tally: &mut Tally,
) -> Result<(), HealingError> {
    let bar = bar(github, missing.len() as u64, "attempts");
    for missing in missing {
        // An earlier attempt ended before the last one.
        if late.late == Late::Skip && late.is_late(missing.run.updated_at) {
            tally.skipped += 1;
        } else {
            match delivery(github, &missing).await {
                Ok((recorded, end)) => match take(inlet, late, &recorded, end).await? {
                    Some(answered) => tally.count(|| format!("run {}", missing.key), answered),
                    None => tally.skipped += 1,
                },
                Err(error) if is_gone(&error) => tally.failed.push((format!("run {}", missing.key), entry(&error))),
                Err(error) => return Err(error.into()),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Takes in what ended then; `None` where it is left out.
async fn take(
    inlet: &Inlet,
    late: &Lateness,
    recorded: &Recorded,
    end: Option<Timestamp>,
) -> Result<Option<Answered>, InletError> {
    let inlet = match (late.late, late.is_late(end)) {
        (Late::Skip, true) => return Ok(None),
        (Late::Historical, true) => late.historical.as_ref().unwrap_or(inlet),
        _ => inlet,
    };
    inlet.take(recorded).await.map(Some)
}

/// The delivery that an attempt would have been, and when it ended.
async fn delivery(github: &Github, missing: &Missing<'_>) -> Result<(Recorded, Option<Timestamp>), GithubError> {
    let Missing { place, workflows, run, key } = missing;
    let is_last = run.keys().last() == Some(*key);
    let attempt = if is_last { (*run).clone() } else { github.attempt(place, *key).await? };
    let end = github.end(place, &attempt, *key).await?;
    let payload = workflows.payload(&attempt, end);
    let recorded = Recorded { event: Some("workflow_run".to_owned()), guid: None, is_form: false, payload };
    Ok((recorded, end))
}
