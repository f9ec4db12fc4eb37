//! Completions that GitHub has failed to deliver, by the log that it keeps of each webhook.
//!
//! Invariant: what a try came to is told by its status alone being `OK` or not, never by its code, which a try without a
//! connection does not have. An event is missing while no try to deliver it was `OK`.

mod sweep;

use crate::{
    event::{Detail, Recorded},
    github::{Delivered, Github, GithubError, Hook, Place},
    inlet::InletError,
};
use std::collections::HashSet;

pub(crate) use sweep::Sweeper;

/// They cannot be looked for, or not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum HolesError {
    /// GitHub does not tell.
    #[error(transparent)]
    Github(#[from] GithubError),
    /// The receiver does not take them.
    #[error(transparent)]
    Receiver(#[from] InletError),
    /// There is no webhook that brings runs.
    #[error("{place} has no webhook for {}{}", detail.events().join(" or "), hook.map(|id| format!(" with the ID {id}")).unwrap_or_default())]
    NoHook {
        /// Where it was looked for.
        place: Place,
        /// The one that was asked for.
        hook: Option<u64>,
        /// What it would have to bring.
        detail: Detail,
    },
}

impl HolesError {
    /// What to do about it, where something can be said.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Github(error) => error.hint(),
            Self::Receiver(error) => return error.hint(),
            Self::NoHook { hook: Some(_), .. } => {
                "leave out --hook, or see its number in the webhook's address on GitHub"
            }
            Self::NoHook { .. } => {
                "`runhound register` makes one; a webhook of the organization is found by --organization"
            }
        })
    }
}

/// A completion that was not delivered.
#[derive(Debug, Clone)]
pub(crate) struct Hole {
    pub(crate) place: Place,
    pub(crate) hook: u64,
    /// The last try.
    pub(crate) last: Delivered,
}

impl Hole {
    /// What it is called in a summary.
    pub(crate) fn what(&self) -> String {
        let Delivered { guid, delivered_at, status, .. } = &self.last;
        format!("delivery {guid} of {delivered_at} ({status})")
    }
}

/// The webhooks of a place that bring what is counted.
pub(crate) async fn hooks(
    github: &Github,
    place: &Place,
    wanted: Option<u64>,
    detail: Detail,
) -> Result<Vec<Hook>, HolesError> {
    let hooks = github.hooks(place).await?.into_iter();
    let brings = |hook: &Hook| detail.events().iter().any(|event| hook.is_for(event));
    let is_wanted = |hook: &Hook| wanted.map_or(brings(hook), |id| hook.id == id);
    let hooks: Vec<Hook> = hooks.filter(is_wanted).collect();
    if hooks.is_empty() {
        return Err(HolesError::NoHook { place: place.clone(), hook: wanted, detail });
    }
    Ok(hooks)
}

/// Warns of events that none of these webhooks brings: another place's may.
pub(crate) fn tell_unheard(place: &Place, hooks: &[Hook], detail: Detail) {
    for event in detail.events().iter().filter(|event| !hooks.iter().any(|hook| hook.is_for(event))) {
        log::warn!("{place}: no webhook delivers {event} here");
    }
}

/// The completions in a webhook's log since a second that no try has delivered, the oldest first; with `all`, those too that
/// were. `looked_at` is told of each try.
pub(crate) async fn holes(
    github: &Github,
    place: &Place,
    hook: u64,
    since: i64,
    (detail, all): (Detail, bool),
    looked_at: impl Fn(),
) -> Result<Vec<Hole>, HolesError> {
    let mut last: Vec<Delivered> = Vec::new();
    let (mut seen, mut delivered) = (HashSet::new(), HashSet::new());
    let take = |tried: Delivered| {
        if tried.delivered_at.as_second() < since {
            return;
        }
        looked_at();
        if !detail.takes(&tried.event) || tried.action.as_deref().is_some_and(|action| action != "completed") {
            return;
        }
        if tried.is_ok() {
            delivered.insert(tried.guid.clone());
        }
        if (all || !delivered.contains(&tried.guid)) && seen.insert(tried.guid.clone()) {
            last.push(tried);
        }
    };
    each_try(github, place, hook, since, take).await?;
    last.retain(|tried| all || !delivered.contains(&tried.guid));
    last.reverse();
    Ok(last.into_iter().map(|last| Hole { place: place.clone(), hook, last }).collect())
}

/// Hands out the tries in a webhook's log, the newest first, page by page down to one that reaches before a second.
pub(crate) async fn each_try(
    github: &Github,
    place: &Place,
    hook: u64,
    since: i64,
    mut take: impl FnMut(Delivered),
) -> Result<(), GithubError> {
    let mut path = None;
    loop {
        let (page, next) = github.deliveries(place, hook, path).await?;
        let is_over = page.last().is_none_or(|oldest| oldest.delivered_at.as_second() < since);
        page.into_iter().for_each(&mut take);
        path = next;
        if is_over || path.is_none() {
            return Ok(());
        }
    }
}

/// What GitHub sent, or tried to send.
pub(crate) async fn recorded(github: &Github, hole: &Hole) -> Result<Recorded, GithubError> {
    let text = github.delivery(&hole.place, hole.hook, hole.last.id).await?;
    let odd = |cause: &str| GithubError::Unexpected { what: hole.what(), cause: cause.to_owned() };
    let recorded = Recorded::read(&text).map_err(|_| odd("GitHub's record of it is not JSON"))?;
    if recorded.payload == "null" { Err(odd("GitHub has kept no payload of it")) } else { Ok(recorded) }
}

/// How many requests in a row may come to nothing before the rest is left.
const SILENT_MAX: u32 = 3;

/// How much is borne before the rest is left: one thing that is at fault keeps no other from being done.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    silent: u32,
}

impl Patience {
    /// Something was done.
    pub(crate) fn renew(&mut self) {
        self.silent = 0;
    }

    /// Whether the rest can be done in spite of this.
    pub(crate) fn bears(&mut self, error: &GithubError) -> bool {
        match error {
            GithubError::NoAnswer { .. } => self.bears_silence(),
            error => is_of_one(error),
        }
    }

    /// Whether one more request that came to nothing is borne.
    pub(crate) fn bears_silence(&mut self) -> bool {
        self.silent += 1;
        self.silent < SILENT_MAX
    }
}

/// Whether this one thing is at fault, and the rest can be done without it.
pub(crate) fn is_of_one(error: &GithubError) -> bool {
    matches!(error, GithubError::NotFound { .. } | GithubError::Invalid { .. } | GithubError::Unexpected { .. })
}
