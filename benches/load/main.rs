//! The load benchmark: how many deliveries a second are accepted, each of them signed, distinct, 20 KB long, and on
//! disk before its answer; how near that comes to what this machine allows at all, and what others make of the same
//! machine.
//!
//! Contenders, each a process of its own, are loaded in turn over loopback, round by round, in a rotating order, for
//! each number of connections anew:
//!
//! - `durable limit`: actix-web with as many workers, which reads the body, verifies the signature, reads two fields,
//!   and has one thread append a line as long as ours and sync it together with those of whoever waits at the same
//!   moment. It drops no duplicate, keeps no state, logs and pushes nothing.
//! - `runhound live`: the real binary, pushing all the while to an intake in this process that takes everything.
//! - `runhound dry run`: the same with `--dry-run`, which writes its payloads to a file.
//! - `live, PostgreSQL`: the same with `--ledger` in a PostgreSQL that the benchmark starts, on a socket, with the settings it
//!   comes with. `3 live, PostgreSQL`: three replicas on one database, the connections spread over them. `live, standby` and
//!   `3 live, standby`: the same, each commit on a synchronous standby too, which is on the same machine and the same disk.
//! - `the plan on Node`: `plan/server.mjs`, the program of the original plan. It does less: it syncs nothing, so its
//!   answers survive a kill but no power failure, and two deliveries of one run at the same moment are both pushed. It
//!   has pushed before it answers, and reads and writes its whole file for each delivery, so it slows down from round
//!   to round.
//! - `webhook`: the program of Debian's package of that name, which verifies the signature and runs a shell that
//!   appends the run's ID and syncs it. It does less: it drops no duplicate, and pushes nothing.
//! - `beside live` and `live, … known`: see the variables below.
//!
//! How to read a table: all columns but the peak are medians over the rounds. `of limit` is the median of each round's
//! own ratio, and says more than the rate: the disk, and whatever else the machine does, touch all alike. The rates
//! hold for a machine that also carries the client and the intake. CPU time, a delivery, is the server's own and that
//! of what it starts, user and system, until it has come to rest after a round, so the pushes are in it; that of a database
//! counts too. The peak is of its own memory alone; of replicas, that of the one that has most. Latency is as the client sees it: with a fixed number of connections it is little else than
//! that number divided by the rate. The warm-up also tells how many deliveries a round needs: they are signed before it
//! begins.
//!
//! Hence a second table, at half load: on 64 connections, with deliveries that are due at fixed times, half as many a
//! second as the durable limit took. Latency counts from when a delivery was due, so that a stall shows in all that it
//! holds up. It stands beside the time that one hash and one sync take by themselves, measured between its rounds; what
//! the limit takes longer than those is HTTP, the client, and its timer, which Linux lets be 0.05 ms late.
//!
//! At the end each server is killed without warning, its database then too, and what files or database hold must be just what
//! it has answered 202 for.
//! Any other answer, and any difference there, makes the benchmark fail.
//!
//! Variables: `RUNHOUND_BENCH_ROUNDS` (3), `RUNHOUND_BENCH_SECONDS` (2, a round), `RUNHOUND_BENCH_CONNECTIONS`
//! (`1,16,64,256`), `RUNHOUND_BENCH_DIR` (a directory on the disk to measure; else below cargo's target directory).
//! `RUNHOUND_BENCH_ONLY` chooses among `limit,live,dry,database,replicas,standby,standby-replicas,beside,known,plan,webhook`;
//! those with a standby run only if they are named. `RUNHOUND_BENCH_BESIDE` is the path
//! of another build of runhound, to be measured live beside this one; `RUNHOUND_BENCH_KNOWN` starts one more on a cache
//! that holds so many IDs already. `RUST_LOG` reaches runhound, whose log goes to a file; without it it logs as in
//! service, a line for each delivery. The line that it starts with must stay: `warn,runhound::serve=info` tells what
//! the others cost.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a report, and a start line to be read by its parent")]
#![allow(clippy::indexing_slicing, reason = "a panic is a failed benchmark")]
#![allow(clippy::cast_precision_loss, reason = "counts and times far below 2^53")]

mod client;
#[path = "../common/cluster.rs"]
mod cluster;
mod contenders;
mod intake;
mod limit;
mod lone;
mod orders;
mod process;
mod report;
mod servers;
mod settings;
mod tools;

