//! Lost answers, late landings, outages, restarts, and clocks that are apart.

use super::{HOUR, Line, TOTAL};
use crate::{
    harness::{now, sent},
    intake::Order,
    logged,
};
use std::time::Duration;

#[actix_web::test]
async fn a_lost_answer_is_repeated_unchanged() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order_many([Order::StoreThenDrop, Order::StoreThenStatus(503)]);
    line.go().await;
    line.accept(2, "ci").await;
    line.go_on_for(HOUR).await;
    line.assert_exact(2);
    assert_eq!(line.totals().in_doubt, 0);
}

#[actix_web::test]
async fn requests_that_land_minutes_after_the_answers_to_their_repetitions_change_nothing() {
    let mut line = Line::new();
    let end = now() - 10;
    // Two batches of one tag set, for whose runs the same second is as good. The first try of each is on its way still.
    for ids in [&[1][..], &[2, 3]] {
        line.intake.order(Order::StoreLater);
        for id in ids {
            line.accept_ended(*id, "ci", end).await;
        }
        line.go_on_for(HOUR).await;
    }
    assert_eq!((line.pushes(), line.pending().await), (4, 0), "each was repeated, and that was answered");
    line.assert_exact(3);
    line.pass(Duration::from_secs(420));
    line.accept_ended(4, "ci", end).await;
    line.go_on_for(HOUR).await;
    assert!(line.passed() >= 420, "minutes later");
    line.intake.land_late_in_reverse();
    line.assert_exact(4);
    assert_eq!(line.totals().in_doubt, 0);
}

#[actix_web::test]
async fn a_restart_before_the_mark_repeats_the_batch_as_it_was_sealed() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order(Order::StoreThenDrop);
    line.go().await;
    line.accept(2, "ci").await;
    line.restart();
    line.go_on_for(HOUR).await;
    line.assert_exact(2);
    let sent = line.intake.requests();
    assert_eq!(sent[0].unpacked, sent[1].unpacked);
    assert_eq!(line.totals().in_doubt, 0);
}

#[actix_web::test]
async fn after_20_minutes_without_datadog_runs_keep_their_seconds() {
    for is_answer_lost in [false, true] {
        let mut line = Line::new();
        line.accept(1, "ci").await;
        line.go().await;
        let mut ends = Vec::new();
        for id in 2..6 {
            ends.push(now() + line.passed() - 10);
            line.accept(id, "ci").await;
            if is_answer_lost && id == 2 {
                line.intake.order(Order::StoreThenDrop);
                line.go().await;
                assert_eq!(line.intake.count(TOTAL), 2.0, "it was taken, and nobody knows");
            }
            line.intake.stop();
            line.go_on_for(Duration::from_secs(300)).await;
        }
        assert!(line.passed() >= 1200);
        line.intake.restart();
        line.go_on_for(HOUR).await;
        line.assert_exact(5);
        let stored = line.intake.stored();
        for end in ends {
            assert!(stored.keys().any(|(metric, _, second)| metric == TOTAL && (second - end).abs() <= 2), "{end}");
        }
        assert_eq!((line.totals().in_doubt, line.pending().await), (0, 0));
    }
}

/// Runs come in while Datadog is away for so many minutes.
async fn be_away(line: &mut Line, minutes: u64) {
    line.intake.stop();
    for id in 2..5 {
        line.accept(id, "ci").await;
        line.go_on_for(Duration::from_secs(minutes * 20)).await;
    }
    assert!(line.passed() >= i64::try_from(minutes).unwrap() * 60);
    line.intake.restart();
    line.go_on_for(HOUR).await;
}

#[actix_web::test]
async fn after_90_minutes_or_a_day_without_a_connection_totals_are_exact_and_nothing_is_in_doubt() {
    for minutes in [90, 24 * 60] {
        let mut line = Line::new();
        line.accept(1, "ci").await;
        line.go().await;
        be_away(&mut line, minutes).await;
        line.assert_exact(4);
        assert_eq!((line.totals().in_doubt, line.pending().await), (0, 0));
        assert!(line.intake.dropped().is_empty());
    }
}

