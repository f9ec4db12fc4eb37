//! What each step of a delivery costs by itself, and how that grows with the size of what it works on.
//!
//! All of it goes through the library as other programs can use it: the journal's cost is that of `Ledger::accept` with its
//! thread, and compression that of a push, with its request over loopback. What ends in a sync (`ledger`, `mark as sent`)
//! measures the disk that `RUNHOUND_BENCH_DIR` names, or that cargo's target directory is on.
//!
//! A text chooses among the benchmarks, as in `cargo bench --bench micro -- parse`.

#![allow(clippy::indexing_slicing, reason = "a panic is a failed benchmark")]

mod common;

use actix_web::rt::System;
use anyhow::{Context, Result, anyhow, bail, ensure};
use common::{FIRST_ID, TAG_SETS};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use futures_util::future::join_all;
use globset::GlobSet;
use runhound::{
    WorkflowCache,
    datadog::{ApiKey, Client, Endpoint, Intake, Verdict},
    event::{self, Completed, Detail, Event},
    ledger::{Accepted, Files, Ledger, Mode, Opened, Options, Reruns},
    metrics::{self, DEFAULT_PREFIX, Run, Slot, TagSet, Tagging},
    signature::{Secret, Signature},
};
use std::{collections::BTreeMap, env, hint::black_box, sync::Arc, time::Duration};
use tempfile::TempDir;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const OUTAGE_S: u64 = 20 * 60;

fn main() -> Result<()> {
    // Cargo says so; a test of all targets does not, and has better things to do.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    signatures(&mut criterion)?;
    events(&mut criterion)?;
    ledger(&mut criterion)?;
    cache(&mut criterion)?;
    payloads(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn dir() -> Result<TempDir> {
    let parent = env::var("RUNHOUND_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    Ok(tempfile::tempdir_in(parent)?)
}

fn size(bytes: usize) -> String {
    if bytes < MIB { format!("{} KiB", bytes / KIB) } else { format!("{} MiB", bytes / MIB) }
}

fn signatures(criterion: &mut Criterion) -> Result<()> {
    let secret = Secret::new(b"the benchmark's own secret").context("a secret")?;
    let mut group = criterion.benchmark_group("verify signature");
    for bytes in [KIB, 20 * KIB, MIB, 25 * MIB] {
        let body = vec![b'x'; bytes];
        let signature = Signature::parse(secret.sign(&body).as_bytes()).context("a signature")?;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(size(bytes), |bencher| {
            bencher.iter(|| assert!(secret.verifies(black_box(&body), &signature)));
        });
    }
    group.finish();
    Ok(())
}

/// A real payload, padded by its commit's message, which GitHub does not cut.
fn body(bytes: usize) -> Result<Vec<u8>> {
    let mut payload = common::payload()?;
    let missing = bytes.saturating_sub(payload.to_string().len());
    let message = &mut payload["workflow_run"]["head_commit"]["message"];
    *message = format!("{}{}", message.as_str().unwrap_or_default(), ".".repeat(missing)).into();
    Ok(payload.to_string().into_bytes())
}

fn completed(body: &[u8]) -> Result<Box<Completed>> {
    match event::parse(Some("workflow_run"), body, Detail::Runs)? {
        Event::Completed(run) => Ok(run),
        other => bail!("no completed run, but {other:?}"),
    }
}

fn events(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("parse event");
    for bytes in [20 * KIB, MIB] {
        let body = body(bytes)?;
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(size(bytes), |bencher| bencher.iter(|| completed(black_box(&body))));
    }
    group.finish();
    let run = completed(&body(20 * KIB)?)?;
    let tagging = Tagging {
        prefix: DEFAULT_PREFIX.to_owned(),
        branches: GlobSet::empty(),
        detail: Detail::Runs,
        fold_matrix: true,
        extra: Vec::new(),
        constant: vec!["env:production".to_owned(), "team:platform".to_owned()],
    };
    criterion.bench_function("tags of a run", |bencher| bencher.iter(|| tagging.run(black_box(&run), 0)));
    Ok(())
}

/// Runs handed in at one moment: the first of them has a sync to itself, the others meanwhile wait and share the next.
fn ledger(criterion: &mut Criterion) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let now = jiff::Timestamp::now().as_second();
    let mut group = criterion.benchmark_group("ledger, accept at one moment");
    for size in [1, 16, 64, 256] {
        let dir = dir()?;
        let options = Options::new(Files::new(dir.path(), Mode::Live), Reruns::Push, now);
        let Opened { ledger, owner, .. } = Ledger::open(options)?;
        let mut numbers = 0..;
        let mut runs = || -> Result<Vec<Run>> {
            let numbers = numbers.by_ref().take(size);
            numbers.map(|number| common::run(number, now, Arc::new(common::tag_set(number)))).collect()
        };
        let accept = |runs: Result<Vec<Run>>| {
            let asked = runs?.into_iter().map(|run| ledger.accept(run, now));
            let answers = runtime.block_on(join_all(asked));
            ensure!(answers.iter().all(|answer| matches!(answer, Ok(Accepted::New))), "a run is new");
            Ok(())
        };
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_batched(&mut runs, |runs| accept(runs).expect("a ledger"), BatchSize::PerIteration);
        });
        drop(ledger);
        owner.join().map_err(|_| anyhow!("the ledger has failed"))?;
    }
    group.finish();
    Ok(())
}

