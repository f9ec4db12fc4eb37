use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn answered(request: &'static str, verdict: &'static str, second: i64) -> Answered {
    let text = "x".repeat(5000);
    Answered { at: at(second), request, verdict, status: Some(202), text, runs: 1, points: 4, took_ms: 5 }
}

#[test]
fn the_last_deliveries_are_kept_and_no_long_text_of_them() {
    let vitals = Vitals::default();
    for second in 0..250 {
        let long = Some("🚀".repeat(10_000));
        let texts = Delivered {
            workflow: long.clone(),
            repository: long.clone(),
            guid: long.clone(),
            ..Delivered::at(at(second))
        };
        vitals.delivered(Delivered { outcome: Outcome::Accepted, url: long, ..texts });
    }
    let notes = vitals.notes();
    assert_eq!((notes.deliveries.len(), notes.deliveries[0].at), (DELIVERIES_KEPT, at(249)));
    assert_eq!(notes.deliveries[0].workflow.as_ref().unwrap().chars().count(), TEXT_MAX_CHARS);
    assert_eq!(notes.deliveries[0].url, None, "half a URL is another one");
    assert_eq!(notes.accepted_at, Some(at(249)));
    assert_eq!(notes.history(at(249)).iter().map(Span::runs).sum::<u64>(), 250);
}

#[test]
fn what_was_fetched_is_counted_as_a_run_and_is_no_sign_that_github_delivers() {
    let vitals = Vitals::default();
    let accepted = |second, way| Delivered { outcome: Outcome::Accepted, way, ..Delivered::at(at(second)) };
    vitals.delivered(accepted(1, Way::Delivered));
    vitals.delivered(accepted(2, Way::Fetched));
    let notes = vitals.notes();
    assert_eq!((notes.accepted_at, notes.delivered_at), (Some(at(1)), Some(at(1))));
    assert_eq!(notes.history(at(2)).iter().map(Span::runs).sum::<u64>(), 2);
    assert_eq!(serde_json::to_value(&notes.deliveries[0]).unwrap()["way"], "fetched");
}

#[test]
fn looks_at_githubs_logs_fail_from_the_first_failure_to_the_next_one_that_is_made() {
    let vitals = Vitals::default();
    assert!(vitals.notes().recovery.is_none(), "nobody looks");
    vitals.recovers();
    for second in [5, 6] {
        vitals.swept(at(second), Some("x".repeat(5000)), None);
    }
    let recovery = vitals.notes().recovery.unwrap();
    assert_eq!((recovery.failing_since, recovery.failed_sweeps, recovery.last_sweep_at), (Some(at(5)), 2, None));
    assert_eq!(recovery.error.unwrap().len(), TEXT_MAX_CHARS);
    vitals.holes(2, 1);
    vitals.swept(at(7), None, Some(Limits { limit: 5000, remaining: 17, reset: 9 }));
    let recovery = vitals.notes().recovery.unwrap();
    assert_eq!((recovery.failing_since, recovery.error, recovery.last_sweep_at), (None, None, Some(at(7))));
    assert_eq!((recovery.holes_found, recovery.holes_filled, recovery.requests_remaining), (2, 1, Some(17)));
}

#[test]
fn failing_begins_with_the_first_failure_and_ends_with_a_request_that_is_fine() {
    let vitals = Vitals::default();
    vitals.datadog(answered("series", "taken", 1), true);
    assert_eq!((vitals.notes().failing, vitals.notes().taken_at), (None, Some(at(1))));
    for second in [2, 3] {
        vitals.datadog(answered("series", "retry", second), false);
    }
    let notes = vitals.notes();
    assert_eq!((notes.failing, notes.taken_at), (Some(("series", at(2))), Some(at(1))));
    assert_eq!(notes.pushes, [("taken", 1), ("retry", 2)]);
    vitals.datadog(answered("validate", "taken", 4), true);
    let notes = vitals.notes();
    assert_eq!((notes.failing, notes.taken_at), (Some(("series", at(2))), Some(at(1))), "no push was taken");
    vitals.datadog(answered("series", "taken", 4), true);
    assert_eq!(vitals.notes().failing, None);
    for (second, is_fine) in [(5, false), (6, false), (7, true)] {
        vitals.datadog(answered("validate", "retry", second), is_fine);
        assert_eq!(vitals.notes().failing, (!is_fine).then_some(("validate", at(5))));
    }
    for second in 5..100 {
        vitals.datadog(answered("series", "taken", second), true);
    }
    assert_eq!(vitals.notes().answers.len(), ANSWERS_KEPT);
    assert_eq!(vitals.notes().answers[0].text.len(), TEXT_MAX_CHARS);
}

#[test]
fn a_doubt_and_a_rejection_have_the_time_of_the_last_one() {
    let vitals = Vitals::default();
    let totals = |in_doubt, rejected| Totals { pushed: 9, in_doubt, rejected };
    vitals.totals(totals(0, 0), || at(1));
    assert_eq!((vitals.notes().in_doubt_at, vitals.notes().rejected_at), (None, None));
    vitals.totals(totals(1, 0), || at(2));
    vitals.totals(totals(1, 2), || at(3));
    vitals.totals(totals(1, 2), || at(4));
    assert_eq!((vitals.notes().in_doubt_at, vitals.notes().rejected_at), (Some(at(2)), Some(at(3))));
}

#[test]
fn only_accepted_deliveries_count_into_the_latency() {
    let vitals = Vitals::default();
    for outcome in Outcome::ALL {
        vitals.answered(outcome, Duration::from_millis(3));
        assert_eq!(vitals.counts().of(outcome), 1, "{}", outcome.name());
    }
    assert_eq!(vitals.histograms()[0].get_sample_count(), 1);
}
