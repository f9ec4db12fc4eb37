//! One process of a contender.
//!
//! It ends when this is dropped.

use crate::PATIENCE;
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The unit of times in `/proc/PID/stat`: Linux shows 100 ticks a second to programs, whatever its own are.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Starts it, and waits until it takes connections, at the address that it was given or tells in its log.
    pub(crate) fn start(mut command: Command, told: Option<SocketAddr>, log: &Path) -> Result<Self> {
        let file = File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        let mut process = Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let since = Instant::now();
        loop {
            let log = fs::read_to_string(log)?;
            let in_log = || {
                let (_, rest) = log.split_once("listening on http://")?;
                rest.split_once("/webhook")?.0.parse().ok()
            };
            if let Some(address) = told.or_else(in_log).filter(|address| TcpStream::connect(address).is_ok()) {
                process.address = address;
                return Ok(process);
            }
            let is_gone = process.child.try_wait()?.is_some();
            ensure!(!is_gone && since.elapsed() < PATIENCE, "it does not start: {log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Of its own, and of what it has started and waited for.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // What follows the name in parentheses begins with field 3; utime, stime, cutime and cstime are 14 to 17.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(4);
        Ok(fields.map(str::parse::<f64>).sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
    }

    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}