use anyhow::{Context, Result};
use client::Pace;
use contenders::Contender;
use hmac::{Hmac, KeyInit};
use lone::Lone;
use report::Absent;
use servers::Server;
use settings::Settings;
use sha2::Sha256;
use std::{env, path::Path, thread, time::Duration};

const SECRET: &str = "the benchmark's own secret";
const BODY_BYTES: usize = 20_480;
const LINE_BYTES: usize = 300;

/// IDs count up from here: all have as many digits, so that one can take the place of another.
const FIRST_ID: u64 = 20_000_000_000;

const PATIENCE: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_secs(1);

/// At so many connections contenders are also compared with each other, and measured at half load.
const COMPARED_AT: usize = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [mode, dir] if mode == "--limit-server" => limit::serve(Path::new(dir)),
        // Cargo says so; a test of all targets does not, and has better things to do.
        arguments if arguments.iter().any(|argument| argument == "--bench") => run(&Settings::read()?),
        _ => {
            println!("run it by `cargo bench --bench load`");
            Ok(())
        }
    }
}

fn secret() -> Hmac<Sha256> {
    Hmac::new_from_slice(SECRET.as_bytes()).unwrap_or_else(|error| unreachable!("a key of any length will do: {error}"))
}

fn run(settings: &Settings) -> Result<()> {
    let Settings { rounds, length, dir, .. } = settings;
    let mut lone = Lone::new(dir)?;
    lone.measure()?;
    let ((p50, p99), hash) = (lone.sync_ms(), lone.hash_ms());
    println!(
        "bodies of {BODY_BYTES} B, {rounds} rounds of {length:?}, {} processors",
        thread::available_parallelism()?
    );
    println!(
        "a lone fdatasync takes {p50:.3} ms (median), {p99:.3} ms (p99); the HMAC of a body {hash:.3} ms (median)"
    );
    settings.connections.iter().try_for_each(|connections| compare(settings, *connections))
}

fn compare(settings: &Settings, connections: usize) -> Result<()> {
    let (mut servers, absent) = start(settings)?;
    // The warm-up is round 0.
    for number in 0..=settings.rounds {
        for turn in 0..servers.len() {
            let turn = (number + turn) % servers.len();
            let server = &mut servers[turn];
            let length = if number == 0 { settings.length.min(WARM_UP) } else { settings.length };
            let round = server.round(connections, Pace::Closed, length)?;
            eprintln!("{connections:>3} connections, round {number}  {:<20} {round}", server.contender);
            if number > 0 {
                server.rounds.push(round);
            }
        }
    }
    report::table(connections, &servers, &absent)?;
    if connections == COMPARED_AT {
        report::ratios(&servers);
        half_load(settings, &mut servers)?;
    }
    println!();
    servers.into_iter().try_for_each(Server::check)
}

/// Those that can be started. Ours must be.
fn start(settings: &Settings) -> Result<(Vec<Server>, Vec<Absent>)> {
    let (mut servers, mut absent) = (Vec::new(), Vec::new());
    for contender in &settings.contenders {
        match Server::start(contender, &settings.dir) {
            Ok(server) => servers.push(server),
            Err(error) if contender.is_ours() => return Err(error).with_context(|| contender.to_string()),
            Err(error) => {
                let reason = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
                absent.push(Absent { contender: contender.clone(), reason });
            }
        }
    }
    Ok((servers, absent))
}

fn half_load(settings: &Settings, servers: &mut [Server]) -> Result<()> {
    let Some(limit) = report::find(servers, &Contender::Limit) else {
        println!("\nhalf load: not measured without the durable limit");
        return Ok(());
    };
    let rate = report::rate(limit) / 2.0;
    let mut lone = Lone::new(&settings.dir)?;
    for number in 0..settings.rounds {
        lone.measure()?;
        for turn in 0..servers.len() {
            let turn = (number + turn) % servers.len();
            let server = &mut servers[turn];
            if server.contender.is_paced() {
                let round = server.round(COMPARED_AT, Pace::PerSecond(rate), settings.length)?;
                eprintln!("half load, round {number}  {:<20} {round}", server.contender);
                server.paced.push(round);
            }
        }
    }
    report::half_load(rate, COMPARED_AT, servers, &lone);
    Ok(())
}
