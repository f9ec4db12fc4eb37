//! What metrics cost: how many series there are, and what a burst of names comes to.

use crate::{
    github::workflow_run,
    harness::{PATIENCE, SECRET, Start, program},
    intake::{Intake, TEST_KEY},
};
use std::{collections::BTreeSet, path::Path};

const TOTAL: &str = "github.actions.workflow_run.total";

/// What a check says of series.
fn check(dir: &Path, intake: &Intake) -> String {
    let mut command = program(&["check", &format!("--cache-dir={}", dir.display()), "--max-series=40"]);
    command.envs([("GITHUB_WEBHOOK_SECRET", SECRET), ("DD_API_KEY", TEST_KEY), ("DD_URL", &intake.url())]);
    let output = command.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}");
    out.lines().find(|line| line.contains("series.json")).unwrap().to_owned()
}

#[test]
fn a_burst_of_workflow_names_costs_no_more_than_the_limit_and_loses_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let intake = Intake::start();
    assert!(check(dir.path(), &intake).contains("0 series in the last hour, 0 in the last 30 days; the limit is 40"));
    let launch = Start::live(dir.path(), &intake).argument("--max-series=40");
    let workflow = |id: u64| workflow_run(id).workflow(&format!("burst-{id}"));

    let service = launch.start();
    for id in 1..=50 {
        assert_eq!(service.deliver(&workflow(id)).status, 202);
    }
    // What was sent as other is seen all the same.
    assert_eq!(service.deliver(&workflow(50)).says(), "duplicate");
    intake.wait_until(|state| state.count(TOTAL) >= 50.0, PATIENCE);
    let log = service.stop();
    assert!(log.iter().any(|line| line.contains("cost: 0 series in the last hour, 0 in the last 30 days")), "{log:#?}");
    let warnings = |log: &[String]| log.iter().filter(|line| line.contains("--max-series is 40")).count();
    assert_eq!(warnings(&log), 1, "{log:#?}");
    let told = "44 series in the last hour, 44 in the last 30 days; the limit is 40; the tag with the most values is \
                workflow_name, with 11; new values are sent as `other` of: workflow_name";
    assert!(check(dir.path(), &intake).contains(told), "{}", check(dir.path(), &intake));

    let service = launch.start();
    for id in [51, 1001, 1] {
        service.deliver(&workflow(id));
    }
    service.deliver(&workflow_run(1002).workflow("burst-7"));
    intake.wait_until(|state| state.count(TOTAL) >= 53.0, PATIENCE);
    let log = service.stop();
    assert_eq!(warnings(&log), 0, "it is known after a restart: {log:#?}");
    assert!(log.iter().any(|line| line.contains("cost: 44 series in the last hour")), "{log:#?}");
    assert!(check(dir.path(), &intake).contains(told), "{}", check(dir.path(), &intake));

    assert_eq!(intake.count(TOTAL), 53.0);
    let stored = intake.stored();
    let of = |workflow: &str| {
        let tag = format!("workflow_name:{workflow}");
        let points = stored.iter().filter(|((metric, tags, _), _)| metric == TOTAL && tags.contains(&tag));
        points.map(|(_, value)| value).sum::<f64>()
    };
    assert_eq!((of("burst-1"), of("burst-7"), of("burst-10"), of("burst-11"), of("other")), (1.0, 2.0, 1.0, 0.0, 42.0));
    let tag_sets: BTreeSet<_> = stored.keys().map(|(_, tags, _)| tags).collect();
    assert_eq!(tag_sets.len(), 11);
    intake.assert_contract();
}