#[actix_web::test]
async fn a_lost_answer_before_90_minutes_or_a_day_leaves_its_runs_in_doubt_and_loses_none() {
    for minutes in [90, 24 * 60] {
        let mut line = Line::new();
        line.accept(1, "ci").await;
        line.intake.order(Order::StoreThenDrop);
        line.go().await;
        be_away(&mut line, minutes).await;
        // The one way to count twice: run 1, and it is told. Four runs, and that one once more.
        line.assert_exact(5);
        assert_eq!((line.totals().in_doubt, line.pending().await), (1, 0));
        assert_eq!(logged::count("in doubt, may be counted twice: 1"), 1);
        assert!(line.intake.dropped().is_empty());
    }
}

#[actix_web::test]
async fn after_a_restart_an_old_batch_is_in_doubt() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order(Order::status(503));
    line.go().await;
    line.pass(Duration::from_secs(3000));
    line.restart();
    line.go_on_for(HOUR).await;
    line.assert_exact(1);
    assert_eq!((line.totals().in_doubt, line.pending().await), (1, 0));
}

#[actix_web::test]
async fn what_is_counted_at_its_own_time_is_repeated_as_it_stands_after_any_outage() {
    let mut line = Line::new();
    line.intake.keep_history(true);
    line.accept(1, "ci").await;
    line.go().await;
    let long_ago = now() - 90_000;
    line.accept_tagged(2, &["backfill:2026-01-01", "conclusion:success"], long_ago).await;
    line.accept(3, "ci").await;
    // Both are taken, and nobody knows.
    line.intake.order(Order::StoreThenDrop);
    line.go().await;
    line.intake.stop();
    line.go_on_for(2 * HOUR).await;
    line.intake.restart();
    line.go_on_for(HOUR).await;
    let historical = |(metric, tags, second): &(String, Vec<String>, i64)| {
        (metric == TOTAL && tags.contains(&"backfill:2026-01-01".to_owned())).then_some(*second)
    };
    assert_eq!(line.intake.stored().keys().filter_map(historical).collect::<Vec<_>>(), [long_ago]);
    assert_eq!((line.totals().in_doubt, line.pending().await), (1, 0), "the other one goes again, at another second");
}

#[actix_web::test]
async fn a_2xx_is_not_believed_for_a_second_outside_the_window() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order(Order::status(503));
    let wait = line.go().await.unwrap();
    // Datadog's clock turns out to be two hours on, so the point was dropped, with a 202.
    line.pass(wait);
    line.intake.set_clock_offset(line.passed() + 7200);
    line.go().await;
    assert_eq!(line.intake.dropped().len(), 4);
    line.assert_exact(1);
    assert_eq!((line.totals().in_doubt, line.pending().await), (1, 0));
}

#[actix_web::test]
async fn while_the_mark_cannot_be_written_only_the_mark_is_retried() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    let cache = line.dir.path().join("sent-workflows.json");
    std::fs::write(&cache, "{\"sent\": [").unwrap();
    assert_eq!(line.go().await, Some(Duration::from_secs(1)));
    line.accept(2, "nightly").await;
    for _ in 0..3 {
        let wait = line.go().await.unwrap();
        line.pass(wait);
    }
    assert_eq!((line.pushes(), line.pending().await), (1, 2));
    std::fs::write(&cache, "{\"sent\": []}").unwrap();
    line.go_on_for(HOUR).await;
    line.assert_exact(2);
    assert_eq!(sent(&cache), ["1", "2"]);
}

#[actix_web::test]
async fn a_backlog_goes_out_in_batches_within_datadogs_limits() {
    let mut line = Line::new();
    for id in 0..600 {
        line.accept(id, &format!("{}{id}", "long workflow name ".repeat(9).replace(' ', "_"))).await;
    }
    line.go_on_for(HOUR).await;
    line.assert_exact(600);
    let sizes: Vec<usize> = line.intake.requests().iter().map(|request| request.unpacked.len()).collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= 500_000), "{sizes:?}");
}
