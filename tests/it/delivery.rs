//! Delivery, driven step by step on a clock that a test moves, into an intake that keeps Datadog's rules.

use crate::{
    harness::now,
    intake::{Intake, Order, TEST_KEY},
};
use runhound::{
    datadog::{ApiKey, Client, Endpoint},
    delivery::{Clock, Delivery, Moment, Step, Totals},
    ledger::{Accepted, Files, Ledger, Mode, Opened, Options, Reruns},
    metrics::{Run, TagSet},
};
use std::{
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};
use tempfile::TempDir;

const TOTAL: &str = "github.actions.workflow_run.total";
const DURATION_TOTAL: &str = "github.actions.workflow_run.duration_second_total";

/// A ledger, a delivery and an intake, on one clock that only moves when it is told to.
struct Line {
    dir: TempDir,
    intake: Intake,
    clock: Arc<Mutex<Moment>>,
    start: i64,
    ledger: Option<Ledger>,
    owner: Option<JoinHandle<()>>,
    delivery: Option<Delivery>,
}

impl Line {
    fn new() -> Self {
        let start = now();
        let clock = Moment { monotonic: Duration::from_secs(1_000), unix: start };
        let mut line = Self {
            dir: tempfile::tempdir().unwrap(),
            intake: Intake::start(),
            clock: Arc::new(Mutex::new(clock)),
            start,
            ledger: None,
            owner: None,
            delivery: None,
        };
        line.open();
        line
    }

    fn open(&mut self) {
        let files = Files::new(self.dir.path(), Mode::Live);
        let Opened { ledger, owner, open_batch, .. } =
            Ledger::open(Options::new(files, Reruns::Push, self.start - 7200)).unwrap();
        let clock = Arc::clone(&self.clock);
        let client = Client::new(Endpoint::new(&self.intake.url()).unwrap(), ApiKey::new(TEST_KEY).unwrap()).unwrap();
        let read = Clock::new(move || *clock.lock().unwrap());
        let delivery = Delivery::new(ledger.clone(), open_batch, Some(client), read, Box::new(|longest| longest));
        (self.ledger, self.owner, self.delivery) = (Some(ledger), Some(owner), Some(delivery));
    }

    /// Ends delivery and ledger wherever they are, and opens them anew.
    fn restart(&mut self) {
        drop((self.delivery.take(), self.ledger.take()));
        self.owner.take().unwrap().join().unwrap();
        self.open();
    }

    fn delivery(&mut self) -> &mut Delivery {
        self.delivery.as_mut().unwrap()
    }

    fn totals(&mut self) -> Totals {
        self.delivery().totals()
    }

    fn passed(&self) -> i64 {
        self.clock.lock().unwrap().unix - self.start
    }

    /// Lets time pass, here and at Datadog.
    fn pass(&self, time: Duration) {
        let mut clock = self.clock.lock().unwrap();
        // Whole seconds, for the intake's clock has no others.
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        clock.monotonic += Duration::from_secs(seconds);
        clock.unix += i64::try_from(seconds).unwrap();
        self.intake.set_clock_offset(clock.unix - self.start);
    }

    async fn accept(&self, id: u64, workflow: &str) {
        self.accept_ended(id, workflow, now() + self.passed() - 10).await;
    }

    async fn accept_ended(&self, id: u64, workflow: &str, end: i64) {
        let tags = vec!["conclusion:success".to_owned(), format!("workflow_name:{workflow}")];
        let tag_set = Arc::new(TagSet { prefix: "github.actions".to_owned(), tags });
        let run = Run { key: id.to_string().parse().unwrap(), end, duration_ms: Some(61_000), tag_set };
        assert_eq!(self.ledger.as_ref().unwrap().accept(run).await.unwrap(), Accepted::New);
    }

    async fn pending(&self) -> usize {
        self.ledger.as_ref().unwrap().standing().await.unwrap().pending
    }

    /// Steps until there is nothing to do at once; how long to wait then.
    async fn go(&mut self) -> Option<Duration> {
        loop {
            match self.delivery().step().await {
                Step::Moved | Step::Pushed { .. } => {}
                Step::Wait(wait) => return Some(wait),
                Step::Idle => return None,
            }
        }
    }

