//! Deliveries that failed, by the log that GitHub keeps of each webhook.
//!
//! Invariant: what a try came to is told by its status alone being `OK` or not, never by its code, which a try without a
//! connection does not have. An event is missing while no try to deliver it was `OK`.

use super::{HealingError, Opened, bar, counter, entry, is_gone, tally::Tally};
use crate::{
    cli, config,
    event::{self, Event, Recorded},
    github::{Delivered, Github, GithubError, Hook, Place},
    inlet::Inlet,
};
use indicatif::ProgressBar;
use jiff::Timestamp;
use std::{
    collections::HashSet,
    io::{self, Write},
    time::{Duration, Instant},
};

/// How long to wait before a log is read again, to see whether a redelivery has been made.
const LOG_EVERY: Duration = Duration::from_secs(2);

/// A completion that was not delivered.
#[derive(Debug, Clone)]
pub(super) struct Hole {
    pub(super) place: Place,
    pub(super) hook: u64,
    /// The last try.
    pub(super) last: Delivered,
}

impl Hole {
    fn what(&self) -> String {
        let Delivered { guid, delivered_at, status, .. } = &self.last;
        format!("delivery {guid} of {delivered_at} ({status})")
    }
}

/// The webhooks of a place that bring runs.
pub(super) async fn hooks(github: &Github, place: &Place, wanted: Option<u64>) -> Result<Vec<Hook>, HealingError> {
    let hooks = github.hooks(place).await?.into_iter();
    let is_wanted = |hook: &Hook| wanted.map_or(hook.is_for_runs(), |id| hook.id == id);
    let hooks: Vec<Hook> = hooks.filter(is_wanted).collect();
    if hooks.is_empty() {
        return Err(HealingError::NoHook { place: place.clone(), hook: wanted });
    }
    Ok(hooks)
}

/// The completions in a webhook's log since a second that no try has delivered, the oldest first; with `all`, those too that
/// were. `looked_at` counts the tries.
pub(super) async fn holes(
    github: &Github,
    place: &Place,
    hook: u64,
    since: i64,
    all: bool,
    looked_at: &ProgressBar,
) -> Result<Vec<Hole>, HealingError> {
    let mut last: Vec<Delivered> = Vec::new();
    let (mut seen, mut delivered) = (HashSet::new(), HashSet::new());
    let mut path = None;
    loop {
        let (page, next) = github.deliveries(place, hook, path).await?;
        let is_over = page.last().is_none_or(|oldest| oldest.delivered_at.as_second() < since);
        for tried in page.into_iter().filter(|tried| tried.delivered_at.as_second() >= since) {
            looked_at.inc(1);
            if tried.event != "workflow_run" || tried.action.as_deref().is_some_and(|action| action != "completed") {
                continue;
            }
            if tried.is_ok() {
                delivered.insert(tried.guid.clone());
            }
            if seen.insert(tried.guid.clone()) {
                last.push(tried);
            }
        }
        path = next;
        if is_over || path.is_none() {
            break;
        }
    }
    last.retain(|tried| all || !delivered.contains(&tried.guid));
    last.reverse();
    Ok(last.into_iter().map(|last| Hole { place: place.clone(), hook, last }).collect())
}

/// What GitHub sent, or tried to send.
pub(super) async fn recorded(github: &Github, hole: &Hole) -> Result<Recorded, GithubError> {
    let text = github.delivery(&hole.place, hole.hook, hole.last.id).await?;
    let odd = |cause: &str| GithubError::Unexpected { what: hole.what(), cause: cause.to_owned() };
    let recorded = Recorded::read(&text).map_err(|_| odd("GitHub's record of it is not JSON"))?;
    if recorded.payload == "null" { Err(odd("GitHub has kept no payload of it")) } else { Ok(recorded) }
}

/// Finds what the webhooks' deliveries failed to bring, and takes it in or has it delivered again.
///
/// # Errors
/// GitHub or the receiver cannot be asked, or not everything could be taken in.
pub fn recover(arguments: &cli::Recover) -> Result<(), HealingError> {
    let (root, auth) = config::github(&arguments.github, &config::process_environment)?;
    actix_web::rt::System::new().block_on(async {
        let github = Github::new(root, auth)?;
        // A redelivery comes to the service by itself.
        let inlet = cli::InletArgs { plan: arguments.inlet.plan || arguments.redeliver, ..arguments.inlet.clone() };
        let opened = Opened::new(&inlet, &arguments.common)?;
        let mut tally = Tally::default();
        let work = async |inlet: Inlet| {
            let holes = find(&github, arguments).await?;
            if arguments.inlet.plan {
                return plan(&github, &inlet, &holes).await;
            }
            fill(&github, &inlet, &holes, arguments, &mut tally).await
        };
        let (done, pushes) = opened.run(work, arguments.inlet.timeout).await?;
        let printed = if arguments.inlet.plan { Ok(()) } else { tally.print(pushes, &github) };
        // What kept it from the rest says more than what is left.
        done.and(printed)
    })
}

