//! What an operator is told of the way to Datadog.

use super::{HOUR, Line};
use crate::intake::Order;
use runhound::vitals::Notes;
use std::{fs, time::Duration};

fn notes(line: &Line) -> Notes {
    line.ledger.as_ref().unwrap().vitals().notes()
}

fn failing(line: &Line) -> Option<&'static str> {
    notes(line).failing.map(|(request, _)| request)
}

#[actix_web::test]
async fn a_key_that_is_mended_shows_within_a_minute_though_nothing_is_pending() {
    let mut line = Line::new();
    fs::write(line.key_file(), "wrong").unwrap();
    assert_eq!(line.go().await, None, "nothing is pending");
    assert_eq!(failing(&line), Some("validate"));
    fs::write(line.key_file(), crate::intake::TEST_KEY).unwrap();
    line.pass(Duration::from_secs(59));
    line.go().await;
    assert_eq!(failing(&line), Some("validate"), "it was not asked again yet");
    line.pass(Duration::from_secs(1));
    line.go().await;
    assert_eq!(failing(&line), None);
    let asked = notes(&line).answers.len();
    line.pass(HOUR);
    line.go().await;
    assert_eq!(notes(&line).answers.len(), asked, "there is nothing more to ask");
}

#[actix_web::test]
async fn pushes_fail_since_the_first_that_failed_however_often_a_question_is_answered_meanwhile() {
    let mut line = Line::new();
    line.intake.set_policy(|_| Order::status(503));
    line.accept(1, "ci").await;
    line.go().await;
    let since = notes(&line).failing.unwrap();
    assert_eq!(since.0, "series");
    // The batch is taken apart after 50 min, and what time it is asked for before it is sealed again.
    line.go_on_for(Duration::from_secs(52 * 60)).await;
    assert!(notes(&line).answers.iter().any(|answer| answer.request == "validate" && answer.status == Some(200)));
    assert_eq!(notes(&line).failing, Some(since));
    line.intake.recover();
    line.go_on_for(HOUR).await;
    assert_eq!(failing(&line), None);
}

#[actix_web::test]
async fn a_point_that_is_sent_again_as_a_witness_is_no_other_point() {
    let mut line = Line::new();
    line.intake.set_policy(
        |received| {
            if received.has_tag("workflow_name:poison") { Order::status(400) } else { Order::Take }
        },
    );
    line.accept(1, "ci").await;
    line.accept(2, "poison").await;
    line.go_on_for(HOUR).await;
    assert_eq!((line.totals().rejected, line.pending().await), (1, 0));
    // What was taken last tells that pushes are well again.
    assert_eq!(notes(&line).points, 4);
    let pushed: usize =
        notes(&line).answers.iter().filter(|answer| answer.verdict == "taken").map(|answer| answer.points).sum();
    assert!(pushed > 4, "a witness was called");
}
