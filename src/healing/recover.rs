//! Deliveries that failed: taken in, or delivered once more.

use super::{HealingError, Opened, bar, counter, tally::Tally};
use crate::{
    cli::{self, Common},
    config,
    event::{self, Event, Recorded},
    explain::explain,
    github::{Delivered, Github, Place},
    holes::{self, Hole, Patience, is_of_one, recorded},
    inlet::{Inlet, Look},
    outgoing::shown_url,
};
use jiff::Timestamp;
use std::{
    collections::HashSet,
    io::{self, Write},
    time::{Duration, Instant},
};

/// How long to wait before a log is read again, to see whether a redelivery has been made.
const LOG_EVERY: Duration = Duration::from_secs(2);

/// How far GitHub's clock may be behind this machine's, for a redelivery to be found in the log.
const APART_MAX: Duration = Duration::from_secs(5 * 60);

/// Finds what the webhooks' deliveries failed to bring, and takes it in or has it delivered again.
///
/// # Errors
/// GitHub or the receiver cannot be asked, or not everything could be taken in.
pub fn recover(arguments: &cli::Recover) -> Result<(), HealingError> {
    let (root, auth) = config::github(&arguments.github, &config::process_environment)?;
    actix_web::rt::System::new().block_on(async {
        let github = Github::new(root, auth)?;
        // A redelivery comes to the service by itself.
        let takes_in = !arguments.inlet.plan && !arguments.redeliver;
        let opened = Opened::new(&arguments.inlet, &arguments.common, takes_in)?;
        let mut tally = Tally::default();
        let work = async |look: Look, inlet: Option<Inlet>| {
            let holes = find(&github, arguments).await?;
            match inlet {
                Some(inlet) => fill(&github, &inlet, &holes, &mut tally).await,
                None if arguments.inlet.plan => plan(&github, &look, &holes, &arguments.common).await,
                None => redeliver(&github, &look, &holes, arguments, &mut tally).await,
            }
        };
        let done = opened.run(work, arguments.inlet.timeout).await;
        if arguments.inlet.plan { done.work } else { done.told(&tally, &github) }
    })
}

async fn find(github: &Github, arguments: &cli::Recover) -> Result<Vec<Hole>, HealingError> {
    let since = arguments.since.second(Timestamp::now().as_second());
    let detail = arguments.common.tags.detail();
    let looked_at = counter(github, "deliveries looked at");
    let mut all = Vec::new();
    for place in arguments.hooks.places() {
        let hooks = holes::hooks(github, place, arguments.hook, detail).await?;
        if arguments.hook.is_none() {
            holes::tell_unheard(place, &hooks, detail);
        }
        if arguments.redeliver && hooks.len() > 1 {
            let hooks = hooks.iter().map(|hook| format!("{} to {}", hook.id, shown_url(&hook.config.url)));
            return Err(HealingError::SeveralHooks {
                place: place.clone(),
                hooks: hooks.collect::<Vec<_>>().join(", "),
                detail,
            });
        }
        for hook in hooks {
            let before = looked_at.position();
            let looked = || looked_at.inc(1);
            let holes = holes::holes(github, place, hook.id, since, (detail, arguments.all), looked).await?;
            let tries = looked_at.position() - before;
            let since = Timestamp::from_second(since).unwrap_or_default();
            let what = if arguments.all { "to look at" } else { "not delivered" };
            let (id, url) = (hook.id, shown_url(&hook.config.url));
            looked_at.suspend(|| {
                writeln!(
                    io::stdout(),
                    "{place}, webhook {id} to {url}: {tries} deliveries since {since}, {} completions {what}",
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
async fn plan(github: &Github, look: &Look, holes: &[Hole], common: &Common) -> Result<(), HealingError> {
    let bar = bar(github, holes.len(), "deliveries");
    let mut missing = 0;
    for hole in holes {
        let told = match recorded(github, hole).await {
            Ok(recorded) if is_known(look, &recorded, common).await? => None,
            Ok(_) => Some(hole.what()),
            Err(error) if is_of_one(&error) => Some(format!("{}: {}", hole.what(), explain(&error))),
            Err(error) => return Err(error.into()),
        };
        bar.inc(1);
        if let Some(told) = told {
            missing += 1;
            bar.suspend(|| writeln!(io::stdout(), "  {told}"))?;
        }
    }
    bar.finish_and_clear();
    Ok(writeln!(io::stdout(), "{missing} are missing; nothing was taken in")?)
}

/// Whether a delivery tells of something that is recorded, or of nothing that would be.
async fn is_known(look: &Look, recorded: &Recorded, common: &Common) -> Result<bool, HealingError> {
    match event::parse(recorded.event.as_deref(), recorded.payload.as_bytes(), common.tags.detail()) {
        Ok(Event::Completed(completed))
            if completed.job.as_ref().is_some_and(|job| common.reruns.drops_jobs_of(job.attempt)) =>
        {
            Ok(true)
        }
        Ok(Event::Completed(completed)) => Ok(look.unknown(vec![completed.key]).await?.is_empty()),
        Ok(Event::NotOurs(_)) => Ok(true),
        Ok(Event::Unusable(_)) | Err(_) => Ok(false),
    }
}

async fn fill(github: &Github, inlet: &Inlet, holes: &[Hole], tally: &mut Tally) -> Result<(), HealingError> {
    let (bar, mut patience) = (bar(github, holes.len(), "deliveries"), Patience::default());
    for hole in holes {
        match recorded(github, hole).await {
            Ok(recorded) => {
                patience.renew();
                tally.count(|| hole.what(), inlet.take(&recorded).await?);
            }
            Err(error) if patience.bears(&error) => tally.failed.push((hole.what(), explain(&error))),
            Err(error) => return Err(error.into()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn redeliver(
    github: &Github,
    look: &Look,
    holes: &[Hole],
    arguments: &cli::Recover,
    tally: &mut Tally,
) -> Result<(), HealingError> {
    let common = &arguments.common;
    let bar = bar(github, holes.len(), "deliveries");
    let begun = Timestamp::now();
    let mut asked = Vec::new();
    for hole in holes {
        let done = match recorded(github, hole).await {
            Ok(recorded) if is_known(look, &recorded, common).await? => {
                tally.known += 1;
                Ok(())
            }
            Ok(_) => {
                let redelivered = github.redeliver(&hole.place, hole.hook, hole.last.id).await;
                asked.extend(redelivered.is_ok().then_some(hole));
                redelivered
            }
            Err(error) => Err(error),
        };
        match done {
            Err(error) if is_of_one(&error) => tally.failed.push((hole.what(), explain(&error))),
            done => done?,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    see_redelivered(github, asked, begun, arguments.inlet.timeout, tally).await
}

/// Waits until the log has a new try for each event, and counts what they came to.
async fn see_redelivered(
    github: &Github,
    mut asked: Vec<&Hole>,
    asked_at: Timestamp,
    timeout: Duration,
    tally: &mut Tally,
) -> Result<(), HealingError> {
    let (begun, bar) = (Instant::now(), bar(github, asked.len(), "redeliveries seen"));
    let since = (asked_at - APART_MAX).as_second();
    while !asked.is_empty() && begun.elapsed() < timeout {
        let hooks: HashSet<(&Place, u64)> = asked.iter().map(|hole| (&hole.place, hole.hook)).collect();
        let mut log = Vec::new();
        for (place, hook) in hooks {
            holes::each_try(github, place, hook, since, |tried| log.push(tried)).await?;
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
