use super::*;
use crate::{
    event::{Completed, Detail, Step},
    metrics::{
        Slot, Tagging, payload,
        tests::{any, completed, completed_job, tagging},
    },
};
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000;
const DAY_S: i64 = 86_400;

/// A run of this repository and workflow; a name that is not set is left out.
fn run(repository: &str, workflow: &str) -> Run {
    let mut completed = completed();
    repository.clone_into(&mut completed.repository.name);
    completed.workflow = Some(workflow.to_owned());
    tagging().run(&completed, NOW)
}

fn untimed(workflow: &str) -> Run {
    Run { duration_ms: None, ..run("r", workflow) }
}

/// The value of a tag as it is sent.
fn value(bounded: &Bounded, key: &str) -> String {
    let mut values = bounded.tag_set.tags.iter().filter_map(|tag| tag.strip_prefix(key)?.strip_prefix(':'));
    values.next().unwrap().to_owned()
}

fn total(guard: &SeriesGuard) -> usize {
    guard.count(NOW).last_30_days
}

#[test]
fn the_series_of_a_tag_set_are_those_that_a_payload_has() {
    for run in [run("r", "a"), untimed("a")] {
        let mut guard = SeriesGuard::new(100);
        guard.bound(&run, NOW);
        guard.bound(&run, NOW);
        let sent = payload(&[Slot { second: NOW, runs: vec![Arc::new(run)] }]).series.len();
        assert_eq!(guard.count(NOW), SeriesCount { last_hour: sent, last_30_days: sent });
    }
}

#[test]
fn a_duration_that_is_seen_later_adds_its_metrics_and_passes_the_limit() {
    let mut guard = SeriesGuard::new(2);
    guard.bound(&untimed("a"), NOW);
    assert_eq!(total(&guard), 2);
    let bounded = guard.bound(&run("r", "a"), NOW);
    assert_eq!((value(&bounded, "workflow_name").as_str(), bounded.capped.first().cloned()), ("a", None));
    assert_eq!(total(&guard), 4);
    guard.bound(&untimed("a"), NOW + 3_601);
    assert_eq!(guard.count(NOW + 3_601), SeriesCount { last_hour: 2, last_30_days: 4 });
}

#[test]
fn the_limit_can_be_reached_exactly_and_what_is_new_beyond_it_becomes_other() {
    let mut guard = SeriesGuard::new(12);
    for workflow in ["a", "b", "c"] {
        assert_eq!(guard.bound(&run("r", workflow), NOW).capped, [], "{workflow}");
    }
    assert_eq!(total(&guard), 12);
    let bounded = guard.bound(&run("r", "d"), NOW);
    let capped = Capped { key: "workflow_name", values: 3, series: 12, max: 12 };
    let told = capped.to_string();
    assert!(["12 series", "--max-series is 12", "tag workflow_name", " 3,"].iter().all(|part| told.contains(part)));
    assert_eq!((value(&bounded, "workflow_name").as_str(), bounded.capped.first().cloned()), ("other", Some(capped)));
    let bounded = guard.bound(&run("r", "e"), NOW);
    assert_eq!(
        (value(&bounded, "workflow_name").as_str(), bounded.capped.first().cloned()),
        ("other", None),
        "it is told once"
    );
    assert_eq!(total(&guard), 16, "other is one more, once");
    assert_eq!(guard.widest(), Some(("workflow_name", 4)));
}

#[test]
fn one_series_too_many_is_too_many() {
    let mut guard = SeriesGuard::new(7);
    guard.bound(&run("r", "a"), NOW);
    assert_eq!(guard.bound(&run("r", "b"), NOW).capped.first().map(|capped| capped.key), Some("workflow_name"));
    let mut guard = SeriesGuard::new(6);
    guard.bound(&run("r", "a"), NOW);
    assert_eq!(guard.bound(&untimed("b"), NOW).capped, [], "without a duration there are two");
}

#[test]
fn known_tag_sets_pass_unchanged_beyond_the_limit() {
    let mut guard = SeriesGuard::new(8);
    let known = [run("r", "a"), run("r", "b")];
    for run in known.iter().chain([&run("r", "c"), &run("r", "d")]).chain(&known) {
        let bounded = guard.bound(run, NOW);
        let is_known = known.iter().any(|known| known.tag_set == run.tag_set);
        assert_eq!(bounded.tag_set == run.tag_set, is_known);
    }
    let failed = Completed { conclusion: Some("failure".to_owned()), workflow: Some("a".to_owned()), ..completed() };
    let failed = Completed {
        repository: crate::event::RepoName { owner: Some("acme".to_owned()), name: "r".to_owned() },
        ..failed
    };
    let failed = tagging().run(&failed, NOW);
    let bounded = guard.bound(&failed, NOW);
    assert_eq!(bounded.tag_set, failed.tag_set, "so does a new combination of known values");
    assert_eq!(bounded.capped, [], "and nothing more is to blame for it");
}

