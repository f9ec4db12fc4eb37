//! What each kind of answer leads to, a row a test.

use super::{HOUR, Line, TOTAL};
use crate::{
    harness::{SECRET, Start, now, program, sent},
    intake::{Order, Received, TEST_KEY},
    logged,
};
use std::time::Duration;

#[actix_web::test]
async fn what_is_taken_is_marked_and_not_sent_again() {
    let mut line = Line::new();
    for id in 0..5 {
        line.accept(id, if id < 3 { "ci" } else { "nightly" }).await;
    }
    assert_eq!(line.go().await, None);
    line.assert_exact(5);
    assert_eq!((line.pushes(), line.pending().await), (1, 0));
    assert_eq!(line.totals().pushed, 5);
}

#[actix_web::test]
async fn nothing_is_sealed_before_datadog_has_told_the_time_whatever_its_status() {
    let mut line = Line::new();
    line.intake.stop();
    line.accept(1, "ci").await;
    assert_eq!(line.go().await, Some(Duration::from_secs(1)));
    let journal = std::fs::read_to_string(line.dir.path().join("journal.jsonl")).unwrap();
    assert!(!journal.contains("\"seal\""));
    line.intake.restart();
    line.intake.set_validate(Some(503));
    line.go_on_for(HOUR).await;
    line.assert_exact(1);
    assert_eq!(line.intake.validations(), 1);
}

#[actix_web::test]
async fn seconds_are_those_of_datadogs_clock() {
    let mut line = Line::new();
    let two_hours_ahead = 7200;
    line.intake.set_clock_offset(two_hours_ahead);
    line.accept_ended(1, "ci", now()).await;
    line.go().await;
    line.assert_exact(1);
    let ((_, _, second), _) = line.intake.stored().into_iter().next().unwrap();
    assert!((second - now() - two_hours_ahead).abs() <= 5);
    assert_eq!(line.totals().in_doubt, 0);
}

#[actix_web::test]
async fn an_answer_without_a_date_leaves_the_local_clock() {
    let mut line = Line::new();
    line.intake.omit_date(true);
    line.accept(1, "ci").await;
    line.go().await;
    line.assert_exact(1);
}

#[actix_web::test]
async fn an_answer_without_a_date_keeps_the_clock_that_an_earlier_one_told() {
    let mut line = Line::new();
    let ahead = 300;
    line.intake.set_clock_offset(ahead);
    // So long ago that it counts as now.
    let end = now() - 3600;
    line.accept_ended(1, "ci", end).await;
    line.go().await;
    line.intake.omit_date(true);
    for id in 2..5 {
        line.accept_ended(id, "ci", end).await;
        line.go_on_for(Duration::from_secs(5)).await;
    }
    line.assert_exact(4);
    for (_, _, second) in line.intake.stored().into_keys() {
        assert!((second - now() - ahead).abs() <= 30);
    }
    assert_eq!((logged::count("Datadog's answer has no date"), line.totals().in_doubt), (1, 0));
    line.intake.omit_date(false);
    line.accept(5, "nightly").await;
    line.go().await;
    line.intake.omit_date(true);
    line.accept(6, "release").await;
    line.go().await;
    assert_eq!(logged::count("Datadog's answer has no date"), 2, "once until a date is seen again");
}

#[actix_web::test]
async fn what_is_sent_is_gzip_and_smaller_than_its_json() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.go().await;
    let sent = line.intake.requests();
    assert_eq!(sent[0].headers.get("content-encoding").map(String::as_str), Some("gzip"));
    assert!(sent[0].wire_bytes < sent[0].unpacked.len());
    line.intake.assert_compressed();
}

#[actix_web::test]
async fn a_passing_fault_is_retried_with_backoff_for_as_long_as_it_lasts() {
    let orders = [
        Order::status(429),
        Order::status(408),
        Order::status(500),
        Order::status(503),
        Order::Reset,
        Order::status(404),
    ];
    let orders: Vec<Order> =
        orders.into_iter().chain([Order::Status(200, "<html>sign in</html>".to_owned(), Vec::new())]).collect();
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order_many(orders.clone());
    let mut waits = Vec::new();
    while let Some(wait) = line.go().await {
        waits.push(wait.as_secs());
        line.pass(wait);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60]);
    assert_eq!(line.pushes(), orders.len() + 1);
    line.assert_exact(1);
    let sent = line.intake.requests();
    assert!(sent.iter().all(|request| request.unpacked == sent[0].unpacked), "every try is the same");
}

