use super::*;
use crate::event::{Attempt, Completed, Detail, Job, Lasted, RepoName, RunId, RunKey, Step};
use datadog::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) mod any;
mod datadog;
mod jobs;
mod tags;

/// 2026-03-02T17:14:07Z.
const END: i64 = 1_772_471_647;

pub(crate) fn tagging() -> Tagging {
    Tagging {
        prefix: DEFAULT_PREFIX.to_owned(),
        branches: globset::GlobSet::empty(),
        detail: Detail::Runs,
        fold_matrix: true,
        extra: Vec::new(),
        constant: Vec::new(),
    }
}

/// A run of 61 s that has every field.
pub(crate) fn completed() -> Completed {
    let text = |text: &str| Some(text.to_owned());
    Completed {
        key: RunKey { id: RunId(30_433_642), attempt: Attempt::FIRST }.into(),
        repository: RepoName { owner: text("acme"), name: "widgets".to_owned() },
        workflow: text("CI"),
        workflow_path: text(".github/workflows/ci.yml"),
        event: text("push"),
        branch: text("main"),
        on_default_branch: true,
        conclusion: text("success"),
        sender_type: text("User"),
        sender: text("grace"),
        actor: text("ada"),
        triggering_actor: text("linus"),
        started_at: "2026-03-02T17:13:06Z".parse().ok(),
        ended_at: "2026-03-02T17:14:07Z".parse().ok(),
        url: text("https://github.com/acme/widgets/actions/runs/30433642"),
        job: None,
    }
}

/// A job of it that waited 8 s and ran for 50 s, with steps of 40 s and of 5 s, and one that was skipped.
pub(crate) fn completed_job() -> Completed {
    let text = |text: &str| Some(text.to_owned());
    let step = |name: &str, conclusion: &str, seconds: Option<u64>| Step {
        name: text(name),
        conclusion: text(conclusion),
        duration: Lasted { ms: seconds.map(|seconds| seconds * 1000), is_odd: false },
    };
    Completed {
        key: "jobs/65620941177".parse().unwrap(),
        workflow_path: None,
        event: None,
        actor: None,
        triggering_actor: None,
        started_at: "2026-03-02T17:13:17Z".parse().ok(),
        job: Some(Job {
            run: Some(RunId(30_433_642)),
            attempt: Attempt::FIRST,
            name: text("test (stable)"),
            labels: vec!["ubuntu-latest".to_owned()],
            runner: text("GitHub Actions 7"),
            runner_group: text("GitHub Actions"),
            created_at: "2026-03-02T17:13:09Z".parse().ok(),
            ran: true,
            steps: vec![
                step("Test", "success", Some(40)),
                step("Check out", "success", Some(5)),
                step("Publish", "skipped", None),
            ],
            steps_left_out: 0,
        }),
        ..completed()
    }
}

fn concluded(conclusion: Option<&str>) -> Completed {
    Completed { conclusion: conclusion.map(str::to_owned), ..completed() }
}

/// A run with the tags of all others here, that took so many milliseconds.
fn lasting(duration_ms: Option<u64>) -> Arc<Run> {
    Arc::new(Run { duration_ms, ..tagging().run(&completed(), 0) })
}

fn slot(second: i64, durations: &[Option<u64>]) -> Slot {
    Slot { second, runs: durations.iter().map(|duration| lasting(*duration)).collect() }
}

fn slot_of(run: Run) -> Slot {
    Slot { second: run.end, runs: vec![Arc::new(run)] }
}