    /// Steps, and lets time pass wherever there is to wait, for so long at the most.
    async fn go_on_for(&mut self, time: Duration) {
        let end = self.passed() + i64::try_from(time.as_secs()).unwrap();
        while let Some(wait) = self.go().await {
            if self.passed() >= end {
                return;
            }
            self.pass(wait);
        }
    }

    /// Everything is sent, counted as it should be, and nothing was ever overwritten by another value.
    #[track_caller]
    fn assert_exact(&self, runs: u32) {
        self.intake.assert_contract();
        assert_eq!(self.intake.count(TOTAL), f64::from(runs));
        assert_eq!(self.intake.count(DURATION_TOTAL), f64::from(runs) * 61.0);
        let changed: Vec<_> = self.intake.overwritten().into_iter().filter(|point| point.old != point.new).collect();
        assert!(changed.is_empty(), "{changed:?}");
    }

    fn pushes(&self) -> usize {
        self.intake.requests().len()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

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
        line.pass(Duration::from_secs(60));
    }
    line.intake.set_key(TEST_KEY);
    line.go().await;
    line.assert_exact(1);
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
    assert_eq!(line.go().await, Some(Duration::from_secs(60)));
    assert_eq!(line.pending().await, 1);
    line.intake.recover();
    line.pass(Duration::from_secs(60));
    line.go().await;
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
    for poisoned in [0, 37, 99] {
        let mut line = Line::new();
        for id in 0..100 {
            line.accept(id, &format!("w{id:02}")).await;
        }
        let tag = format!("workflow_name:w{poisoned:02}");
        line.intake.set_policy(move |received| if received.has_tag(&tag) { Order::status(400) } else { Order::Take });
        line.go_on_for(Duration::from_secs(600)).await;
        line.assert_exact(99);
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
async fn a_first_push_that_lands_after_the_answer_to_its_retry_changes_nothing() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order(Order::StoreLater);
    line.go_on_for(HOUR).await;
    for id in 2..5 {
        line.accept(id, "ci").await;
        line.go_on_for(HOUR).await;
    }
    line.intake.land_late();
    line.assert_exact(4);
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
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.go().await;
    line.intake.stop();
    let mut ends = Vec::new();
    for id in 2..6 {
        ends.push(now() + line.passed() - 10);
        line.accept(id, "ci").await;
        line.go_on_for(Duration::from_secs(300)).await;
    }
    line.intake.restart();
    line.go_on_for(HOUR).await;
    line.assert_exact(5);
    let stored = line.intake.stored();
    for end in ends {
        assert!(stored.keys().any(|(metric, _, second)| metric == TOTAL && (second - end).abs() <= 2), "{end}");
    }
    assert_eq!(line.totals().in_doubt, 0);
}

#[actix_web::test]
async fn after_90_minutes_or_a_day_without_a_connection_totals_are_exact_and_nothing_is_in_doubt() {
    for minutes in [90, 24 * 60] {
        let mut line = Line::new();
        line.accept(1, "ci").await;
        line.go().await;
        line.intake.stop();
        for id in 2..5 {
            line.accept(id, "ci").await;
            line.go_on_for(Duration::from_secs(minutes * 20)).await;
        }
        line.intake.restart();
        line.go_on_for(HOUR).await;
        line.assert_exact(4);
        assert_eq!((line.totals().in_doubt, line.pending().await), (0, 0));
        assert!(line.intake.dropped().is_empty());
    }
}

#[actix_web::test]
async fn a_lost_answer_before_a_long_outage_leaves_its_runs_in_doubt_and_loses_none() {
    let mut line = Line::new();
    line.accept(1, "ci").await;
    line.intake.order(Order::StoreThenDrop);
    line.go().await;
    line.accept(2, "ci").await;
    line.intake.stop();
    line.go_on_for(Duration::from_secs(5400)).await;
    line.intake.restart();
    line.go_on_for(HOUR).await;
    // The one way to count twice: run 1, and it is told.
    assert_eq!(line.intake.count(TOTAL), 3.0);
    assert_eq!((line.totals().in_doubt, line.pending().await), (1, 0));
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
    assert_eq!(crate::harness::sent(&cache), ["1", "2"]);
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
