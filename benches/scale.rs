//! What the program takes, and how that grows with the number of IDs it knows, each figure beside its goal.
//!
//! For 0, 1 million and 10 million IDs in `sent-workflows.json` the real program is started, live, with an intake on
//! loopback; the file was just written, so it is read from the page cache. Then one run is delivered, pushed and marked.
//! At last it is started with a million runs that another process has accepted, and drains them. `benches/backlog.rs` tells
//! what it takes where the process that has accepted them still runs.
//!
//! How to read it:
//!
//! - The start lasts until the line `listening on` is written, and is the median of three.
//! - Resident memory is `VmRSS`, two seconds after that, and the peak so far is `VmHWM`, of `/proc/PID/status`.
//! - Bytes written are `wchar` of `/proc/PID/io`: what was handed to `write` and its like. That is the journal's records of
//!   the run and its batch, the mark, lines of the log, and 8 bytes for each time that a thread wakes another; they are told
//!   apart by how much the files have grown. `write_bytes` counts the same files in whole pages.
//! - Processor time at rest is the sum over all threads of `/proc/PID/task/*/schedstat`, in nanoseconds.
//!
//! Variables: `RUNHOUND_BENCH_IDS` (0,1000000,10000000), `RUNHOUND_BENCH_SECONDS` (30, at rest), `RUNHOUND_BENCH_RUNS`
//! (1000000), `RUNHOUND_BENCH_DIR` (a directory on the disk to measure; else below cargo's target directory).

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a report, of small numbers")]
#![allow(clippy::indexing_slicing, reason = "a panic is a failed benchmark")]

mod common;
#[path = "common/outage.rs"]
mod outage;
#[path = "common/program.rs"]
mod program;

use anyhow::{Context, Result, ensure};
use common::FIRST_ID;
use program::{PATIENCE, PROGRAM, Program, number};
use runhound::ledger::{Files, Mode};
use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const STARTS: usize = 3;
const REST: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    // Cargo says so; a test of all targets does not, and has better things to do.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let setting = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let ids = setting("RUNHOUND_BENCH_IDS", "0,1000000,10000000");
    let seconds = setting("RUNHOUND_BENCH_SECONDS", "30").parse()?;
    let runs = setting("RUNHOUND_BENCH_RUNS", "1000000").parse()?;
    let parent = setting("RUNHOUND_BENCH_DIR", env!("CARGO_TARGET_TMPDIR"));
    let parent = Path::new(&parent);
    let intake = common::start_intake()?;
    row("", "measured", "goal");
    row("release binary", &mb(fs::metadata(PROGRAM)?.len()), "12 MB");
    for ids in ids.split(',').map(str::parse) {
        measure(ids?, parent, intake, Duration::from_secs(seconds))?;
    }
    drain(runs, parent, intake)
}

fn row(what: &str, measured: &str, goal: &str) {
    println!("{what:<64} {measured:>12} {goal:>10}");
}

fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn measure(ids: u64, parent: &Path, intake: SocketAddr, at_rest: Duration) -> Result<()> {
    let (start_goal, memory_goal) = match ids {
        0 => ("", "16 MB"),
        1_000_000 => ("0.5 s", "64 MB"),
        10_000_000 => ("5 s", "400 MB"),
        _ => ("", ""),
    };
    let dir = tempfile::tempdir_in(parent)?;
    let files = Files::new(dir.path(), Mode::Live);
    common::write_cache(&files.cache, FIRST_ID..FIRST_ID + ids)?;
    let mut starts = Vec::new();
    for _ in 1..STARTS {
        starts.push(Program::start(dir.path(), None, intake)?.started_in);
    }
    let program = Program::start(dir.path(), None, intake)?;
    starts.push(program.started_in);
    starts.sort_unstable();
    row(&format!("{ids} IDs: start"), &format!("{:.3} s", starts[STARTS / 2].as_secs_f64()), start_goal);
    thread::sleep(REST);
    row(&format!("{ids} IDs: resident memory"), &mb(program.status("VmRSS:")?), memory_goal);
    row(&format!("{ids} IDs: peak of resident memory"), &mb(program.status("VmHWM:")?), "");
    if ids == 0 {
        let before = cpu_ns(&program)?;
        thread::sleep(at_rest);
        let cpu_ms = (cpu_ns(&program)? - before) as f64 / 1e6;
        row(&format!("processor time in {at_rest:?} at rest"), &format!("{cpu_ms:.1} ms"), "none");
    }
    // The first one brings what is done once: a connection, Datadog's time, a page for the file's end.
    deliver(&program, FIRST_ID + ids, &files)?;
    let (written_before, lens_before) = (written(&program)?, lens(&files)?);
    program.log.try_iter().for_each(drop);
    deliver(&program, FIRST_ID + ids + 1, &files)?;
    let (written, lens) = (written(&program)?, lens(&files)?);
    let logged: usize = program.log.try_iter().map(|line| line.len() + 1).sum();
    let all = written.bytes - written_before.bytes;
    let (cache, journal) = (lens.0 - lens_before.0, lens.1 - lens_before.1);
    // The closing brackets are written anew with each mark.
    let mark = cache + "\n  ]\n}".len() as u64;
    row(&format!("{ids} IDs: bytes written to mark one more"), &format!("{mark} B"), "1 kB");
    row("    with its records in the journal", &format!("{} B", mark + journal), "");
    row(&format!("    and with {logged} B of log and all else (wchar)"), &format!("{all} B"), "");
    row("    in pages of files (write_bytes)", &format!("{} B", written.in_pages - written_before.in_pages), "");
    Ok(())
}

/// Accepts runs, as an outage leaves them, in this process, and lets the program drain them.
fn drain(runs: u64, parent: &Path, intake: SocketAddr) -> Result<()> {
    let dir = tempfile::tempdir_in(parent)?;
    let files = Files::new(dir.path(), Mode::Live);
    outage::accept(&files, None, runs)?;
    let program = Program::start(dir.path(), None, intake)?;
    let since = Instant::now();
    row(&format!("{runs} runs pending: start"), &format!("{:.3} s", program.started_in.as_secs_f64()), "");
    row(&format!("{runs} runs pending: peak of resident memory"), &mb(program.status("VmHWM:")?), "512 MB");
    let id_bytes = format!(",\n    \"{FIRST_ID}\"").len() as u64;
    while fs::metadata(&files.cache)?.len() < runs * id_bytes {
        ensure!(since.elapsed() < 10 * PATIENCE, "the backlog does not drain");
        thread::sleep(Duration::from_millis(5));
    }
    let rate = runs as f64 / since.elapsed().as_secs_f64();
    row(&format!("{runs} runs pending: drained"), &format!("{rate:.0} /s"), "20,000 /s");
    row(&format!("{runs} runs pending: peak when they are drained"), &mb(program.status("VmHWM:")?), "512 MB");
    Ok(())
}

/// How long cache and journal are.
fn lens(files: &Files) -> Result<(u64, u64)> {
    Ok((fs::metadata(&files.cache)?.len(), fs::metadata(&files.journal)?.len()))
}

/// What a process has written so far.
struct Written {
    bytes: u64,
    in_pages: u64,
}

fn written(program: &Program) -> Result<Written> {
    let io = program.proc("io")?;
    Ok(Written { bytes: number(&io, "wchar:")?, in_pages: number(&io, "write_bytes:")? })
}

fn cpu_ns(program: &Program) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{}/task", program.child.id()))? {
        let times = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += times.split(' ').next().context("a time")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// Delivers a run, and waits until it is marked and all is at rest.
fn deliver(program: &Program, id: u64, files: &Files) -> Result<()> {
    let before = fs::metadata(&files.cache)?.len();
    let mut payload = common::payload()?;
    payload["workflow_run"]["id"] = id.into();
    program::deliver(program.address, &payload, PATIENCE)?;
    let since = Instant::now();
    while fs::metadata(&files.cache)?.len() == before {
        ensure!(since.elapsed() < PATIENCE, "the run is not marked");
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(REST);
    Ok(())
}