#[test]
fn of_two_keys_that_grow_the_one_with_more_values_is_capped_and_then_the_other() {
    let mut guard = SeriesGuard::new(20);
    for (repository, workflow) in [("r", "a"), ("r", "b"), ("r", "c"), ("s", "a"), ("t", "d")] {
        assert_eq!(guard.bound(&run(repository, workflow), NOW).capped, []);
    }
    let bounded = guard.bound(&run("u", "e"), NOW);
    assert_eq!(bounded.capped.first().map(|capped| (capped.key, capped.values)), Some(("workflow_name", 4)));
    assert_eq!(
        (value(&bounded, "repository_name").as_str(), value(&bounded, "workflow_name").as_str()),
        ("u", "other")
    );
    let bounded = guard.bound(&run("v", "a"), NOW);
    assert_eq!(bounded.capped.first().map(|capped| capped.key), Some("repository_name"));
    assert_eq!(
        (value(&bounded, "repository_name").as_str(), value(&bounded, "workflow_name").as_str()),
        ("other", "a")
    );
    assert_eq!(guard.capped().collect::<Vec<_>>(), ["repository_name", "workflow_name"]);
}

#[test]
fn the_key_to_be_capped_is_one_that_the_run_brings_a_new_value_of_though_another_has_more() {
    let mut guard = SeriesGuard::new(12);
    for workflow in ["a", "b", "c"] {
        guard.bound(&run("r", workflow), NOW);
    }
    let bounded = guard.bound(&run("s", "a"), NOW);
    assert_eq!(bounded.capped.first().map(|capped| (capped.key, capped.values)), Some(("repository_name", 1)));
    assert_eq!(
        (value(&bounded, "repository_name").as_str(), value(&bounded, "workflow_name").as_str()),
        ("other", "a")
    );
}

#[test]
fn a_run_that_brings_no_new_value_caps_the_key_with_the_most_values_first() {
    let mut guard = SeriesGuard::new(16);
    for (repository, workflow) in [("r", "a"), ("r", "b"), ("s", "c"), ("s", "d")] {
        assert_eq!(guard.bound(&run(repository, workflow), NOW).capped, []);
    }
    let combined = run("s", "a");
    let bounded = guard.bound(&combined, NOW);
    assert_eq!(bounded.capped.first().map(|capped| (capped.key, capped.values)), Some(("workflow_name", 4)));
    assert_eq!(bounded.tag_set, combined.tag_set);
    let bounded = guard.bound(&run("r", "c"), NOW);
    assert_eq!(bounded.capped, [], "once one is capped, such a combination passes");
}

#[test]
fn a_key_that_nobody_has_seen_before_can_be_to_blame() {
    let mut guard = SeriesGuard::new(4);
    let plain = run("r", "a");
    guard.bound(&plain, NOW);
    let mut tags = plain.tag_set.tags.clone();
    tags.insert(0, "actor:alice".to_owned());
    let tag_set = Arc::new(TagSet::of_runs(plain.tag_set.prefix.clone(), tags));
    let bounded = guard.bound(&Run { tag_set, ..plain }, NOW);
    assert_eq!(bounded.capped.first().map(|capped| (capped.key, capped.values)), Some(("actor", 0)));
    assert_eq!(value(&bounded, "actor"), "other");
}

#[test]
fn of_two_keys_with_as_many_values_the_one_that_grows_is_to_blame() {
    let mut guard = SeriesGuard::new(4);
    guard.bound(&run("r", "a"), NOW);
    let bounded = guard.bound(&run("r", "b"), NOW);
    assert_eq!(bounded.capped.first().map(|capped| capped.key), Some("workflow_name"), "not branch, which comes first");
}

#[test]
fn tags_with_other_are_in_order_and_none_twice() {
    let tag_set =
        |tags: &[&str]| Arc::new(TagSet::of_runs("p".to_owned(), tags.iter().map(|tag| (*tag).to_owned()).collect()));
    let of = |tags: &[&str]| Run { tag_set: tag_set(tags), ..run("r", "a") };
    let mut guard = SeriesGuard::new(4);
    guard.bound(&of(&["branch:main", "branch:x", "workflow_name:a"]), NOW);
    let bounded = guard.bound(&of(&["branch:a", "branch:m", "branch:other", "branch.x:y", "workflow_name:a"]), NOW);
    assert_eq!(bounded.capped[0].key, "branch");
    assert_eq!(bounded.tag_set.tags, ["branch.x:y", "branch:other", "workflow_name:a"]);
    assert_eq!(bounded.tag_set.prefix, "p");
}

