//! What the disk and the hash take by themselves, with nothing else going on.

use crate::{
    LINE_BYTES,
    orders::body,
    report::{median, percentile},
    secret,
};
use anyhow::Result;
use hmac::Mac;
use std::{fs::File, hint::black_box, io::Write, time::Instant};

const TIMES: usize = 300;

/// In milliseconds, each time a pair of both halves of the way to a durable answer.
pub(crate) struct Lone {
    file: File,
    body: String,
    syncs: Vec<f64>,
    hashes: Vec<f64>,
}

impl Lone {
    pub(crate) fn new(dir: &str) -> Result<Self> {
        let body = body("CI", jiff::Timestamp::now())?;
        Ok(Self { file: tempfile::tempfile_in(dir)?, body, syncs: Vec::new(), hashes: Vec::new() })
    }

    /// The signature of a body, then a line and its sync, over and over.
    pub(crate) fn measure(&mut self) -> Result<()> {
        let line = [b'x'; LINE_BYTES];
        for _ in 0..TIMES {
            let start = Instant::now();
            black_box(secret().chain_update(&self.body).finalize());
            let hashed = Instant::now();
            self.file.write_all(&line)?;
            self.file.sync_data()?;
            self.syncs.push(hashed.elapsed().as_secs_f64() * 1000.0);
            self.hashes.push((hashed - start).as_secs_f64() * 1000.0);
        }
        Ok(())
    }

    /// Median and p99.
    pub(crate) fn sync_ms(&self) -> (f64, f64) {
        (median(&self.syncs), percentile(&self.syncs, 99))
    }

    pub(crate) fn hash_ms(&self) -> f64 {
        median(&self.hashes)
    }

    /// Median and p99 of both together.
    pub(crate) fn both_ms(&self) -> (f64, f64) {
        let both: Vec<f64> = self.syncs.iter().zip(&self.hashes).map(|(sync, hash)| sync + hash).collect();
        (median(&both), percentile(&both, 99))
    }
}