/// Every entry as it is written: its name without the prefix, type, unit, and points.
fn table(slots: &[Slot]) -> Value {
    let payload: Value = serde_json::from_str(&payload(slots).line()).unwrap();
    assert_eq!(payload.as_object().unwrap().keys().collect::<Vec<_>>(), ["series"]);
    let row = |entry: &Value| {
        let name = entry["metric"].as_str().unwrap().strip_prefix("github.actions.workflow_run.").unwrap();
        let points = entry["points"].as_array().unwrap().iter();
        let points: Vec<Value> = points.map(|point| json!([point["timestamp"], point["value"]])).collect();
        json!([name, entry["type"], entry.get("unit"), points])
    };
    payload["series"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn a_run_makes_four_metrics_with_their_types_units_and_values() {
    let expected = json!([
        ["total", 1, null, [[END, 1.0]]],
        ["conclusion.success_total", 1, null, [[END, 1.0]]],
        ["duration_second", 3, "second", [[END, 61.0]]],
        ["duration_second_total", 1, "second", [[END, 61.0]]],
    ]);
    assert_eq!(table(&[slot_of(tagging().run(&completed(), 0))]), expected);
}

#[test]
fn the_runs_of_a_slot_are_counted_and_their_mean_and_sum_are_sent() {
    let expected = json!([
        ["total", 1, null, [[END, 2.0]]],
        ["conclusion.success_total", 1, null, [[END, 2.0]]],
        ["duration_second", 3, "second", [[END, 75.25]]],
        ["duration_second_total", 1, "second", [[END, 150.5]]],
    ]);
    assert_eq!(table(&[slot(END, &[Some(60_000), Some(90_500)])]), expected);
}

#[test]
fn a_run_without_a_start_is_counted_and_nothing_else() {
    let run = tagging().run(&Completed { started_at: None, ..completed() }, 0);
    assert_eq!((run.end, run.duration_ms), (END, None));
    let expected = json!([["total", 1, null, [[END, 1.0]]], ["conclusion.success_total", 1, null, [[END, 1.0]]]]);
    assert_eq!(table(&[slot_of(run)]), expected);
}

#[test]
fn the_mean_of_a_slot_is_that_of_its_timed_runs() {
    let expected = json!([
        ["total", 1, null, [[END, 3.0]]],
        ["conclusion.success_total", 1, null, [[END, 3.0]]],
        ["duration_second", 3, "second", [[END, 20.0]]],
        ["duration_second_total", 1, "second", [[END, 40.0]]],
    ]);
    assert_eq!(table(&[slot(END, &[Some(10_000), None, Some(30_000)])]), expected);
}

#[test]
fn a_run_without_an_end_ends_when_it_is_accepted_and_is_not_timed() {
    let run = tagging().run(&Completed { ended_at: None, ..completed() }, END + 5);
    assert_eq!((run.end, run.duration_ms), (END + 5, None));
    let timed = tagging().run(&completed(), END + 5);
    assert_eq!(timed.end, END, "an end that GitHub told is not replaced");
}

#[test]
fn a_duration_has_milliseconds_and_is_never_below_zero() {
    let of = |start: &str, end: &str| {
        let run = Completed { started_at: start.parse().ok(), ended_at: end.parse().ok(), ..completed() };
        tagging().run(&run, 0)
    };
    let run = of("2026-03-02T17:13:06.250Z", "2026-03-02T18:14:07.750+01:00");
    assert_eq!((run.end, run.duration_ms), (END, Some(61_500)));
    let backwards = of("2026-03-02T17:14:08Z", "2026-03-02T17:14:07Z");
    assert_eq!(backwards.duration_ms, Some(0));
    assert_eq!(table(&[slot_of(backwards)])[2], json!(["duration_second", 3, "second", [[END, 0.0]]]));
}

/// The tag and the metric of a conclusion.
fn conclusion_of(conclusion: Option<&str>) -> (String, String) {
    let run = tagging().run(&concluded(conclusion), 0);
    let tag = run.tag_set.tags.iter().find(|tag| tag.starts_with("conclusion:")).unwrap().clone();
    (tag, table(&[slot_of(run)])[1][0].as_str().unwrap().to_owned())
}

#[test]
fn a_conclusion_that_is_missing_or_of_which_nothing_is_left_is_unknown() {
    for nothing in [None, Some("\u{1f680}"), Some("__:")] {
        let (tag, metric) = conclusion_of(nothing);
        assert_eq!((tag.as_str(), metric.as_str()), ("conclusion:unknown", "conclusion.unknown_total"), "{nothing:?}");
    }
}

#[test]
fn an_unknown_conclusion_passes_through_in_tag_form_and_its_metric_is_ascii() {
    for (conclusion, tag, metric) in [
        ("startup_failure", "conclusion:startup_failure", "conclusion.startup_failure_total"),
        ("Half Done", "conclusion:half_done", "conclusion.half_done_total"),
        ("v1.2/beta-3", "conclusion:v1.2/beta-3", "conclusion.v1_2_beta_3_total"),
        ("Échec", "conclusion:échec", "conclusion._chec_total"),
    ] {
        assert_eq!(conclusion_of(Some(conclusion)), (tag.to_owned(), metric.to_owned()));
    }
}

#[test]
fn no_metrics_name_is_longer_than_datadog_takes() {
    let tagging = Tagging { prefix: "p".repeat(120), ..tagging() };
    let run = tagging.run(&concluded(Some(&"c".repeat(500))), 0);
    let names: Vec<String> = payload(&[slot_of(run)]).series.into_iter().map(|entry| entry.metric).collect();
    assert_eq!(names.iter().map(String::len).max(), Some(METRIC_NAME_MAX_CHARS));
    assert!(names[1].starts_with(&format!("{}.workflow_run.conclusion.ccc", tagging.prefix)));
    assert!(names[1].ends_with("ccc_total"));
}

#[test]
fn the_seconds_of_a_tag_set_share_an_entry_a_metric() {
    let slots = [slot(END, &[Some(1000)]), slot(END + 1, &[None]), slot(END + 9, &[Some(3000), Some(4000)])];
    let expected = json!([
        ["total", 1, null, [[END, 1.0], [END + 1, 1.0], [END + 9, 2.0]]],
        ["conclusion.success_total", 1, null, [[END, 1.0], [END + 1, 1.0], [END + 9, 2.0]]],
        ["duration_second", 3, "second", [[END, 1.0], [END + 9, 3.5]]],
        ["duration_second_total", 1, "second", [[END, 1.0], [END + 9, 7.0]]],
    ]);
    assert_eq!(table(&slots), expected);
}

#[test]
fn each_tag_set_has_entries_of_its_own() {
    let slots = [None, Some("success")].map(|conclusion| slot_of(tagging().run(&concluded(conclusion), 0)));
    let series = payload(&slots).series;
    assert_eq!(series.len(), 8);
    let tags: BTreeSet<&[String]> = series.iter().map(|entry| entry.tags.as_slice()).collect();
    assert_eq!(tags, slots.iter().map(|slot| slot.tag_set().unwrap().tags.as_slice()).collect());
    assert!(payload(&[]).series.is_empty());
}

#[test]
fn the_payload_of_a_slot_is_the_same_to_the_last_byte() {
    let run = Completed { started_at: None, conclusion: None, sender_type: None, ..completed() };
    let tags = r#"["branch:main","conclusion:unknown","default_branch:true","event:push","repository_name:widgets","repository_owner:acme","workflow_name:ci"]"#;
    let entry = |name: &str| {
        format!(
            r#"{{"metric":"github.actions.workflow_run.{name}","type":1,"points":[{{"timestamp":{END},"value":1.0}}],"tags":{tags}}}"#
        )
    };
    let expected = format!(r#"{{"series":[{},{}]}}"#, entry("total"), entry("conclusion.unknown_total"));
    assert_eq!(payload(&[slot_of(tagging().run(&run, 0))]).line(), expected);
    let thirds = [slot(END, &[Some(1000), Some(1000), Some(2001)])];
    assert!(payload(&thirds).line().contains(r#""unit":"second"},"#));
    assert!(
        payload(&thirds).line().contains(&format!(r#""points":[{{"timestamp":{END},"value":1.3336666666666668}}]"#))
    );
}

#[test]
fn a_type_that_we_do_not_send_does_not_read_back() {
    let line = payload(&[slot(END, &[Some(1)])]).line();
    assert!(serde_json::from_str::<MetricPayload>(&line).is_ok());
    for number in ["0", "2", "4", "\"count\""] {
        let odd = line.replace(r#""type":3"#, &format!(r#""type":{number}"#));
        assert_ne!(odd, line);
        assert!(serde_json::from_str::<MetricPayload>(&odd).is_err(), "{number}");
    }
}

/// The payload is what Datadog describes, with a type that fits each metric and without a host.
fn assert_is_as_described(payload: &MetricPayload) {
    let line = payload.line();
    let read: datadog::Payload = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    for series in &read.series {
        let kind = if series.metric.ends_with("duration_second") { Kind::Gauge } else { Kind::Count };
        assert_eq!((series.kind, &series.resources), (kind, &None), "{}", series.metric);
    }
    assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::from_str::<Value>(&line).unwrap());
}

#[test]
fn every_field_of_a_payload_is_one_that_datadog_describes() {
    assert_is_as_described(&payload(&[slot(END, &[Some(1000), None]), slot(END + 1, &[Some(u64::MAX)])]));
}

/// Runs of some tag sets, each with its offset in seconds and its duration.
type Load = Vec<(Completed, Vec<(i64, Option<u64>)>)>;

fn load(all_timed: bool) -> impl Strategy<Value = Load> {
    let duration = prop::option::of(prop_oneof![0..90_000_000_u64, any::<u64>()]);
    let duration = duration.prop_map(move |duration| duration.or(all_timed.then_some(1)));
    let completed = if all_timed { any::completed_run().boxed() } else { any::completed().boxed() };
    prop::collection::vec((completed, prop::collection::vec((0..60_i64, duration), 1..30)), 1..8)
}

fn slots(load: &Load) -> Vec<Slot> {
    let mut slots: BTreeMap<(Arc<TagSet>, i64), Vec<Arc<Run>>> = BTreeMap::new();
    for (completed, runs) in load {
        let plain = Tagging { detail: Detail::Steps, ..tagging() }.run(completed, 0);
        let tag_set = Arc::clone(&plain.tag_set);
        for (offset, duration_ms) in runs {
            let end = END + offset;
            let run = Run { end, duration_ms: *duration_ms, ..plain.tagged(Arc::clone(&tag_set), plain.job.clone()) };
            slots.entry((Arc::clone(&tag_set), end)).or_default().push(Arc::new(run));
        }
    }
    slots.into_iter().map(|((_, second), runs)| Slot { second, runs }).collect()
}

/// What a batch counts while it is planned, with the brackets around its entries.
fn planned_bytes(slots: &[Slot]) -> usize {
    let tag_sets: BTreeSet<&Arc<TagSet>> = slots.iter().filter_map(Slot::tag_set).collect();
    let entries: usize = tag_sets.into_iter().map(|tag_set| entries_bytes(tag_set)).sum();
    let points = slots.iter().map(|slot| {
        let mut totals = Totals::default();
        slot.runs.iter().for_each(|run| totals.add(run));
        totals.points_bytes(slot.tag_set().unwrap(), slot.second)
    });
    payload(&[]).line().len() + entries + points.sum::<usize>()
}

#[test]
fn a_full_batch_is_hardly_smaller_than_planned() {
    let named = |name: usize| {
        let repository = RepoName { owner: None, name: format!("w{name:03}") };
        Completed { repository, workflow: None, event: None, sender_type: None, ..completed() }
    };
    let slots: Vec<Slot> = (0..500).map(|name| slot_of(tagging().run(&named(name), 0))).collect();
    let bytes = payload(&slots).line().len();
    assert!((bytes..=bytes + bytes / 100).contains(&planned_bytes(&slots)), "{bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_payload_is_never_larger_than_planned(load in load(false)) {
        let slots = slots(&load);
        prop_assert!(payload(&slots).line().len() <= planned_bytes(&slots));
    }

    #[test]
    fn where_all_runs_are_timed_a_payload_is_hardly_smaller_than_planned(load in load(true)) {
        let slots = slots(&load);
        let bytes = payload(&slots).line().len();
        let planned = planned_bytes(&slots);
        prop_assert!(planned - bytes <= bytes / 100 + 100, "{planned} planned, {bytes} sent");
    }

    #[test]
    fn any_runs_make_a_payload_as_datadog_describes_it(load in load(false)) {
        let slots = slots(&load);
        let payload = payload(&slots);
        assert_is_as_described(&payload);
        for entry in &payload.series {
            prop_assert!(entry.metric.len() <= METRIC_NAME_MAX_CHARS);
            let is_known = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || "_.".contains(char);
            prop_assert!(entry.metric.chars().all(is_known), "{}", entry.metric);
            prop_assert!(entry.points.iter().all(|point| point.value.is_finite()));
            prop_assert!(entry.points.is_sorted_by(|a, b| a.timestamp < b.timestamp));
        }
        let named: BTreeSet<_> = payload.series.iter().map(|entry| (&entry.metric, &entry.tags)).collect();
        prop_assert_eq!(named.len(), payload.series.len(), "an entry a metric and tag set");
    }

    #[test]
    fn the_counts_of_a_payload_are_those_of_its_runs(load in load(false)) {
        let slots = slots(&load);
        let payload = payload(&slots);
        let sum = |part: &str| -> f64 {
            let entries = payload.series.iter().filter(|entry| entry.metric.contains(part));
            entries.flat_map(|entry| &entry.points).map(|point| point.value).sum()
        };
        let runs = slots.iter().map(|slot| slot.runs.len()).sum::<usize>().to_string();
        prop_assert_eq!((sum("workflow_run.total") + sum(".job.total")).to_string(), runs.as_str());
        prop_assert_eq!((sum("workflow_run.conclusion.") + sum(".job.conclusion.")).to_string(), runs.as_str());
        let runs = slots.iter().flat_map(|slot| &slot.runs);
        let steps = runs.map(|run| run.steps_ms().len()).sum::<usize>().to_string();
        prop_assert_eq!((sum(".step.total") + 0.0).to_string(), steps.as_str());
        prop_assert_eq!((sum(".step.conclusion.") + 0.0).to_string(), steps.as_str());
    }

    #[test]
    fn any_run_reads_back_from_its_json(completed in any::completed(), accepted_at: u32) {
        let run = Tagging { detail: Detail::Steps, ..tagging() }.run(&completed, accepted_at.into());
        let json = serde_json::to_string(&run).unwrap();
        prop_assert_eq!(serde_json::from_str::<Run>(&json).unwrap(), run);
    }
}
