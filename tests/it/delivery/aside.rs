//! Slots that stand aside: what is refused or too large alone, while others go.

use super::{HOUR, Line, TOTAL};
use crate::{
    intake::{Order, Received},
    logged,
};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn is_of(received: &Received, workflow: &str) -> bool {
    received.has_tag(&format!("workflow_name:{workflow}"))
}

/// Has this workflow answered with this status, and all others taken.
fn refuse(line: &Line, workflow: &'static str, status: u16) {
    line.intake.set_policy(move |received| if is_of(received, workflow) { Order::status(status) } else { Order::Take });
}

#[actix_web::test]
async fn a_slot_is_not_rejected_by_a_refusal_after_a_try_that_may_have_been_taken() {
    let mut line = Line::new();
    line.accept(1, "poison").await;
    refuse(&line, "poison", 400);
    line.go_on_for(Duration::from_secs(5)).await;
    assert_eq!((line.pushes(), line.pending().await), (3, 1), "it stands aside");
    // The healthy one is taken. The suspect is stored and its answer lost, and the repetition is refused.
    line.accept(2, "ci").await;
    line.intake.order_many([Order::Take, Order::StoreThenDrop]);
    line.go_on_for(Duration::from_secs(30)).await;
    assert_eq!((line.pushes_of("poison"), line.intake.count(TOTAL)), (5, 2.0));
    assert_eq!((line.totals().rejected, line.totals().in_doubt, line.pending().await), (0, 1, 1));
    assert_eq!(logged::count("in doubt, may be counted twice: 1"), 1);
    // A later sealing is refused without doubt, and that convicts it.
    line.go_on_for(2 * MINUTE).await;
    assert_eq!((line.totals().rejected, line.totals().in_doubt, line.pending().await), (1, 1, 0));
    assert_eq!(line.pushes_of("poison"), 6);
}

#[actix_web::test]
async fn a_slot_that_is_too_large_alone_stands_aside_and_holds_nobody_up() {
    let mut line = Line::new();
    refuse(&line, "huge", 413);
    line.accept(1, "huge").await;
    line.accept(2, "ci").await;
    line.go_on_for(Duration::from_secs(10)).await;
    line.assert_exact(1);
    for id in 3..6 {
        line.accept(id, "ci").await;
        line.go_on_for(Duration::from_secs(5)).await;
        assert_eq!(line.intake.count(TOTAL), f64::from(u32::try_from(id).unwrap()) - 1.0, "run {id} is sent");
    }
    line.go_on_for(HOUR).await;
    line.assert_exact(4);
    assert_eq!((line.totals().rejected, line.totals().in_doubt, line.pending().await), (0, 0, 1));
    let alone = logged::count("ERROR Datadog answered 413");
    assert!((60..=62).contains(&alone), "one error a minute: {alone}");
    assert!(line.pushes_of("huge") <= alone + 1, "the first time it was not alone");
    line.intake.recover();
    line.go_on_for(2 * MINUTE).await;
    line.assert_exact(5);
    assert_eq!((line.totals().rejected, line.pending().await), (0, 0));
}

#[actix_web::test]
async fn a_slot_that_is_too_large_and_may_have_been_taken_is_repeated_as_it_stands() {
    let mut line = Line::new();
    for (id, workflow) in [(1, "huge"), (2, "ci"), (3, "nightly")] {
        line.accept(id, workflow).await;
    }
    line.intake.order(Order::StoreThenDrop);
    refuse(&line, "huge", 413);
    line.go_on_for(10 * MINUTE).await;
    assert_eq!((line.intake.count(TOTAL), line.pending().await), (3.0, 1), "the others of its batch are sent");
    assert_eq!(line.totals().pushed, 2);
    line.intake.recover();
    line.go_on_for(2 * MINUTE).await;
    line.assert_exact(3);
    assert_eq!((line.totals().in_doubt, line.pending().await), (0, 0));
}

#[actix_web::test]
async fn a_rejection_that_cannot_be_written_holds_nobody_up_and_is_tried_again() {
    let mut line = Line::new();
    let rejected = line.dir.path().join("rejected.jsonl");
    std::fs::create_dir(&rejected).unwrap();
    refuse(&line, "poison", 400);
    line.accept(1, "poison").await;
    line.accept(2, "ci").await;
    line.go_on_for(Duration::from_secs(30)).await;
    for id in 3..6 {
        line.accept(id, "ci").await;
        line.go_on_for(Duration::from_secs(5)).await;
        assert_eq!(line.intake.count(TOTAL), f64::from(u32::try_from(id).unwrap()) - 1.0, "run {id} is sent");
    }
    line.go_on_for(10 * MINUTE).await;
    line.assert_exact(4);
    assert_eq!((line.totals().rejected, line.pending().await), (0, 1));
    let told = logged::count("rejected.jsonl");
    assert!((10..=12).contains(&told), "once a try: {told}");
    std::fs::remove_dir(&rejected).unwrap();
    line.go_on_for(2 * MINUTE).await;
    assert_eq!((line.totals().rejected, line.totals().in_doubt, line.pending().await), (1, 0, 0));
    assert_eq!(std::fs::read_to_string(&rejected).unwrap().lines().count(), 1);
}

#[actix_web::test]
async fn a_witness_is_told_of_as_one_and_not_as_runs_that_were_pushed() {
    let mut line = Line::new();
    refuse(&line, "poison", 400);
    line.accept(1, "ci").await;
    line.accept(2, "poison").await;
    line.go_on_for(10 * MINUTE).await;
    line.assert_exact(1);
    assert_eq!((line.totals().pushed, line.totals().rejected, line.pending().await), (1, 1, 0));
    assert_eq!(logged::count("pushed "), 1);
    assert_eq!(logged::count("taken once more, to see whether anything is"), 1);
    let healthy: Vec<_> = line.intake.requests().into_iter().filter(|request| request.answered == Some(202)).collect();
    assert_eq!((healthy.len(), &healthy[0].unpacked), (2, &healthy[1].unpacked), "it is sent unchanged");
}
