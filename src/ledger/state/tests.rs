use super::*;
use crate::metrics::{self, JobTimes};
use proptest::prelude::*;

const NOW: i64 = 1_796_000_000;

fn run(id: u64, end: i64, workflow: &str) -> Arc<Run> {
    let tags = vec!["conclusion:success".to_owned(), format!("workflow_name:{workflow}")];
    let tag_set = Arc::new(TagSet::of_runs("github.actions".to_owned(), tags));
    Arc::new(Run { key: id.to_string().parse().unwrap(), end, duration_ms: Some(1000), job: None, tag_set })
}

fn state(runs: impl IntoIterator<Item = Arc<Run>>) -> State {
    let mut state = State::new(NOW - 100_000);
    for run in runs {
        state.apply(Record::Accept(run)).unwrap();
    }
    state
}

fn all() -> Choice {
    Choice::Except(HashSet::new())
}

/// Plans and seals; the seconds and how many runs each has.
fn seal(state: &mut State, now: i64) -> Vec<(i64, usize)> {
    let slots = state.plan(now, 500_000, &all()).unwrap_or_default();
    let seconds = slots.iter().map(|slot| (slot.second, slot.keys.len())).collect();
    state.apply(Record::Seal { at: now, sent: 0, slots }).unwrap();
    seconds
}

#[test]
fn a_run_takes_its_own_end() {
    assert_eq!(seal(&mut state([run(1, NOW - 1800, "ci")]), NOW), [(NOW - 1800, 1)]);
    assert_eq!(seal(&mut state([run(1, NOW, "ci")]), NOW), [(NOW, 1)]);
}

#[test]
fn an_end_more_than_half_an_hour_ago_or_in_the_future_counts_as_now() {
    for end in [NOW - 1801, NOW - 90_000, NOW + 1, NOW + 90_000] {
        assert_eq!(seal(&mut state([run(1, end, "ci")]), NOW), [(NOW, 1)], "{end}");
    }
}

#[test]
fn runs_of_one_batch_on_the_same_second_share_the_slot_and_other_tags_have_their_own() {
    let mut state =
        state([run(1, NOW - 5, "ci"), run(2, NOW - 5, "ci"), run(3, NOW - 5, "nightly"), run(4, NOW - 9, "ci")]);
    assert_eq!(seal(&mut state, NOW), [(NOW - 9, 1), (NOW - 5, 2), (NOW - 5, 1)]);
}

#[test]
fn a_later_batch_uses_only_seconds_after_those_of_earlier_ones() {
    let mut state = state([run(1, NOW - 5, "ci")]);
    seal(&mut state, NOW);
    for (id, expected) in [(2, NOW - 4), (3, NOW - 3)] {
        state.apply(Record::Accept(run(id, NOW - 20, "ci"))).unwrap();
        assert_eq!(seal(&mut state, NOW), [(expected, 1)]);
    }
    state.apply(Record::Accept(run(4, NOW - 20, "nightly"))).unwrap();
    assert_eq!(seal(&mut state, NOW), [(NOW - 20, 1)]);
}

#[test]
fn a_second_after_now_is_not_used_but_waited_for() {
    let mut state = state([run(1, NOW, "ci")]);
    seal(&mut state, NOW);
    state.apply(Record::Accept(run(2, NOW, "ci"))).unwrap();
    state.apply(Record::Accept(run(3, NOW, "nightly"))).unwrap();
    assert_eq!(seal(&mut state, NOW), [(NOW, 1)], "another tag set does not wait");
    assert_eq!(state.plan(NOW, 500_000, &all()), None);
    assert_eq!(seal(&mut state, NOW + 1), [(NOW + 1, 1)]);
}

#[test]
fn no_second_before_the_journals_birth_is_used() {
    let mut state = State::new(NOW - 3);
    state.apply(Record::Accept(run(1, NOW - 100, "ci"))).unwrap();
    assert_eq!(seal(&mut state, NOW), [(NOW - 3, 1)]);
    let mut ahead = State::new(NOW + 86_400);
    ahead.apply(Record::Accept(run(1, NOW - 100, "ci"))).unwrap();
    assert_eq!(seal(&mut ahead, NOW), [(NOW, 1)], "a birth after now says only that the clock was ahead");
}