#[actix_web::test]
async fn a_wait_that_datadog_asks_for_is_honoured() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order_many([Order::retry_after(429, 17), Order::retry_after(503, 100_000)]);
    assert_eq!(line.go().await, Some(Duration::from_secs(17)));
    line.pass(Duration::from_secs(17));
    assert_eq!(line.go().await, Some(Duration::from_secs(300)));
}

#[actix_web::test]
async fn a_redirect_is_not_followed() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    let to_itself = ("Location".to_owned(), format!("{}/api/v2/series", line.intake.url()));
    line.intake.order(Order::Status(307, String::new(), vec![to_itself]));
    assert_eq!(line.go().await, Some(Duration::from_secs(1)));
    assert_eq!(line.pushes(), 1);
}

#[actix_web::test]
async fn a_refused_key_holds_everything_for_a_minute_at_a_time() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.set_key("another key");
    for tries in 1..=3 {
        assert_eq!(line.go().await, Some(Duration::from_secs(60)));
        assert_eq!((line.pushes(), line.pending().await), (tries, 1));
        assert_eq!(
            logged::count("ERROR Datadog answered 403"),
            1 + tries,
            "one for the question at first, then one a minute"
        );
        line.pass(Duration::from_secs(60));
    }
    line.go_on_for(Duration::from_secs(600)).await;
    assert_eq!(
        (logged::count("runs are kept, and pushed once the API key is mended"), logged::count("ERROR")),
        (15, 15)
    );
    line.intake.set_key(TEST_KEY);
    line.go_on_for(Duration::from_secs(61)).await;
    line.assert_exact(1);
}

#[actix_web::test]
async fn a_key_that_is_changed_in_its_file_is_used_without_a_restart() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.go().await;
    line.intake.set_key("the next key");
    line.accept(2, "ci").await;
    assert_eq!(line.go().await, Some(Duration::from_secs(60)), "403");
    std::fs::write(line.key_file(), "the-next-key\n").unwrap();
    line.intake.set_key("the-next-key");
    line.go_on_for(HOUR).await;
    line.assert_exact(2);
    assert_eq!((line.pending().await, line.totals().in_doubt), (0, 0));
}

#[actix_web::test]
async fn what_is_too_large_goes_by_halves_and_a_single_slot_is_kept() {
    let mut line = Line::new();
    for id in 0..8 {
        line.accept(id, &format!("w{id}")).await;
    }
    line.intake.set_policy(|received| if received.payload.series.len() > 8 { Order::status(413) } else { Order::Take });
    line.go().await;
    line.assert_exact(8);
    line.accept(9, "ci").await;
    line.intake.set_policy(|_| Order::status(413));
    line.go().await;
    assert_eq!(line.pending().await, 1);
    line.intake.recover();
    line.go_on_for(Duration::from_secs(61)).await;
    line.assert_exact(9);
}

#[actix_web::test]
async fn a_transient_400_is_retried_twice_and_costs_nothing() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order_many([Order::status(400), Order::status(400)]);
    line.go_on_for(HOUR).await;
    line.assert_exact(1);
    assert_eq!((line.pushes(), line.totals().rejected), (3, 0));
}

