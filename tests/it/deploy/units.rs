//! The systemd unit's own command line and settings, without systemd.

use super::read;
use crate::{
    github::workflow_run,
    harness::{SECRET, Start, now, sent},
    intake::{Intake, TEST_KEY},
};
use std::{fs, net::TcpListener, path::Path, sync::Arc};

/// What a unit sets by this name, in order.
fn settings<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// As the unit starts it, with the unit's folders in `dir` and `socket` for the socket unit's.
fn start(dir: &Path, socket: &Arc<TcpListener>, environment_file: &str) -> Start {
    let unit = read("systemd/runhound.service");
    let [command_line] = settings(&unit, "ExecStart")[..] else { panic!("one ExecStart=: {unit}") };
    let words: Vec<&str> = command_line.split(' ').collect();
    assert_eq!(words[0], "/usr/local/bin/runhound", "where the unit has it, the documents put it");
    let [state] = settings(&unit, "StateDirectory")[..] else { panic!("one StateDirectory=: {unit}") };
    let credentials = dir.join("credentials");
    let lines = settings(&unit, "Environment").into_iter().chain(environment_file.lines());
    let start = Start::command_line(&dir.join(state), &words[1..]).on_socket(socket);
    lines.fold(start, |start, line| {
        let (name, value) = line.split_once('=').unwrap();
        let value = value.replace("%S", dir.to_str().unwrap()).replace("%d", credentials.to_str().unwrap());
        start.variable(name, &value)
    })
}

#[test]
fn the_units_command_line_takes_a_signed_delivery_and_datadog_counts_it_once() {
    let intake = Intake::start();
    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    for line in settings(&read("systemd/runhound.service"), "LoadCredential") {
        let (name, path) = line.split_once(':').unwrap();
        assert_eq!(path, format!("/etc/runhound/{name}"));
        let text = if name == "dd-api-key" { TEST_KEY } else { SECRET };
        fs::write(credentials.join(name), format!("{text}\n")).unwrap();
    }
    let socket = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let settings = format!("DD_URL={}\nRUNHOUND_ADMIN_LISTEN=127.0.0.1:0", intake.url());
    let start = start(dir.path(), &socket, &settings);
    let service = start.start();
    let run = workflow_run(1).started_at(now() - 61).updated_at(now());
    assert_eq!(service.deliver(&run).status, 202);
    service.wait_for_pushes(1);
    assert_eq!(service.deliver(&run).says(), "duplicate");
    assert_eq!(service.ask("/readyz").0.status, 200);
    service.stop();
    assert_eq!(intake.count("github.actions.workflow_run.total"), 1.0);
    assert_eq!(sent(&start.cache_dir.join("sent-workflows.json")), ["1"]);
}