#[test]
fn a_batch_is_sealed_at_its_limit_in_the_order_of_acceptance() {
    let state = state((0..100).map(|id| run(id, NOW - 5, &format!("w{id:02}"))));
    let slots = state.plan(NOW, 10_000, &all()).unwrap();
    let batch: Vec<Slot> = slots
        .iter()
        .map(|slot| Slot { second: slot.second, runs: vec![Arc::clone(&state.waiting[&state.pending[&slot.keys[0]]])] })
        .collect();
    let bytes = metrics::payload(&batch).line().len();
    assert!((9_000..=10_000).contains(&bytes), "{bytes}");
    assert!(
        slots.iter().flat_map(|slot| &slot.keys).all(|key| key.to_string().parse::<usize>().unwrap() < slots.len())
    );
    assert_eq!(state.plan(NOW, 1, &all()).unwrap().len(), 1, "a single slot goes whatever its size");
}

#[test]
fn what_waits_behind_a_full_batch_makes_no_difference_to_it() {
    let plan = |runs| {
        let state = state((0..runs).map(|id| run(id, NOW - 5, &format!("w{:02}", id % 70))));
        state.plan_within(NOW, 10_000, &all())
    };
    let (slots, looked_at) = plan(100);
    assert!(looked_at.is_some_and(|runs| runs < 100), "{looked_at:?}");
    assert_eq!(plan(looked_at.unwrap() as u64), (slots, looked_at));
    assert_eq!(plan(5).1, None);
}

#[test]
fn one_slot_of_ten_thousand_runs_is_planned_at_once() {
    let state = state((0..10_000).map(|id| run(id, 0, "ci")));
    let slots = state.plan(NOW, 500_000, &all()).unwrap();
    assert_eq!((slots.len(), slots[0].keys.len()), (1, 10_000));
}

#[test]
fn a_choice_takes_only_or_leaves_out() {
    let state = state([run(1, NOW, "ci"), run(2, NOW, "ci")]);
    let one = || HashSet::from([run(1, 0, "").key]);
    let keys = |choice| state.plan(NOW, 500_000, &choice).unwrap()[0].keys.clone();
    assert_eq!(keys(Choice::Only(one())), [run(1, 0, "").key]);
    assert_eq!(keys(Choice::Except(one())), [run(2, 0, "").key]);
}

#[test]
fn used_seconds_are_kept_until_no_run_can_be_given_them_again() {
    let mut state = state([run(1, NOW, "ci")]);
    seal(&mut state, NOW);
    state.settle(&[run(1, 0, "").key]);
    let has_last = |now| state.records(now, 1).any(|record| matches!(record, Record::Last { .. }));
    assert!(has_last(Some(NOW + LAST_KEPT_S - 1)));
    assert!(has_last(None), "without a date nothing is forgotten");
    assert!(!has_last(Some(NOW + LAST_KEPT_S)));
}

#[test]
fn a_new_journal_has_the_runs_in_the_order_of_their_acceptance_sealed_or_not() {
    let mut state = state((1..=6).map(|id| run(id, NOW, if id % 2 == 0 { "ci" } else { "release" })));
    let keys = |state: &State| -> Vec<String> {
        let accepted = state.records(None, 0).filter_map(|record| match record {
            Record::Accept(run) => Some(run.key.to_string()),
            _ => None,
        });
        accepted.collect()
    };
    let in_order = ["1", "2", "3", "4", "5", "6"];
    assert_eq!(keys(&state), in_order);
    let only = HashSet::from([2, 4, 5].map(|id| run(id, 0, "").key));
    let slots = state.plan(NOW, 500_000, &Choice::Only(only)).unwrap();
    state.apply(Record::Seal { at: NOW, sent: 0, slots }).unwrap();
    assert_eq!(keys(&state), in_order);
    state.settle(&[run(4, 0, "").key]);
    assert_eq!(keys(&state), ["4", "1", "2", "3", "5", "6"], "its slot is sent whole");
}

