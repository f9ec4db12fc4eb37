//! How a backlog drains that waits at a start.

use crate::{
    cluster::Cluster,
    common, ledger_of, new_database, outage,
    program::{PATIENCE, Program},
};
use anyhow::{Result, ensure};
use runhound::ledger::{Files, Mode};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

const REPLICAS: usize = 3;

pub(crate) fn measure(cluster: &Cluster, parent: &Path, runs: u64) -> Result<()> {
    println!("{runs} runs wait at a start");
    println!("{:<24} {:>12} {:>12} {:>12}", "", "accepted/s", "drained/s", "peak MiB");
    for (name, replicas) in [("one", 1), ("three", REPLICAS)] {
        let url = new_database(cluster, name)?;
        drain(Some((cluster, name, &url)), parent, runs, replicas)?;
    }
    drain(None, parent, runs, 1)
}

fn drain(database: Option<(&Cluster, &str, &str)>, parent: &Path, runs: u64, replicas: usize) -> Result<()> {
    let dirs = (0..replicas).map(|_| tempfile::tempdir_in(parent)).collect::<Result<Vec<_>, _>>()?;
    let files = Files::new(dirs[0].path(), Mode::Live);
    let ledger = database.map(|(_, _, url)| ledger_of(url)).transpose()?;
    let accepted = outage::accept(&files, ledger, runs)?;
    let intake = common::start_intake()?;
    // How many are recorded as sent.
    let sent: Box<dyn Fn() -> Result<u64>> = if let Some((cluster, name, _)) = database {
        let session = cluster.session(name)?;
        session.ask("vacuum analyze")?;
        Box::new(move || Ok(session.ask("select sent from runhound.ledger")?.parse()?))
    } else {
        let bytes = format!(",\n    \"{}\"", common::FIRST_ID).len() as u64;
        Box::new(move || Ok(files.cache.metadata().map_or(0, |file| file.len()) / bytes))
    };
    let since = Instant::now();
    let url = database.map(|(_, _, url)| url);
    let programs = dirs.iter().map(|dir| Program::start(dir.path(), url, intake)).collect::<Result<Vec<_>>>()?;
    while sent()? < runs {
        ensure!(since.elapsed() < 10 * PATIENCE, "the backlog does not drain");
        thread::sleep(Duration::from_millis(20));
    }
    let drained = runs as f64 / since.elapsed().as_secs_f64();
    let peaks = programs.iter().map(|program| program.status("VmHWM:")).collect::<Result<Vec<_>>>()?;
    let name = match (url, replicas) {
        (None, _) => "files".to_owned(),
        (Some(_), 1) => "PostgreSQL".to_owned(),
        (Some(_), replicas) => format!("PostgreSQL, {replicas} replicas"),
    };
    let peak = peaks.into_iter().max().unwrap_or(0) as f64 / f64::from(1 << 20);
    println!("{name:<24} {accepted:>12.0} {drained:>12.0} {peak:>12.1}");
    Ok(())
}
