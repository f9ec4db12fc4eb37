//! The runs that an outage of Datadog leaves.

use crate::common;
use anyhow::{Result, anyhow, ensure};
use futures_util::future::join_all;
use runhound::ledger::{Accepted, Database, Files, Ledger, Opened, Options, Reruns};
use std::{sync::Arc, time::Instant};

const OUTAGE_S: u64 = 20 * 60;

/// So many runs are handed to the ledger at one moment.
const AT_ONCE: u64 = 1_000;

/// Accepts runs in this process, so many at a time: how many a second.
pub(crate) fn accept(files: &Files, database: Option<Database>, runs: u64) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let now = u64::try_from(jiff::Timestamp::now().as_second())?;
    let begun = i64::try_from(now - OUTAGE_S)?;
    let mut options = Options::new(files.clone(), Reruns::Push, begun);
    options.database = database;
    let Opened { ledger, owner, .. } = Ledger::open(options)?;
    let since = Instant::now();
    for first in (0..runs).step_by(usize::try_from(AT_ONCE)?) {
        let mut asked = Vec::new();
        for number in first..runs.min(first + AT_ONCE) {
            let end = begun + i64::try_from(number * OUTAGE_S / runs)?;
            asked.push(ledger.accept(common::run(number, end, Arc::new(common::tag_set(number)))?, end));
        }
        let answers = runtime.block_on(join_all(asked));
        ensure!(answers.iter().all(|answer| matches!(answer, Ok(Accepted::New))), "a run is new");
    }
    let rate = runs as f64 / since.elapsed().as_secs_f64();
    drop(ledger);
    owner.join().map_err(|_| anyhow!("the ledger has failed"))?;
    Ok(rate)
}
