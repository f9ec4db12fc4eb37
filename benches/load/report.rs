//! The tables. Figures are medians over the rounds, ratios the median of each round's own.

use crate::{
    contenders::Contender,
    lone::Lone,
    servers::{Round, Server},
};
use anyhow::Result;
use std::fmt::{self, Display};

/// A contender that could not be started, and why.
pub(crate) struct Absent {
    pub(crate) contender: Contender,
    pub(crate) reason: String,
}

impl Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, p50_ms, p99_ms, cpu_ms } = self;
        write!(f, "{rate:>7.0}/s  p50 {p50_ms:>7.2} ms  p99 {p99_ms:>7.2} ms  CPU {cpu_ms:>6.3} ms")
    }
}

/// The value below which so many of a hundred are.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) * percent / 100]
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

fn over(rounds: &[Round], value: fn(&Round) -> f64) -> f64 {
    median(&rounds.iter().map(value).collect::<Vec<_>>())
}

fn ratio(rounds: &[Round], others: &[Round], value: fn(&Round) -> f64) -> f64 {
    let pairs = rounds.iter().zip(others);
    median(&pairs.map(|(round, other)| value(round) / value(other)).collect::<Vec<_>>())
}

pub(crate) fn find<'a>(servers: &'a [Server], contender: &Contender) -> Option<&'a Server> {
    servers.iter().find(|server| server.contender == *contender)
}

/// How many a second it has accepted.
pub(crate) fn rate(server: &Server) -> f64 {
    over(&server.rounds, |round| round.rate)
}

pub(crate) fn table(connections: usize, servers: &[Server], absent: &[Absent]) -> Result<()> {
    let limit = find(servers, &Contender::Limit);
    let title = format!("{connections} connections");
    println!("\n{title:<20} accepted/s of limit    p50 ms    p99 ms    CPU ms  peak MiB");
    for server in servers {
        let rounds = &server.rounds;
        let of_limit = limit.map(|limit| ratio(rounds, &limit.rounds, |round| round.rate));
        println!(
            "{:<20} {:>10.0} {:>8} {:>9.2} {:>9.2} {:>9.3} {:>9.1}",
            server.contender,
            rate(server),
            of_limit.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            over(rounds, |round| round.p50_ms),
            over(rounds, |round| round.p99_ms),
            over(rounds, |round| round.cpu_ms),
            server.peak_mib()?,
        );
    }
    for Absent { contender, reason } in absent {
        println!("{contender:<20} not measured: {reason}");
    }
    Ok(())
}

/// How runhound live compares with others, and other ways to run it with it.
pub(crate) fn ratios(servers: &[Server]) {
    let Some(live) = find(servers, &Contender::Live) else {
        return;
    };
    for other in servers {
        let name = &other.contender;
        match name {
            Contender::Limit => {
                let p99 = ratio(&live.rounds, &other.rounds, |round| round.p99_ms);
                println!("runhound live over {name}: {p99:.2} times its p99");
            }
            Contender::Plan | Contender::Webhook => {
                let faster = ratio(&live.rounds, &other.rounds, |round| round.rate);
                println!("runhound live over {name}: {faster:.2} times as many accepted a second");
            }
            Contender::Database { .. } | Contender::Beside(_) | Contender::Known(_) => {
                let as_fast = ratio(&other.rounds, &live.rounds, |round| round.rate);
                println!("{name} over runhound live: {as_fast:.3} times as many accepted a second");
            }
            Contender::Live | Contender::DryRun => {}
        }
    }
}

pub(crate) fn half_load(rate: f64, connections: usize, servers: &[Server], lone: &Lone) {
    let (p50, p99) = lone.both_ms();
    println!(
        "\nhalf load: {connections} connections, {rate:.0} deliveries a second, half of what the durable limit takes; \
         latency from when each was due"
    );
    println!("{:<20} answered/s    p50 ms    p99 ms  p50/lone  p99/lone", "");
    println!("{:<20} {:>10} {p50:>9.2} {p99:>9.2} {:>9.2} {:>9.2}", "lone HMAC and sync", "-", 1.0, 1.0);
    for server in servers.iter().filter(|server| !server.paced.is_empty()) {
        let of = |value| over(&server.paced, value);
        let (own_p50, own_p99) = (of(|round| round.p50_ms), of(|round| round.p99_ms));
        println!(
            "{:<20} {:>10.0} {own_p50:>9.2} {own_p99:>9.2} {:>9.2} {:>9.2}",
            server.contender,
            of(|round| round.rate),
            own_p50 / p50,
            own_p99 / p99,
        );
    }
}