async fn find(github: &Github, arguments: &cli::Recover) -> Result<Vec<Hole>, HealingError> {
    let since = arguments.since.second(Timestamp::now().as_second());
    let looked_at = counter(github, "deliveries looked at");
    let mut all = Vec::new();
    for place in arguments.hooks.places() {
        for hook in hooks(github, place, arguments.hook).await? {
            let before = looked_at.position();
            let holes = holes(github, place, hook.id, since, arguments.all, &looked_at).await?;
            let tries = looked_at.position() - before;
            let since = Timestamp::from_second(since).unwrap_or_default();
            let what = if arguments.all { "to look at" } else { "not delivered" };
            looked_at.suspend(|| {
                writeln!(
                    io::stdout(),
                    "{place}, webhook {} to {}: {tries} deliveries since {since}, {} completed runs {what}",
                    hook.id,
                    hook.config.url,
                    holes.len()
                )
            })?;
            all.extend(holes);
        }
    }
    looked_at.finish_and_clear();
    Ok(all)
}

/// Names what is missing, and does nothing about it.
async fn plan(github: &Github, inlet: &Inlet, holes: &[Hole]) -> Result<(), HealingError> {
    let bar = bar(github, holes.len() as u64, "deliveries");
    let mut missing = 0;
    for hole in holes {
        let recorded = match recorded(github, hole).await {
            Err(error) if is_gone(&error) => continue,
            recorded => recorded?,
        };
        bar.inc(1);
        if is_known(inlet, &recorded).await? {
            continue;
        }
        missing += 1;
        bar.suspend(|| writeln!(io::stdout(), "  {}", hole.what()))?;
    }
    bar.finish_and_clear();
    Ok(writeln!(io::stdout(), "{missing} are missing; nothing was taken in")?)
}

/// Whether a delivery tells of a run that is recorded, or of nothing that would be.
async fn is_known(inlet: &Inlet, recorded: &Recorded) -> Result<bool, HealingError> {
    match event::parse(recorded.event.as_deref(), recorded.payload.as_bytes()) {
        Ok(Event::Completed(completed)) => Ok(inlet.unknown(vec![completed.key]).await?.is_empty()),
        Ok(Event::NotOurs(_)) => Ok(true),
        Ok(Event::Unusable(_)) | Err(_) => Ok(false),
    }
}

async fn fill(
    github: &Github,
    inlet: &Inlet,
    holes: &[Hole],
    arguments: &cli::Recover,
    tally: &mut Tally,
) -> Result<(), HealingError> {
    let bar = bar(github, holes.len() as u64, "deliveries");
    let mut asked = Vec::new();
    for hole in holes {
        match recorded(github, hole).await {
            Ok(recorded) if !arguments.redeliver => tally.count(|| hole.what(), inlet.take(&recorded).await?),
            Ok(recorded) if is_known(inlet, &recorded).await? => tally.known += 1,
            Ok(_) => {
                github.redeliver(&hole.place, hole.hook, hole.last.id).await?;
                asked.push(hole);
            }
            Err(error) if is_gone(&error) || matches!(error, GithubError::Unexpected { .. }) => {
                tally.failed.push((hole.what(), entry(&error)));
            }
            Err(error) => return Err(error.into()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    see_redelivered(github, asked, arguments.inlet.timeout, tally).await
}

/// Waits until the log has a new try for each event, and counts what they came to.
async fn see_redelivered(
    github: &Github,
    mut asked: Vec<&Hole>,
    timeout: Duration,
    tally: &mut Tally,
) -> Result<(), HealingError> {
    let (begun, bar) = (Instant::now(), bar(github, asked.len() as u64, "redeliveries seen"));
    while !asked.is_empty() && begun.elapsed() < timeout {
        let since = asked.iter().map(|hole| hole.last.delivered_at).min();
        let hooks: HashSet<(&Place, u64)> = asked.iter().map(|hole| (&hole.place, hole.hook)).collect();
        let mut log = Vec::new();
        for (place, hook) in hooks {
            log.extend(tries_since(github, place, hook, since).await?);
        }
        asked.retain(|hole| {
            let is_later = |later: &&Delivered| {
                later.guid == hole.last.guid && later.id != hole.last.id && later.delivered_at >= hole.last.delivered_at
            };
            let Some(again) = log.iter().find(is_later) else { return true };
            bar.inc(1);
            if again.is_ok() {
                tally.taken += 1;
            } else {
                tally.failed.push((hole.what(), format!("delivered again: {}", again.status)));
            }
            false
        });
        if !asked.is_empty() {
            tokio::time::sleep(LOG_EVERY).await;
        }
    }
    bar.finish_and_clear();
    let late = asked.into_iter().map(|hole| (hole.what(), "GitHub has not delivered it again yet".to_owned()));
    tally.failed.extend(late);
    Ok(())
}

/// All tries in a webhook's log since then.
async fn tries_since(
    github: &Github,
    place: &Place,
    hook: u64,
    since: Option<Timestamp>,
) -> Result<Vec<Delivered>, HealingError> {
    let (mut tries, mut path) = (Vec::new(), None);
    loop {
        let (page, next) = github.deliveries(place, hook, path).await?;
        let is_over = page.last().is_none_or(|oldest| Some(oldest.delivered_at) < since);
        tries.extend(page);
        path = next;
        if is_over || path.is_none() {
            return Ok(tries);
        }
    }
}