#[actix_web::test]
async fn one_poisoned_slot_among_many_is_rejected_and_the_others_are_sent() {
    // The first, one in the middle and the last: whoever else is taken, before or after it.
    for poisoned in [0, 537, 999] {
        let mut line = Line::new();
        for id in 0..1000 {
            line.accept(id, &format!("w{id:03}")).await;
        }
        let tag = format!("workflow_name:w{poisoned:03}");
        line.intake.set_policy(move |received| if received.has_tag(&tag) { Order::status(400) } else { Order::Take });
        line.go_on_for(Duration::from_secs(600)).await;
        line.assert_exact(999);
        assert_eq!((line.totals().rejected, line.pending().await, line.totals().in_doubt), (1, 0, 0));
        let rejected = std::fs::read_to_string(line.dir.path().join("rejected.jsonl")).unwrap();
        assert_eq!(rejected.lines().count(), 1);
        let rejected: serde_json::Value = serde_json::from_str(&rejected).unwrap();
        assert_eq!(
            (rejected["key"].as_str(), rejected["status"].as_u64()),
            (Some(poisoned.to_string().as_str()), Some(400))
        );
        assert_eq!(rejected["request"]["payload"]["workflow_run"]["id"].as_u64(), Some(poisoned));
    }
}

#[actix_web::test]
async fn what_was_rejected_is_taken_in_again_by_a_replay_once_the_cause_is_mended() {
    let mut line = Line::new();
    line.accept(1, "poison").await;
    line.accept(2, "ci").await;
    let is_poisoned = |received: &Received| received.has_tag("workflow_name:poison");
    line.intake.set_policy(move |received| if is_poisoned(received) { Order::status(400) } else { Order::Take });
    line.go_on_for(Duration::from_secs(600)).await;
    assert_eq!((line.totals().rejected, line.pending().await), (1, 0));
    line.intake.recover();
    line.stop();
    let service = Start::live(line.dir.path(), &line.intake).start();
    let to = format!("--to=http://{}/webhook", service.address);
    let rejected = line.dir.path().join("rejected.jsonl");
    let mut replay = program(&["replay", rejected.to_str().unwrap(), &to]);
    let output = replay.env("GITHUB_WEBHOOK_SECRET", SECRET).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    service.wait_for_pushes(1);
    service.stop();
    assert_eq!(line.intake.count(TOTAL), 2.0);
    assert_eq!(sent(&line.dir.path().join("sent-workflows.json")), ["2", "1"]);
}

#[actix_web::test]
async fn something_between_us_that_refuses_everything_costs_nothing() {
    let mut line = Line::new();
    for id in 0..10 {
        line.accept(id, &format!("w{id}")).await;
    }
    line.intake.set_policy(|_| Order::status(400));
    line.go_on_for(Duration::from_secs(2 * 3600)).await;
    assert_eq!((line.pending().await, line.totals().rejected), (10, 0));
    line.intake.recover();
    line.go_on_for(HOUR).await;
    line.assert_exact(10);
    assert_eq!((line.pending().await, line.totals().rejected, line.totals().in_doubt), (0, 0, 0));
    assert!(!line.dir.path().join("rejected.jsonl").exists());
}

#[actix_web::test]
async fn a_lone_poisoned_slot_holds_nobody_up_and_is_blamed_once_another_is_taken() {
    let mut line = Line::new();
    let poison = |received: &crate::intake::Received| {
        if received.has_tag("workflow_name:poison") { Order::status(400) } else { Order::Take }
    };
    line.intake.set_policy(poison);
    line.accept(1, "poison").await;
    line.go_on_for(Duration::from_secs(300)).await;
    assert_eq!((line.pending().await, line.totals().rejected), (1, 0), "nobody else was taken yet");
    line.accept(2, "ci").await;
    line.go_on_for(Duration::from_secs(120)).await;
    line.assert_exact(1);
    assert_eq!((line.pending().await, line.totals().rejected), (0, 1));
}

#[actix_web::test]
async fn several_poisoned_slots_do_not_keep_a_healthy_one_waiting() {
    let mut line = Line::new();
    line.intake.set_policy(|received| {
        let is_poisoned = (0..6).any(|id| received.has_tag(&format!("workflow_name:poison{id}")));
        if is_poisoned { Order::status(400) } else { Order::Take }
    });
    for id in 0..6 {
        line.accept(id, &format!("poison{id}")).await;
    }
    line.go_on_for(Duration::from_secs(900)).await;
    line.accept(100, "ci").await;
    line.go_on_for(Duration::from_secs(30)).await;
    line.assert_exact(1);
    line.go_on_for(Duration::from_secs(120)).await;
    assert_eq!((line.totals().rejected, line.pending().await), (6, 0));
}