fn cache(criterion: &mut Criterion) -> Result<()> {
    for ids in [0, 10_000, 1_000_000, 10_000_000] {
        let dir = dir()?;
        let path = dir.path().join("sent-workflows.json");
        common::write_cache(&path, FIRST_ID..FIRST_ID + ids)?;
        let mut cache = WorkflowCache::new(&path)?;
        // Every other one is there, and none is near the one before it.
        let asked: Vec<String> =
            (0..1 << 20).map(|number| (FIRST_ID + number * 7_919_999 % (2 * ids).max(1)).to_string()).collect();
        let mut asked = asked.iter().cycle();
        criterion.bench_function(&format!("cache, look-up/{ids} IDs"), |bencher| {
            bencher.iter(|| cache.has_been_sent(black_box(asked.next().map_or("", String::as_str))));
        });
        let mut new = FIRST_ID + 2 * ids..;
        criterion.bench_function(&format!("cache, mark as sent/{ids} IDs"), |bencher| {
            bencher.iter_batched(
                || new.next().unwrap_or_default().to_string(),
                |id| cache.mark_as_sent(&[id]).expect("a disk"),
                BatchSize::PerIteration,
            );
        });
    }
    Ok(())
}

/// Slots of so many runs as an outage leaves them, those of one tag set together. A batch of the service ends at 500 kB,
/// which 10,000 runs pass.
fn slots(runs: u64, now: u64) -> Result<Vec<Slot>> {
    let tag_sets: Vec<Arc<TagSet>> = (0..TAG_SETS).map(|number| Arc::new(common::tag_set(number))).collect();
    let mut slots: BTreeMap<(Arc<TagSet>, i64), Vec<Arc<Run>>> = BTreeMap::new();
    for number in 0..runs {
        let tag_set = &tag_sets[usize::try_from(number % TAG_SETS)?];
        let second = i64::try_from(now - OUTAGE_S + number * OUTAGE_S / runs)?;
        let run = Arc::new(common::run(number, second, Arc::clone(tag_set))?);
        slots.entry((Arc::clone(tag_set), second)).or_default().push(run);
    }
    Ok(slots.into_iter().map(|((_, second), runs)| Slot { second, runs }).collect())
}

fn payloads(criterion: &mut Criterion) -> Result<()> {
    let endpoint = Endpoint::new(&format!("http://{}", common::start_intake()?)).context("an endpoint")?;
    let key = ApiKey::new("none").context("a key")?;
    let system = System::new();
    let client = system.block_on(async { Client::new(endpoint, key) })?;
    let now = u64::try_from(jiff::Timestamp::now().as_second())?;
    for runs in [1, 100, 10_000] {
        let slots = slots(runs, now)?;
        let payload = metrics::payload(&slots);
        let mut group = criterion.benchmark_group(format!("payload of {runs} runs, {} B", payload.line().len()));
        group.throughput(Throughput::Elements(runs));
        group.bench_function("build", |bencher| bencher.iter(|| metrics::payload(black_box(&slots))));
        group.bench_function("write as JSON", |bencher| bencher.iter(|| black_box(&payload).line()));
        group.bench_function("push: write, compress and send", |bencher| {
            bencher.iter(|| assert_eq!(system.block_on(client.push(&payload)).verdict, Verdict::Taken));
        });
        group.finish();
    }
    Ok(())
}
