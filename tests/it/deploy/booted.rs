//! The systemd units as they stand, under a systemd that has booted: in a container that shares this machine's programs
//! and its network, and nothing else.

use super::path;
use crate::{
    github::workflow_run,
    harness::{Client, PATIENCE, Process, SECRET, now, sent, signal},
    intake::{Intake, TEST_KEY},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Instant,
};

/// Where the socket unit listens.
const ADDRESS: &str = "127.0.0.1:8080";

/// Where operators look, by default.
const ADMIN_ADDRESS: &str = "127.0.0.1:8081";

/// What a machine needs to boot besides `/usr`: who there is, and the units, installed as the documents say.
fn install(root: &Path, environment: &str) {
    let folders = ["usr", "etc/systemd/system", "etc/runhound", "local/bin", "var", "tmp", "root"];
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
    let units = ["runhound.socket", "runhound.service"];
    for unit in units {
        fs::copy(path("systemd").join(unit), root.join("etc/systemd/system").join(unit)).unwrap();
    }
    let mut enable = Command::new("systemctl");
    enable.arg(format!("--root={}", root.display())).arg("enable").args(units);
    assert!(enable.status().unwrap().success());
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

    /// The first process of the machine, by its number here.
    fn init(&self) -> Option<u32> {
        let container = self.container.0.id();
        fs::read_to_string(format!("/proc/{container}/task/{container}/children")).ok()?.trim().parse().ok()
    }

    fn systemctl(&self, arguments: &[&str]) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init().unwrap())).args(["--all", "systemctl"]).args(arguments);
        assert!(command.status().unwrap().success(), "systemctl {arguments:?}");
    }

    /// Shuts it down; its console.
    fn halt(&mut self) -> String {
        signal(self.container.0.id(), "TERM");
        // Its console is closed when it has ended.
        let begun = Instant::now();
        while let Ok(line) = self.console.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            self.read.push(line);
        }
        assert!(begun.elapsed() < PATIENCE, "it does not shut down: {:#?}", self.read);
        assert!(self.container.0.wait().unwrap().success());
        self.read.join("\n")
    }
}

impl Drop for Machine {
    /// The machine of a test that failed: it would go on without its container.
    fn drop(&mut self) {
        if let Some(init) = self.init() {
            signal(init, "KILL");
        }
    }
}

#[test]
#[ignore = "boots systemd in a container, which needs root and systemd-nspawn, on port 8080: deploy/check runs it"]
fn the_units_hold_deliveries_over_a_crash_and_a_restart_and_datadog_counts_each_once() {
    for address in [ADDRESS, ADMIN_ADDRESS] {
        drop(TcpListener::bind(address).unwrap_or_else(|why| panic!("the units want {address}: {why}")));
    }
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

    // What keeps it from starting is mended after a while: it has not given up, and the door has stayed open.
    let key = dir.path().join("etc/runhound/dd-api-key");
    fs::write(&key, "").unwrap();
    machine.systemctl(&["restart", "--no-block", "runhound.service"]);
    machine.wait_for("restart counter is at 7.");
    fs::write(&key, TEST_KEY).unwrap();
    assert_eq!(github.deliver(&run(4)).status, 202);

    let console = machine.halt();
    assert!(console.contains("nothing is pending"), "{console}");
    assert!(!console.contains(SECRET) && !console.contains(TEST_KEY), "{console}");
    intake.assert_contract();
    assert_eq!(intake.count("github.actions.workflow_run.total"), 4.0);
    let files = dir.path().join("var/lib/private/runhound");
    assert_eq!(sent(&files.join("sent-workflows.json")), ["1", "2", "3", "4"]);
    for file in fs::read_dir(&files).unwrap().map(Result::unwrap) {
        let metadata = file.metadata().unwrap();
        assert!(metadata.uid() != 0 && metadata.mode() % 0o100 == 0, "{}: {metadata:?}", file.path().display());
    }
}
