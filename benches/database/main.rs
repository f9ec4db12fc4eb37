//! What a ledger in PostgreSQL costs, beside one in files, and how that grows with what was ever sent.
//!
//! The benchmark starts a PostgreSQL of its own, on a socket, with the settings that it comes with. Four parts:
//!
//! - `more`: what one more run costs where 10 thousand and where 10 million are known, in the database and in files. Keys are
//!   spread over 13 monthly partitions. All four ledgers are open in this process, and take turns; each figure is the
//!   median, with how the one over the other was at the median of rounds. A round trip is a run that is accepted, pushed to an
//!   intake on loopback, and marked.
//! - `backlog`: runs that wait at a start, as an outage of 20 minutes leaves them, drain through the real program: how many a
//!   second, and its peak of memory. With three replicas on one database, one of them drains.
//! - `copy`: `ledger import` and `ledger export`, how large the database is then, and a start with as many known.
//! - `change`: three replicas under steady load, each with an intake of its own. The one that leads is killed, stopped, or held
//!   where it is: how long it is from the last push that its intake saw to the first that another one's did.
//!
//! Variables: `RUNHOUND_BENCH_ONLY` chooses among `more,backlog,copy,change`. `RUNHOUND_BENCH_KNOWN` (10000,10000000),
//! `RUNHOUND_BENCH_ROUNDS` (30, of `more`), `RUNHOUND_BENCH_RUNS` (200000, of the backlog), `RUNHOUND_BENCH_IDS` (1000000, that
//! are copied), `RUNHOUND_BENCH_CHANGES` (5, of each kind), `RUNHOUND_BENCH_DIR` (a directory on the disk to measure, which the
//! server's account must be able to reach; else below cargo's target directory).

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a report, of small numbers")]
#![allow(clippy::indexing_slicing, reason = "a panic is a failed benchmark")]

mod backlog;
mod change;
#[path = "../common/cluster.rs"]
#[allow(dead_code, reason = "no crash here, and no standby")]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod copy;
mod more;
#[path = "../common/outage.rs"]
mod outage;
#[path = "../common/program.rs"]
mod program;

use anyhow::{Context, Result, anyhow, ensure};
use cluster::Cluster;
use runhound::ledger::{Database, Mode};
use std::{env, path::Path, str::FromStr};

const PARTS: [&str; 4] = ["more", "backlog", "copy", "change"];

/// Longer than anything here is old.
const RETENTION_DAYS: u16 = 400;

fn main() -> Result<()> {
    // Cargo says so; a test of all targets does not, and has better things to do.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let only = env::var("RUNHOUND_BENCH_ONLY").unwrap_or_else(|_| PARTS.join(","));
    let only: Vec<&str> = only.split(',').map(str::trim).collect();
    ensure!(only.iter().all(|part| PARTS.contains(part)), "RUNHOUND_BENCH_ONLY: choose among {}", PARTS.join(","));
    let parent = env::var("RUNHOUND_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let parent = Path::new(&parent);
    // Each part has a server of its own, on which nothing went before.
    for part in only {
        let cluster = match Cluster::start(parent) {
            Ok(cluster) => cluster,
            Err(error) => {
                println!("not measured: {error:#}");
                return Ok(());
            }
        };
        match part {
            "more" => {
                more::measure(
                    &cluster,
                    parent,
                    &numbers("RUNHOUND_BENCH_KNOWN", "10000,10000000")?,
                    number("ROUNDS", 30)?,
                )?;
            }
            "backlog" => backlog::measure(&cluster, parent, number("RUNS", 200_000)?)?,
            "copy" => copy::measure(&cluster, parent, number("IDS", 1_000_000)?)?,
            _ => change::measure(&cluster, parent, number("CHANGES", 5)?)?,
        }
    }
    Ok(())
}

fn numbers(name: &str, default: &str) -> Result<Vec<u64>> {
    let text = env::var(name).unwrap_or_else(|_| default.to_owned());
    let numbers = text.split(',').map(|number| u64::from_str(number.trim())).collect::<Result<_, _>>();
    numbers.with_context(|| name.to_owned())
}

fn number(name: &str, default: u64) -> Result<u64> {
    let numbers = numbers(&format!("RUNHOUND_BENCH_{name}"), &default.to_string())?;
    numbers.first().copied().context("no number")
}

/// A new database of the cluster, as its ledger's URL.
fn new_database(cluster: &Cluster, name: &str) -> Result<String> {
    cluster.session("postgres")?.ask(&format!("create database {name}"))?;
    Ok(cluster.url(name))
}

fn ledger_of(url: &str) -> Result<Database> {
    Database::new(url, Mode::Live, None, None, RETENTION_DAYS).map_err(|error| anyhow!("{url}: {error}"))
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}