/// A run that is counted at its own time, however long ago.
fn historical(id: u64, end: i64) -> Arc<Run> {
    let tags = vec!["backfill:2026-01-01".to_owned(), "conclusion:success".to_owned()];
    let tag_set = Arc::new(TagSet::of_runs("github.actions".to_owned(), tags));
    Arc::new(Run { key: id.to_string().parse().unwrap(), end, duration_ms: None, job: None, tag_set })
}

#[test]
fn a_historical_run_takes_its_own_end_however_long_ago_and_before_the_journals_birth() {
    let mut state =
        state([historical(1, NOW - 9_000_000), historical(2, NOW - 9_000_000), historical(3, NOW - 5_000_000)]);
    assert_eq!(seal(&mut state, NOW), [(NOW - 9_000_000, 2), (NOW - 5_000_000, 1)]);
    let mut state = self::state([historical(1, NOW + 5), historical(2, NOW - 60)]);
    assert_eq!(seal(&mut state, NOW), [(NOW - 60, 1), (NOW, 1)], "the future is not history");
}

#[test]
fn no_second_of_a_historical_tag_set_is_used_twice_however_long_ago_it_was_used() {
    let mut state = state([historical(1, NOW - 9_000_000)]);
    assert_eq!(seal(&mut state, NOW), [(NOW - 9_000_000, 1)]);
    state.settle(&["1".parse().unwrap()]);
    let mut after_compaction = State::default();
    for record in state.records(Some(NOW + 999_999), 1) {
        after_compaction.apply(record).unwrap();
    }
    state.forget_old(Some(NOW + 999_999));
    for mut state in [state, after_compaction] {
        state.apply(Record::Accept(historical(2, NOW - 9_000_000))).unwrap();
        assert_eq!(seal(&mut state, NOW), [(NOW - 8_999_999, 1)]);
    }
}

#[test]
fn records_that_contradict_each_other_are_told() {
    let mut state = state([run(1, NOW, "ci")]);
    let keys = vec!["9".parse().unwrap()];
    let slots = vec![SealedSlot { second: NOW, keys: keys.clone() }];
    assert!(state.apply(Record::Seal { at: NOW, sent: 0, slots }).is_err());
    assert!(state.apply(Record::Reject { keys }).is_err());
}

proptest! {
    /// Whatever comes in whatever order, with whatever clock: one series-second belongs to one batch.
    #[test]
    fn no_second_is_given_twice_to_one_tag_set(
        steps in proptest::collection::vec((-4000_i64..1000, 0_u8..3, 0_u8..4, 0_i64..90), 1..120),
    ) {
        let mut state = State::new(NOW - 500);
        let mut now = NOW;
        let mut used = HashSet::new();
        for (id, (end, workflow, what, passed)) in steps.into_iter().enumerate() {
            let (conclusion, step) = (["success", "failure"][id % 2], ["build", "test"][id / 2 % 2]);
            let accepted = match workflow {
                0 => job(id as u64, now + end, conclusion, step),
                other => run(id as u64, now + end, &other.to_string()),
            };
            state.apply(Record::Accept(accepted)).unwrap();
            now += passed - 5;
            if what == 0 {
                let Some(slots) = state.plan(now, 2_000, &all()) else { continue };
                let keys: Vec<Key> = slots.iter().flat_map(|slot| slot.keys.clone()).collect();
                state.apply(Record::Seal { at: now, sent: 0, slots }).unwrap();
                for slot in &state.batch().unwrap().slots {
                    prop_assert!(slot.second <= now);
                    prop_assert!(used.insert((Arc::clone(state.family(slot.tag_set().unwrap())), slot.second)));
                }
                if id % 2 == 0 {
                    state.apply(Record::Unseal { keys, in_doubt: true }).unwrap();
                } else {
                    state.settle(&keys);
                }
            } else if what == 1 {
                // A restart from a compacted journal.
                let records: Vec<Record> = state.records(Some(now), 0).collect();
                state = State::default();
                for record in records {
                    state.apply(record).unwrap();
                }
            }
        }
    }
}

