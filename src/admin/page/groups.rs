//! What is told in groups of names and numbers.

use super::{Fact, Group};
use crate::{
    admin::{
        Leadership, Reason,
        facts::Facts,
        words::{Text, Time, grouped},
    },
    datadog::Verdict,
    vitals::{Outcome, Recovery},
};

/// Everything that is counted since the start.
pub(super) fn groups(facts: &Facts) -> Vec<Group> {
    let delivered =
        |outcome: Outcome, name, look| Fact::of(name, facts.deliveries.get(outcome.name()).copied().unwrap_or(0), look);
    let deliveries = vec![
        delivered(Outcome::Accepted, "accepted", ""),
        delivered(Outcome::Duplicate, "duplicate", ""),
        delivered(Outcome::Ignored, "ignored", ""),
        delivered(Outcome::NotSigned, "not signed", "warn"),
        delivered(Outcome::Malformed, "malformed", "warn"),
        delivered(Outcome::Unavailable, "answered 503", "bad"),
    ];
    let mut runs = vec![
        Fact::of(if facts.target.is_some() { "pushed" } else { "logged" }, facts.runs.pushed, ""),
        Fact::of("at another second", facts.runs.restamped, ""),
        Fact::of("odd times", facts.runs.odd_times, ""),
        Fact::of("in doubt", facts.runs.in_doubt, "warn"),
        Fact::of("rejected", facts.runs.rejected, "bad"),
    ];
    runs.extend(facts.known_ids.map(|known| Fact::of("IDs known", known as u64, "")));
    let verdict = |name: &'static str| {
        let number = facts.pushes.get(name).copied().filter(|number| *number > 0 || name == "taken");
        let look = if name == "taken" { "" } else { "warn" };
        number.map(|number| Fact::of(if name == "too_large" { "too large" } else { name }, number, look))
    };
    let mut pushes: Vec<Fact> = Verdict::NAMES.into_iter().filter_map(verdict).collect();
    pushes.push(Fact::of("points taken", facts.points, ""));
    if let Some(apart) = facts.clock_apart_seconds {
        let is_apart = facts.troubles.iter().any(|trouble| trouble.reason == Reason::ClockApart);
        pushes.push(Fact::new("clock ahead of ours", format!("{apart} s")).looks(if is_apart { "warn" } else { "" }));
    }
    let mut groups = vec![Group { name: "Deliveries", facts: deliveries }, Group { name: "Runs", facts: runs }];
    if facts.target.is_some() {
        groups.push(Group { name: "Pushes", facts: pushes });
    }
    groups.extend(
        facts
            .leadership
            .as_ref()
            .map(|leadership| Group { name: "Leadership", facts: led(leadership, facts.pending.is_some(), facts.now) }),
    );
    groups.extend(
        facts.recovery.as_ref().map(|recovery| Group { name: "Recovery", facts: recovered(recovery, facts.now) }),
    );
    groups
}

/// What was found in GitHub's delivery logs.
fn recovered(recovery: &Recovery, now: jiff::Timestamp) -> Vec<Fact> {
    let look = if recovery.failing_since.is_some() { "warn" } else { "" };
    let mut facts = vec![
        Fact::last("last sweep", recovery.last_sweep_at.map(|at| Time::new(at, now))).looks(look),
        Fact::of("holes found", recovery.holes_found, "warn"),
        Fact::of("holes filled", recovery.holes_filled, ""),
    ];
    let waiting = recovery.waiting_until.filter(|until| *until > now);
    facts.extend(waiting.map(|until| {
        Fact::new("rate limit reached", format!("until {}", until.strftime("%H:%M:%S UTC"))).looks("warn")
    }));
    facts.extend(recovery.requests_remaining.map(|left| Fact::new("requests left at GitHub", grouped(left))));
    facts
}

/// Which replica delivers.
fn led(leadership: &Leadership, is_known: bool, now: jiff::Timestamp) -> Vec<Fact> {
    let leader = match &leadership.leader {
        _ if leadership.leads => Fact::new("delivers", "this replica"),
        None if is_known => Fact::new("delivers", "nobody").looks("bad"),
        None => Fact::new("delivers", "unknown").looks("bad"),
        Some(leader) => Fact::new("delivers", Text::new(leader).shown),
    };
    vec![leader, Fact::last("since", leadership.since.map(|since| Time::new(since, now)))]
}