#[test]
fn bounded_and_constant_tags_are_never_to_blame() {
    let mut guard = SeriesGuard::new(4);
    for index in 0..40 {
        let text = |name: &str| Some(format!("{name}{index}"));
        let completed = Completed {
            event: text("event"),
            conclusion: text("conclusion"),
            sender_type: text("type"),
            on_default_branch: index % 2 == 0,
            branch: None,
            ..completed()
        };
        let tagging =
            crate::metrics::Tagging { constant: vec![format!("team:t{index}"), "alone".to_owned()], ..tagging() };
        let run = tagging.run(&completed, NOW);
        let bounded = guard.bound(&run, NOW);
        assert_eq!(bounded.tag_set, run.tag_set);
        if let Some(capped) = bounded.capped.first() {
            assert!(["repository_owner", "repository_name", "workflow_name"].contains(&capped.key), "{capped:?}");
        }
    }
}

#[test]
fn what_was_not_seen_for_30_days_is_forgotten() {
    let mut guard = SeriesGuard::new(100);
    guard.bound(&run("r", "a"), NOW);
    guard.bound(&run("r", "b"), NOW + DAY_S);
    let later = NOW + REMEMBERED_S;
    guard.known.reserve(1_000);
    let known = guard.known.capacity();
    guard.forget(later);
    assert_eq!(guard.count(later), SeriesCount { last_hour: 0, last_30_days: 8 });
    assert_eq!(
        (guard.known.capacity(), guard.seen),
        (known, Some((NOW, NOW + DAY_S))),
        "nothing is old, and nothing built anew"
    );
    guard.forget(later + 1);
    assert_eq!(guard.count(later + 1).last_30_days, 4);
    assert_eq!(guard.widest().unwrap().1, 1, "nor are its values known any more");
    guard.bound(&untimed("b"), later);
    guard.forget(later + DAY_S + 1);
    assert_eq!(guard.count(later + DAY_S + 1).last_30_days, 2, "durations are forgotten by themselves");
}

#[test]
fn a_clock_that_was_ahead_keeps_nothing_for_longer() {
    let mut guard = SeriesGuard::new(100);
    guard.bound(&run("r", "a"), NOW + 900 * DAY_S);
    guard.forget(NOW);
    guard.forget(NOW + REMEMBERED_S + 1);
    assert_eq!(guard.known.len(), 0);
}

#[test]
fn a_cap_is_lifted_when_the_series_are_down_to_nine_tenths_of_the_limit() {
    let mut guard = SeriesGuard::new(40);
    for index in 0..10 {
        guard.bound(&run("r", &index.to_string()), NOW + index);
    }
    assert_eq!(value(&guard.bound(&run("r", "x"), NOW + 10), "workflow_name"), "other");
    // 44 series now, in steps of four: 40 and 36 after them.
    let gone = |second: i64| NOW + second + REMEMBERED_S;
    assert!(guard.forget(gone(1)).is_empty());
    assert_eq!(value(&guard.bound(&run("r", "y"), gone(1)), "workflow_name"), "other");
    assert_eq!(guard.forget(gone(2)), BTreeSet::from(["workflow_name"]));
    assert_eq!(value(&guard.bound(&run("r", "z"), gone(2)), "workflow_name"), "z");
}

#[test]
fn what_is_known_survives_as_json_and_another_format_is_refused() {
    let mut guard = SeriesGuard::new(8);
    for workflow in ["b", "a", "c"] {
        guard.bound(&run("r", workflow), NOW);
    }
    guard.bound(&untimed("a"), NOW + 1);
    let text = guard.snapshot().json();
    let mut read = SeriesGuard::from_json(8, text.as_bytes()).unwrap();
    assert_eq!(read.snapshot().json(), text);
    assert_eq!(read.count(NOW + 1), guard.count(NOW + 1));
    let bounded = read.bound(&run("r", "d"), NOW);
    assert_eq!(
        (value(&bounded, "workflow_name").as_str(), bounded.capped.first().cloned()),
        ("other", None),
        "it is told once"
    );
    let mut raised = SeriesGuard::from_json(100, text.as_bytes()).unwrap();
    assert_eq!(raised.forget(NOW), BTreeSet::from(["workflow_name"]), "a higher limit lifts a cap");
    let other = text.replace("\"format\":1", "\"format\":2");
    assert!(matches!(SeriesGuard::from_json(8, other.as_bytes()), Err(SeriesError::Format(2))));
    assert!(matches!(SeriesGuard::from_json(8, b"{"), Err(SeriesError::Json(_))));
}

