//! A server and its children, which it starts and ends as it likes, by what /proc tells of them.
//!
//! Invariant: a signal goes to the server that this process started, or to what was seen to be its child.
//!
//! Source: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.

use crate::harness::{PATIENCE, Process};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(5);

/// A process. Its number may be another's later on; the time of its start is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    id: u32,
    parent: u32,
    state: char,
    started: u64,
}

impl Seen {
    /// The process of this number that has not ended.
    fn look(id: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in front of the bracket may hold anything.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let state = fields.first()?.chars().next()?;
        let seen = Self { id, parent: fields.get(1)?.parse().ok()?, state, started: fields.get(19)?.parse().ok()? };
        (!matches!(state, 'Z' | 'X')).then_some(seen)
    }

    /// The same process, as it is by now.
    fn now(self) -> Option<Self> {
        Self::look(self.id).filter(|now| now.started == self.started)
    }

    fn is_stopped_or_gone(self) -> bool {
        self.now().is_none_or(|now| now.state == 'T')
    }
}

/// Sends a signal to a process that may be gone.
pub(super) fn send(id: u32, signal: Signal) {
    let id = Pid::from_raw(id.try_into().unwrap()).unwrap();
    kill_process(id, signal).ok();
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

fn children(of: u32) -> Vec<Seen> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(Seen::look).filter(|seen| seen.parent == of).collect()
}

/// Stops a server alone, so that it starts no more children: those it has.
pub(super) fn hold(server: u32) -> Vec<Seen> {
    send(server, Signal::STOP);
    wait_until("the server is held", || Seen::look(server).is_none_or(|seen| seen.state == 'T'));
    children(server)
}

/// Stops a server and its children where they are. What this gives lets them go on when this process ends, if it is not
/// dropped before.
pub(super) fn pause(server: u32) -> Process {
    let children = hold(server);
    let ids = children.iter().map(|child| child.id).chain([server]).map(|id| id.to_string());
    let mut wakes = Command::new("sh");
    wakes.args(["-c", r#"read -r _; kill -CONT "$@""#, "sh"]).args(ids).process_group(0);
    let wakes = wakes.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for child in &children {
        send(child.id, Signal::STOP);
    }
    wait_until("its children are held", || children.iter().all(|child| child.is_stopped_or_gone()));
    Process(wakes)
}

/// Lets a server and its children go on.
pub(super) fn go_on(server: u32) {
    release(&children(server));
    send(server, Signal::CONT);
}

fn release(children: &[Seen]) {
    for child in children.iter().filter(|child| child.now().is_some()) {
        send(child.id, Signal::CONT);
    }
}

/// Waits until those that were a server's children are gone too. They go by themselves, if nothing holds them.
pub(super) fn wait_for_the_end_of(children: &[Seen]) {
    release(children);
    wait_until("the children of a dead server are gone", || children.iter().all(|child| child.now().is_none()));
}
