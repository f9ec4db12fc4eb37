//! The systemd units as they stand, under a systemd that has booted: in a container that shares this machine's programs and
//! its network, and nothing else.

use super::path;
use crate::{
    github::workflow_run,
    harness::{Client, PATIENCE, Process, SECRET, now, sent, signal},
    intake::{Intake, TEST_KEY},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Instant,
};

/// Where the socket unit listens.
const ADDRESS: &str = "127.0.0.1:8080";

/// What a machine needs to boot besides `/usr`: who there is, and the units, installed as the documents say.
fn install(root: &Path, environment: &str) {
    let folders =
        ["usr", "etc/systemd/system/multi-user.target.wants", "etc/runhound", "local/bin", "var", "tmp", "root"];
    for folder in folders {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    write("etc/os-release", "ID=test\n");
    write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    write("etc/passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n");
    write("etc/group", "root:x:0:\nnogroup:x:65534:\n");
    write("etc/nsswitch.conf", "passwd: files systemd\ngroup: files systemd\n");
    // What the service logs comes out where this test reads it.
    write("etc/systemd/journald.conf", "[Journal]\nStorage=none\nForwardToConsole=yes\n");
    for unit in ["runhound.service", "runhound.socket"] {
        fs::copy(path("systemd").join(unit), root.join("etc/systemd/system").join(unit)).unwrap();
        let wanted = root.join("etc/systemd/system/multi-user.target.wants").join(unit);
        symlink(format!("../{unit}"), wanted).unwrap();
    }
    write("etc/runhound/env", environment);
    write("etc/runhound/webhook-secrets", SECRET);
    write("etc/runhound/dd-api-key", TEST_KEY);
    fs::copy(env!("CARGO_BIN_EXE_runhound"), root.join("local/bin/runhound")).unwrap();
}

/// A machine that boots, and what is written on its console.
struct Machine {
    container: Process,
    console: mpsc::Receiver<String>,
    read: Vec<String>,
}

impl Machine {
    fn boot(root: &Path) -> Self {
        let mut command = Command::new("systemd-nspawn");
        command.args(["--register=no", "--keep-unit", "--console=read-only", "--bind-ro=/usr", "--boot"]);
        command.arg(format!("--directory={}", root.display()));
        command.arg(format!("--bind-ro={}:/usr/local", root.join("local").display()));
        command.args(["--", "systemd.unit=multi-user.target"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, console) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { container: Process(child), console, read: Vec::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let line = self.console.recv_timeout(PATIENCE.saturating_sub(begun.elapsed()));
            let line = line.unwrap_or_else(|error| panic!("no {text:?} on the console: {error}: {:#?}", self.read));
            self.read.push(line);
            if self.read.last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
    }

    fn systemctl(&self, arguments: &[&str]) {
        let container = self.container.0.id();
        let init = fs::read_to_string(format!("/proc/{container}/task/{container}/children")).unwrap();
        let mut command = Command::new("nsenter");
        command.args(["--target", init.trim(), "--all", "systemctl"]).args(arguments);
        assert!(command.status().unwrap().success(), "systemctl {arguments:?}");
    }

    /// Shuts it down; its console.
    fn halt(mut self) -> String {
        signal(self.container.0.id(), "TERM");
        assert!(self.container.0.wait().unwrap().success());
        self.read.extend(self.console.iter());
        self.read.join("\n")
    }
}

#[test]
#[ignore = "boots systemd in a container, which needs root and systemd-nspawn, on port 8080: deploy/check runs it"]
fn the_units_hold_deliveries_over_a_crash_and_a_restart_and_datadog_counts_each_once() {
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), &format!("DD_URL={}\n", intake.url()));
    let mut machine = Machine::boot(dir.path());
    machine.wait_for("Listening on runhound.socket");
    let github = Client(ADDRESS.parse().unwrap());
    let run = |id| workflow_run(id).started_at(now() - 61).updated_at(now());
    // Whether or not the service has started: the door is there.
    assert_eq!(github.deliver(&run(1)).status, 202);
    machine.systemctl(&["kill", "--signal=KILL", "runhound.service"]);
    assert_eq!(github.deliver(&run(2)).status, 202);
    machine.systemctl(&["restart", "--no-block", "runhound.service"]);
    assert_eq!(github.deliver(&run(3)).status, 202);
    assert_eq!(github.deliver(&run(1)).says(), "duplicate");

    let console = machine.halt();
    assert!(console.contains("nothing is pending"), "{console}");
    assert!(!console.contains(SECRET) && !console.contains(TEST_KEY), "{console}");
    intake.assert_contract();
    assert_eq!(intake.count("github.actions.workflow_run.total"), 3.0);
    let files = dir.path().join("var/lib/private/runhound");
    assert_eq!(sent(&files.join("sent-workflows.json")), ["1", "2", "3"]);
    for file in fs::read_dir(&files).unwrap().map(Result::unwrap) {
        let metadata = file.metadata().unwrap();
        assert!(metadata.uid() != 0 && metadata.mode() & 0o077 == 0, "{}: {metadata:?}", file.path().display());
    }
}