/// A job with these steps.
fn job(name: &str, steps: &[&str]) -> Run {
    let mut completed = completed_job();
    let job = completed.job.as_mut().unwrap();
    job.name = Some(name.to_owned());
    let step = job.steps[0].clone();
    job.steps = steps.iter().map(|name| Step { name: Some((*name).to_owned()), ..step.clone() }).collect();
    Tagging { detail: Detail::Steps, ..tagging() }.run(&completed, NOW)
}

#[test]
fn the_series_of_a_job_and_of_its_steps_are_those_that_a_payload_has() {
    let mut guard = SeriesGuard::new(100);
    let run = job("a", &["x", "y", "y"]);
    guard.bound(&run, NOW);
    let sent = payload(&[Slot { second: NOW, runs: vec![Arc::new(run)] }]).series.len();
    assert_eq!((sent, total(&guard)), (14, 14));
    guard.bound(&job("a", &["y"]), NOW);
    assert_eq!(total(&guard), 14, "the same step is the same series in whatever company");
    assert_eq!(SeriesGuard::from_json(100, guard.snapshot().json().as_bytes()).unwrap().count(NOW), guard.count(NOW));
    guard.forget(NOW + REMEMBERED_S + 1);
    assert_eq!((total(&guard), guard.known.len()), (0, 0));
}

#[test]
fn new_names_of_steps_beyond_the_limit_are_counted_as_one() {
    let mut guard = SeriesGuard::new(14);
    guard.bound(&job("a", &["x", "y"]), NOW);
    let run = job("a", &["q", "r", "x"]);
    let times = JobTimes { queued_ms: None, steps_ms: vec![Some(1), Some(2), Some(4)] };
    let run = Run { job: Some(times.into()), ..run };
    let bounded = guard.bound(&run, NOW);
    assert_eq!(bounded.capped.first().map(|capped| capped.key), Some("step_name"));
    let names: Vec<&str> = bounded.tag_set.steps.iter().map(|step| step[1].as_str()).collect();
    assert_eq!(names, ["step_name:other", "step_name:other", "step_name:x"]);
    assert_eq!(bounded.job.as_ref().unwrap().steps_ms, [Some(1), Some(2), Some(4)], "each keeps its time");
    assert_eq!(total(&guard), 18);
    let bounded = guard.bound(&job("b", &["x"]), NOW);
    assert!(bounded.tag_set.tags.contains(&"job_name:other".to_owned()), "{:?}", bounded.tag_set.tags);
    assert_eq!(bounded.capped.first().map(|capped| capped.key), Some("job_name"));
    let mut guard = SeriesGuard::new(14);
    guard.bound(&job("a", &["x", "y"]), NOW);
    let capped: Vec<&str> = guard.bound(&job("b", &["q"]), NOW).capped.iter().map(|capped| capped.key).collect();
    assert_eq!(capped, ["job_name", "step_name"], "each is told");
}

/// A few names, so that they meet, and any text beside them.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z]", 1 => any::text()]
}

proptest! {
    #[test]
    fn a_capped_key_takes_no_value_that_is_new_and_conclusions_stay(
        names in prop::collection::vec((name(), name(), name(), any::<bool>()), 1..60),
        max in 1..60_usize,
    ) {
        let mut guard = SeriesGuard::new(max);
        for (repository, workflow, conclusion, is_timed) in names {
            let mut completed = Completed { workflow: Some(workflow), conclusion: Some(conclusion), ..completed() };
            completed.repository.name = format!("r{repository}");
            let run = tagging().run(&completed, NOW);
            let run = Run { duration_ms: run.duration_ms.filter(|_| is_timed), ..run };
            let capped: Vec<&str> = guard.capped().collect();
            let values = guard.values.clone();
            let bounded = guard.bound(&run, NOW);
            for key in capped {
                let before = &values[key];
                prop_assert!(guard.values[key].keys().all(|value| value == OTHER || before.contains_key(value)));
            }
            let conclusions = |tag_set: &TagSet| -> Vec<String> {
                tag_set.tags.iter().filter(|tag| tag.starts_with("conclusion:")).cloned().collect()
            };
            prop_assert_eq!(conclusions(&bounded.tag_set), conclusions(&run.tag_set));
            prop_assert!(bounded.tag_set.tags.is_sorted_by(|a, b| a < b));
            let counted: usize = guard.known.iter().map(|(tag_set, seen)| seen.series(tag_set.subject)).sum();
            prop_assert_eq!(guard.count, counted);
            // Going on where a restart goes on.
            guard = SeriesGuard::from_json(max, guard.snapshot().json().as_bytes()).unwrap();
        }
    }
}
