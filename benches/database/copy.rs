//! Copies between files and database, and a start with what was copied.

use crate::{
    cluster::Cluster,
    common::{self, FIRST_ID},
    median,
    program::{PROGRAM, Program},
};
use anyhow::{Result, ensure};
use runhound::ledger::{Files, Mode};
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const STARTS: usize = 5;

const DATABASE: &str = "runhound";

const SIZE: &str = "select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r' and relnamespace = 'runhound'::regnamespace";

pub(crate) fn measure(cluster: &Cluster, parent: &Path, ids: u64) -> Result<()> {
    let dir = tempfile::tempdir_in(parent)?;
    let url = cluster.url(DATABASE);
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let cache = |dir| Files::new(dir, Mode::Live).cache;
    fs::create_dir(&from)?;
    common::write_cache(&cache(&from), FIRST_ID..FIRST_ID + ids)?;
    println!("{ids} IDs");
    println!("    import                       {:.1} s", copy("import", &from, &url)?.as_secs_f64());
    let size: f64 = cluster.session(DATABASE)?.ask(SIZE)?.parse()?;
    println!("    their size in the database   {:.1} MB", size / 1e6);
    println!("    their size in files          {:.1} MB", fs::metadata(cache(&from))?.len() as f64 / 1e6);
    println!("    export                       {:.1} s", copy("export", &to, &url)?.as_secs_f64());
    ensure!(fs::read(cache(&from))? == fs::read(cache(&to))?, "what came back is not what went in");
    let intake = common::start_intake()?;
    for (name, ledger) in [("PostgreSQL", Some(url.as_str())), ("files", None)] {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            starts.push(Program::start(&from, ledger, intake)?.started_in.as_secs_f64());
        }
        println!("    start, {name:<21} {:.3} s", median(starts));
    }
    Ok(())
}

fn copy(way: &str, dir: &Path, url: &str) -> Result<Duration> {
    let begun = Instant::now();
    let mut command = Command::new(PROGRAM);
    command.env_clear().args(["ledger", way]).arg("--cache-dir").arg(dir).arg("--ledger").arg(url);
    let output = command.output()?;
    let took = begun.elapsed();
    ensure!(output.status.success(), "ledger {way} fails: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}
