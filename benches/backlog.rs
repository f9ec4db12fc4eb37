//! How a backlog drains: runs that waited while Datadog was away go out to an intake on loopback.
//!
//! For 10,000, 100,000 and 1,000,000 runs, each in a process of its own: how many go out a second, in how many requests,
//! how many bytes that is on the wire and before compression, and what processor time and memory it takes. Runs are of 400
//! tag sets and ended within the last 20 minutes, in the order of their acceptance, as an outage leaves them.
//!
//! `RUNHOUND_BENCH_RUNS` sets other numbers, separated by commas.

#![allow(clippy::indexing_slicing, reason = "a panic is a failed benchmark")]
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a report, of small numbers")]

#[allow(dead_code, reason = "the intake here counts, and nothing is known before")]
mod common;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context, Result, ensure};
use runhound::{
    datadog::{ApiKey, Client, Endpoint},
    delivery::{Backoff, Clock, Delivery, Step},
    ledger::{Accepted, Files, Ledger, Mode, Opened, Options, Reruns},
    metrics::Run,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const OUTAGE_S: i64 = 20 * 60;

/// So many requests are handed to the ledger before their answers are waited for.
const AT_ONCE: usize = 1_000;

fn main() -> Result<()> {
    if let Some(runs) = std::env::args().skip_while(|argument| argument != "--drain").nth(1) {
        return actix_web::rt::System::new().block_on(drain(runs.parse()?));
    }
    let sizes = std::env::var("RUNHOUND_BENCH_RUNS").unwrap_or_else(|_| "10000,100000,1000000".to_owned());
    println!("goals for 1,000,000 runs: 20,000 runs a second, 512 MB (488 MiB)\n");
    println!(
        "{:>9} {:>9} {:>9} {:>12} {:>12} {:>9} {:>12}",
        "runs", "runs/s", "requests", "wire MB", "unpacked MB", "CPU s", "peak MiB"
    );
    for runs in sizes.split(',') {
        let status = Command::new(std::env::current_exe()?).args(["--drain", runs]).status()?;
        ensure!(status.success(), "the process for {runs} runs failed");
    }
    Ok(())
}

/// What an intake has received.
#[derive(Debug, Default)]
struct Received {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// Takes everything, on loopback, in a thread of its own.
fn start_intake() -> Result<(SocketAddr, Arc<Received>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let received = Arc::new(Received::default());
    let shared = web::Data::from(Arc::clone(&received));
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let app = move || {
                let take = async |received: web::Data<Received>, _: HttpRequest, body: web::Bytes| {
                    received.requests.fetch_add(usize::from(!body.is_empty()), Relaxed);
                    received.bytes.fetch_add(body.len(), Relaxed);
                    HttpResponse::Accepted().body("{\"errors\":[]}")
                };
                App::new()
                    .app_data(web::Data::clone(&shared))
                    .app_data(web::PayloadConfig::new(1 << 20))
                    .default_service(web::to(take))
            };
            HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run().await
        })
    });
    Ok((address, received))
}

fn run(number: usize, runs: usize, now: i64) -> Result<Run> {
    let passed = i64::try_from(number * usize::try_from(OUTAGE_S)? / runs)?;
    let number = number as u64;
    common::run(number, now - OUTAGE_S + passed, Arc::new(common::tag_set(number)))
}

async fn drain(runs: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let now = jiff::Timestamp::now().as_second();
    let options = Options::new(Files::new(dir.path(), Mode::Live), Reruns::Push, now - 7_200);
    let Opened { ledger, .. } = Ledger::open(options)?;
    for first in (0..runs).step_by(AT_ONCE) {
        let mut asked = Vec::with_capacity(AT_ONCE);
        for number in first..runs.min(first + AT_ONCE) {
            let (ledger, run) = (ledger.clone(), run(number, runs, now)?);
            asked.push(actix_web::rt::spawn(async move { ledger.accept(run, now).await }));
        }
        for asked in asked {
            ensure!(asked.await?? == Accepted::New, "a run is new");
        }
    }
    let (address, received) = start_intake()?;
    let endpoint = Endpoint::new(&format!("http://{address}")).context("an address is an endpoint")?;
    let client = Client::new(endpoint, ApiKey::new("key").context("a key")?)?;
    let mut delivery = Delivery::new(ledger.clone(), Some(client), Clock::system(), Backoff::full_jitter());
    let (begun, cpu_before) = (Instant::now(), cpu_s()?);
    let mut unpacked_bytes = 0;
    loop {
        match delivery.step().await {
            Step::Idle => break,
            Step::Wait(wait) => tokio::time::sleep(wait.min(Duration::from_secs(1))).await,
            Step::Moved => {}
            Step::Pushed { payload, .. } => unpacked_bytes += payload.line().len(),
        }
    }
    let (took, cpu) = (begun.elapsed(), cpu_s()? - cpu_before);
    ensure!(delivery.totals().pushed == runs as u64 && ledger.standing().await?.pending == 0, "everything is sent");
    let mb = |bytes: usize| bytes as f64 / 1e6;
    println!(
        "{runs:>9} {:>9.0} {:>9} {:>12.3} {:>12.3} {cpu:>9.2} {:>12.1}",
        runs as f64 / took.as_secs_f64(),
        received.requests.load(Relaxed),
        mb(received.bytes.load(Relaxed)),
        mb(unpacked_bytes),
        peak_mib()?,
    );
    Ok(())
}

/// Processor time of this process so far, intake and all. Source: proc(5), `/proc/pid/stat`, in ticks of 10 ms.
fn cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(')').context("a stat has a name")?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// The most memory that this process has had. Source: proc(5), `VmHWM`, in KiB.
fn peak_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a status has VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
