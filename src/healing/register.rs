//! The webhook: made, or mended where it is not as it should be, and seen to be answered.
//!
//! Invariant: what is as it should be is not touched. GitHub never tells a webhook's secret, so a ping tells whether it is ours.

use super::HealingError;
use crate::{
    cli, config,
    event::Detail,
    explain::explain,
    github::{Delivered, Github, Hook, Place},
    outgoing::plain_url,
};
use std::{
    collections::HashSet,
    io::{self, Write},
    time::{Duration, Instant},
};

/// How long to wait before the log is read again for the ping.
const LOG_EVERY: Duration = Duration::from_millis(500);

/// Makes or mends the webhooks that the arguments name, and has each pinged.
///
/// # Errors
/// GitHub does not do it, or a ping is not answered.
pub fn register(arguments: &cli::Register) -> Result<(), HealingError> {
    let environment = &config::process_environment;
    plain_url(&arguments.url).ok_or(HealingError::BadUrl)?;
    let secret = config::webhook_secret(environment)?;
    let (root, auth) = config::github(&arguments.github, environment)?;
    actix_web::rt::System::new().block_on(async {
        let github = Github::new(root, auth)?;
        let mut first = Ok(());
        for place in arguments.hooks.places() {
            // What stands in the way at one place is no reason to leave the others.
            if let Err(error) = one(&github, place, arguments, &secret).await {
                if first.is_err() {
                    log::error!("{}; hint: {}", explain(&error), error.hint().unwrap_or_default());
                } else {
                    first = Err(error);
                }
            }
        }
        first
    })
}

async fn one(github: &Github, place: &Place, arguments: &cli::Register, secret: &str) -> Result<(), HealingError> {
    let url = arguments.url.as_str();
    let hooks = github.hooks(place).await?;
    let known = hooks.into_iter().find(|hook| hook.config.url == url);
    let wanted = if arguments.jobs { Detail::Jobs } else { Detail::Runs }.events();
    let make = || vec![format!("make a webhook to {url}: {}, JSON", wanted.join(" and "))];
    let changes = known.as_ref().map_or_else(make, |hook| changes(hook, wanted));
    let verb = if arguments.dry_run { "would" } else { "will" };
    for change in &changes {
        say(&format!("{place}: {verb} {change}"))?;
    }
    if arguments.dry_run {
        if changes.is_empty() {
            say(&format!("{place}: the webhook is as it should be; whether its secret is ours, only a ping tells"))?;
        }
        return Ok(());
    }
    let events = events(known.as_ref(), wanted);
    let set = |id: Option<u64>| github.set_hook(place, id, url, &events, secret);
    let hook = match known {
        Some(hook) if changes.is_empty() => hook,
        known => set(known.map(|hook| hook.id)).await?,
    };
    let mut answered = ping(github, place, hook.id, arguments.timeout).await?;
    if changes.is_empty() && answered.as_ref().is_some_and(is_unauthorized) {
        say(&format!("{place}: will set the webhook's secret: the receiver answers that it is another one"))?;
        set(Some(hook.id)).await?;
        answered = ping(github, place, hook.id, arguments.timeout).await?;
    } else if changes.is_empty() {
        say(&format!("{place}: the webhook is as it should be"))?;
    }
    match answered {
        Some(tried) if tried.is_ok() => say(&format!("{place}: the ping to {url} was answered (webhook {})", hook.id)),
        tried => Err(unanswered(place, url, tried, arguments.timeout)),
    }
}

fn say(line: &str) -> Result<(), HealingError> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// What is to be changed in a webhook for these events.
fn changes(hook: &Hook, wanted: &[&str]) -> Vec<String> {
    let config = &hook.config;
    let is_verified = ["0", "\"0\""].contains(&config.insecure_ssl.to_string().as_str());
    let events = wanted.iter().map(|event| (!hook.is_for(event), format!("add the event {event}")));
    let wrong = [
        (config.content_type != "json", format!("set the content type to json from {}", config.content_type)),
        (!is_verified, "verify the receiver's certificate".to_owned()),
        (config.secret.is_none(), "set a secret where there is none".to_owned()),
        (!hook.active, "activate the webhook".to_owned()),
    ];
    let mut changes: Vec<String> =
        events.chain(wrong).filter_map(|(is_wrong, change)| is_wrong.then_some(change)).collect();
    if !changes.is_empty() {
        changes.push("set its secret to ours, as GitHub wants the whole of it".to_owned());
    }
    changes
}

/// Ours, beside those that somebody else wanted: the receiver ignores them.
fn events(known: Option<&Hook>, wanted: &[&str]) -> Vec<String> {
    let mut events = known.map(|hook| hook.events.clone()).unwrap_or_default();
    let missing = wanted.iter().filter(|event| !known.is_some_and(|hook| hook.is_for(event)));
    events.extend(missing.map(|event| (*event).to_owned()));
    events
}

fn is_unauthorized(tried: &Delivered) -> bool {
    tried.status_code == Some(401)
}

/// Has GitHub ping, and waits for the try in the log; `None` if it is not there in time.
async fn ping(github: &Github, place: &Place, hook: u64, timeout: Duration) -> Result<Option<Delivered>, HealingError> {
    let pings = |page: Vec<Delivered>| page.into_iter().filter(|tried| tried.event == "ping");
    let before: HashSet<u64> = pings(github.deliveries(place, hook, None).await?.0).map(|tried| tried.id).collect();
    github.ping(place, hook).await?;
    let begun = Instant::now();
    loop {
        let page = github.deliveries(place, hook, None).await?.0;
        if let Some(tried) = pings(page).find(|tried| !before.contains(&tried.id)) {
            return Ok(Some(tried));
        }
        if begun.elapsed() >= timeout {
            return Ok(None);
        }
        tokio::time::sleep(LOG_EVERY).await;
    }
}

fn unanswered(place: &Place, url: &str, tried: Option<Delivered>, timeout: Duration) -> HealingError {
    let (outcome, hint) = match tried {
        None => (
            format!("is not in GitHub's log after {} s", timeout.as_secs()),
            "GitHub may be late: see githubstatus.com, then run it again, perhaps with a longer --timeout",
        ),
        Some(tried) => {
            let hint = match tried.status_code {
                Some(401) => {
                    "the receiver has another secret: give both the same GITHUB_WEBHOOK_SECRET or GITHUB_WEBHOOK_SECRET_FILE"
                }
                Some(404 | 405) => "the URL must end in /webhook, and a proxy must hand that path on unchanged",
                Some(100..) => "see the receiver's log, and what stands between GitHub and it",
                _ => {
                    "GitHub finds no receiver there: see to its name, to firewalls (GET /meta names GitHub's networks), and to a \
                     certificate of a public authority"
                }
            };
            (format!("failed: {}", tried.status), hint)
        }
    };
    HealingError::Ping { place: place.clone(), url: url.to_owned(), outcome, hint }
}