/// A job of one workflow with a step of this name and end.
fn job(id: u64, end: i64, conclusion: &str, step: &str) -> Arc<Run> {
    let tags = vec![format!("conclusion:{conclusion}"), "job_name:test".to_owned()];
    let steps = vec![vec![format!("conclusion:{conclusion}"), format!("step_name:{step}")]];
    let tag_set = TagSet { prefix: "github.actions".to_owned(), subject: Subject::Job, tags, steps };
    let key = format!("jobs/{id}").parse().unwrap();
    let times = JobTimes { queued_ms: Some(500), steps_ms: vec![Some(900)] };
    Arc::new(Run { key, end, duration_ms: Some(1000), job: Some(times.into()), tag_set: Arc::new(tag_set) })
}

#[test]
fn jobs_that_may_have_series_in_common_are_never_counted_on_one_second() {
    let mut state = state([
        job(1, NOW - 9, "success", "build"),
        job(2, NOW - 9, "failure", "build"),
        job(3, NOW - 9, "success", "build"),
        job(4, NOW - 9, "success", "test"),
        job(5, NOW - 8, "success", "build"),
        run(6, NOW - 9, "ci"),
    ]);
    let slots = state.plan(NOW, 500_000, &all()).unwrap();
    let mut planned: Vec<(i64, Vec<String>)> =
        slots.iter().map(|slot| (slot.second, slot.keys.iter().map(ToString::to_string).collect())).collect();
    planned.sort();
    let expected = [
        (-9, vec!["6"]),
        (-9, vec!["jobs/1", "jobs/3"]),
        (-8, vec!["jobs/2"]),
        (-7, vec!["jobs/4"]),
        (-6, vec!["jobs/5"]),
    ];
    let expected = expected.map(|(at, keys)| (NOW + at, keys.into_iter().map(str::to_owned).collect::<Vec<_>>()));
    assert_eq!(planned, expected);
    state.apply(Record::Seal { at: NOW, sent: 0, slots }).unwrap();
    state.settle(&state.pending_keys().collect::<Vec<_>>());
    state.apply(Record::Accept(job(7, NOW - 9, "cancelled", "build"))).unwrap();
    assert_eq!(seal(&mut state, NOW), [(NOW - 5, 1)], "after the last second of any of them");
}

#[test]
fn a_job_waits_where_the_second_of_now_is_taken_by_another_of_its_family() {
    let mut state = state([job(1, NOW, "success", "build"), job(2, NOW, "failure", "build")]);
    assert_eq!(seal(&mut state, NOW), [(NOW, 1)]);
    state.settle(&state.pending_keys().take(1).collect::<Vec<_>>());
    assert_eq!(state.plan(NOW, 500_000, &all()), None);
    assert_eq!(state.plan(NOW + 1, 500_000, &all()).unwrap()[0].second, NOW + 1);
}

#[test]
fn the_family_of_jobs_is_remembered_over_a_new_journal_and_forgotten_when_it_is_old() {
    let mut before = state([job(1, NOW - 9, "success", "build")]);
    seal(&mut before, NOW);
    before.settle(&before.pending_keys().collect::<Vec<_>>());
    let mut after = State::default();
    before.records(Some(NOW), 1).for_each(|record| after.apply(record).unwrap());
    drop(before);
    after.apply(Record::Accept(job(2, NOW - 9, "failure", "test"))).unwrap();
    assert_eq!(seal(&mut after, NOW), [(NOW - 8, 1)]);
    after.settle(&after.pending_keys().collect::<Vec<_>>());
    after.forget_old(Some(NOW + LAST_KEPT_S + 9));
    assert_eq!((after.last.len(), after.tag_sets.len()), (0, 0), "{:?}", after.tag_sets);
}
