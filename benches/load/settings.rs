//! The variables that change what is measured; `main.rs` tells what each is for.

use crate::contenders::Contender;
use anyhow::{Context, Result, ensure};
use std::{env, time::Duration};

pub(crate) struct Settings {
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
    pub(crate) connections: Vec<usize>,
    /// On the disk that is measured.
    pub(crate) dir: String,
    pub(crate) contenders: Vec<Contender>,
}

impl Settings {
    pub(crate) fn read() -> Result<Self> {
        Ok(Self {
            rounds: number("RUNHOUND_BENCH_ROUNDS", 3)?,
            length: Duration::from_secs(number("RUNHOUND_BENCH_SECONDS", 2)? as u64),
            connections: numbers("RUNHOUND_BENCH_CONNECTIONS", "1,16,64,256")?,
            dir: env::var("RUNHOUND_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned()),
            contenders: Contender::chosen()?,
        })
    }
}

pub(crate) fn number(name: &str, default: usize) -> Result<usize> {
    let numbers = numbers(name, &default.to_string())?;
    ensure!(numbers.len() == 1, "{name}: must be one number");
    Ok(numbers[0])
}

fn numbers(name: &str, default: &str) -> Result<Vec<usize>> {
    let text = env::var(name).unwrap_or_else(|_| default.to_owned());
    let numbers = text.split(',').map(|text| text.trim().parse()).collect::<Result<Vec<usize>, _>>();
    let numbers = numbers.with_context(|| name.to_owned())?;
    ensure!(numbers.iter().all(|number| *number > 0), "{name}: must be 1 or more");
    Ok(numbers)
}
