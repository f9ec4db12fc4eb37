//! What GitHub never delivered: found in a GitHub of ours, and counted once.

mod backfill;
mod jobs;
mod recover;
mod register;
mod sweep;
mod walk;

use crate::{
    github::{RunBuilder, workflow_run},
    harness::{SECRET, Service, Start, now, program, sent},
    hub::{Hub, Rights},
    intake::{Intake, TEST_KEY},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const TOTAL: &str = "github.actions.workflow_run.total";
const DURATION_TOTAL: &str = "github.actions.workflow_run.duration_second_total";
const REPOSITORY: &str = "acme-rockets/telemetry";

/// A GitHub, an intake, and a directory for the files.
struct Scene {
    hub: Hub,
    token: String,
    intake: Intake,
    dir: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Scene {
    fn new() -> Self {
        let hub = Hub::start();
        hub.repository(REPOSITORY);
        let token = hub.token(Rights::All);
        Self { hub, token, intake: Intake::start(), dir: tempfile::tempdir().unwrap() }
    }

    fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn service(&self) -> Service {
        Start::live(&self.cache_dir(), &self.intake).start()
    }

    /// A command with all that it needs to know of this scene.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.env("RUNHOUND_GITHUB_URL", self.hub.url()).env("GITHUB_TOKEN", &self.token);
        command.env("DD_API_KEY", TEST_KEY).env("DD_URL", self.intake.url());
        command.env("GITHUB_WEBHOOK_SECRET", SECRET).env("RUNHOUND_CACHE_DIR", self.cache_dir());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// `recover` of the one repository, into files of its own.
    fn recover(&self, more: &[&str]) -> Said {
        self.run(&[&["recover", "--repository", REPOSITORY], more].concat())
    }

    /// `backfill` of the one repository, into files of its own.
    fn backfill(&self, more: &[&str]) -> Said {
        self.run(&[&["backfill", "--repository", REPOSITORY, "--since", "3h"], more].concat())
    }

    fn sent(&self) -> Vec<String> {
        sent(&self.cache_dir().join("sent-workflows.json"))
    }

    #[track_caller]
    fn assert_counted(&self, runs: u32) {
        assert_eq!(self.intake.count(TOTAL), f64::from(runs));
        assert_eq!(self.intake.dropped(), []);
        assert_eq!(self.intake.overwritten(), []);
        self.intake.assert_contract();
    }
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Said {
    /// It did all that it should; what a line of its summary counts.
    #[track_caller]
    fn done(&self) -> &Self {
        assert_eq!(self.status, 0, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn counts(&self, what: &str) -> u64 {
        let line = self.out.lines().find(|line| line.trim_start().starts_with(what));
        let line = line.unwrap_or_else(|| panic!("no {what}: {}{}", self.out, self.err));
        line.split_whitespace().last().unwrap().parse().unwrap()
    }

    /// It failed, with this in its error and this in its hint.
    #[track_caller]
    fn failed(&self, what: &str, hint: &str) {
        assert_eq!(self.status, 1, "{}{}", self.out, self.err);
        let told = self.err.lines().find(|line| line.starts_with("runhound: ")).unwrap_or_default();
        let hinted = self.err.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default();
        assert!(told.contains(what) && hinted.contains(hint), "{}", self.err);
    }
}

/// A run of a minute that ended so many seconds ago.
fn ended(id: u64, seconds_ago: i64) -> RunBuilder {
    let end = now() - seconds_ago;
    workflow_run(id).started_at(end - 60).updated_at(end)
}

fn webhook(service: &Service) -> String {
    format!("http://{}/webhook", service.address)
}

/// An address at which nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/webhook", listener.local_addr().unwrap())
}

fn has_files(dir: &Path) -> bool {
    dir.join("journal.jsonl").exists()
}
