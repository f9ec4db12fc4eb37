//! The stand-in itself, held to the rules that it stands for.

use super::*;
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

const WAIT_MAX: Duration = Duration::from_secs(10);

/// What came back: the status, the head and the body; nothing at all if the connection was dropped.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

/// Sends one request on a connection of its own.
fn send(intake: &Intake, head: &str, body: &[u8]) -> Option<Answered> {
    let mut stream = TcpStream::connect(("127.0.0.1", intake.port())).expect("the intake listens");
    let head = format!("{head}\r\nHost: intake\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).expect("the intake reads");
    stream.write_all(body).expect("the intake reads");
    read_answer(&mut stream)
}

fn read_answer(stream: &mut TcpStream) -> Option<Answered> {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the intake closes in good order");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    Some(Answered { status, head: head.to_owned(), body: body.to_owned() })
}

fn head(path: &str, encoding: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nDD-API-KEY: {TEST_KEY}\r\nContent-Type: application/json\r\nContent-Encoding: {encoding}"
    )
}

fn push_json(intake: &Intake, payload: &Value) -> Option<Answered> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(payload.to_string().as_bytes()).expect("memory");
    send(intake, &head("/api/v2/series", "gzip"), &gzip.finish().expect("memory"))
}

fn status_of(answered: Option<Answered>) -> Option<u16> {
    answered.map(|answered| answered.status)
}

fn point(second: i64, value: f64) -> Value {
    json!({ "series": [{
        "metric": "runs.total",
        "type": 1,
        "points": [{ "timestamp": second, "value": value }],
        "tags": ["repository_name:telemetry", "branch:main"],
    }] })
}

fn push(intake: &Intake, second: i64, value: f64) -> Option<u16> {
    status_of(push_json(intake, &point(second, value)))
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn the_last_value_of_a_metric_tag_set_and_second_wins() {
    let intake = Intake::start();
    let second = now();
    assert_eq!(push(&intake, second, 2.0), Some(202));
    assert_eq!(push(&intake, second, 3.0), Some(202));
    assert_eq!(push(&intake, second - 1, 4.0), Some(202));
    assert!(is_close(intake.count("runs.total"), 7.0), "{:?}", intake.stored());
    assert!(is_close(intake.count("runs"), 0.0));
    let tags = vec!["branch:main".to_owned(), "repository_name:telemetry".to_owned()];
    let key: PointKey = ("runs.total".to_owned(), tags, second);
    assert_eq!(intake.stored().get(&key), Some(&3.0));
    assert_eq!(intake.overwritten(), [Overwritten { key, old: 2.0, new: 3.0 }]);
    intake.assert_contract();
}

#[test]
fn a_point_outside_the_window_of_the_intakes_clock_is_dropped_with_a_202() {
    let intake = Intake::start();
    intake.set_clock_offset(-86_400);
    let clock = intake.read(State::clock);
    for (second, is_kept) in
        [(clock - 3700, false), (clock - 3500, true), (clock + 500, true), (clock + 700, false), (now(), false)]
    {
        let kept_before = intake.stored().len();
        assert_eq!(push(&intake, second, 1.0), Some(202));
        assert_eq!(intake.stored().len() == kept_before + 1, is_kept, "{}", second - clock);
    }
    let dropped: Vec<Dropped> = intake.dropped();
    assert_eq!(dropped.len(), 3);
    assert!(dropped.iter().all(|dropped| dropped.clock >= clock && is_close(dropped.value, 1.0)));
    intake.assert_contract();
}

#[test]
fn a_body_over_a_limit_is_answered_413() {
    let intake = Intake::start();
    let padded = |bytes: usize| {
        let mut text = point(now(), 1.0).to_string();
        text.push_str(&" ".repeat(bytes - text.len()));
        text.into_bytes()
    };
    let plain = head("/api/v2/series", "identity");
    assert_eq!(status_of(send(&intake, &plain, &padded(WIRE_MAX_BYTES))), Some(202));
    assert_eq!(status_of(send(&intake, &plain, &padded(WIRE_MAX_BYTES + 1))), Some(413));
    for (bytes, status) in [(UNPACKED_MAX_BYTES, 202), (UNPACKED_MAX_BYTES + 1, 413)] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&padded(bytes)).unwrap();
        let answered = send(&intake, &head("/api/v2/series", "gzip"), &gzip.finish().unwrap());
        assert_eq!(status_of(answered), Some(status));
    }
    assert_eq!(intake.violations().len(), 2);
}

#[test]
fn without_the_key_a_push_is_forbidden() {
    let intake = Intake::start();
    let body = point(now(), 1.0).to_string();
    let keyless = "POST /api/v2/series HTTP/1.1\r\nContent-Type: application/json";
    let answered = send(&intake, keyless, body.as_bytes()).unwrap();
    assert_eq!((answered.status, answered.body.as_str()), (403, r#"{"errors":["Forbidden"]}"#));
    assert_eq!(intake.violations(), ["no DD-API-KEY"]);
    intake.set_key("another-key");
    assert_eq!(push(&intake, now(), 1.0), Some(403));
    assert!(intake.stored().is_empty());
    intake.set_key(TEST_KEY);
    assert_eq!(push(&intake, now(), 1.0), Some(202));
}

#[test]
fn a_push_is_stored_although_its_connection_is_dropped() {
    let intake = Intake::start();
    intake.order(Order::StoreThenDrop);
    assert_eq!(push(&intake, now(), 1.0), None);
    assert!(is_close(intake.count("runs.total"), 1.0));
    assert_eq!(intake.requests().first().map(|received| received.answered), Some(None));
}

#[test]
fn orders_are_taken_one_a_push_and_then_the_policy_decides() {
    let intake = Intake::start();
    intake.order_many([Order::status(500), Order::retry_after(429, 7), Order::Reset, Order::StoreThenStatus(504)]);
    assert_eq!(push(&intake, now(), 1.0), Some(500));
    let answered = push_json(&intake, &point(now(), 1.0)).unwrap();
    assert_eq!(answered.status, 429);
    assert!(answered.head.contains("\r\nRetry-After: 7"), "{}", answered.head);
    assert_eq!(push(&intake, now(), 1.0), None);
    assert!(intake.stored().is_empty());
    assert_eq!(push(&intake, now(), 1.0), Some(504));
    assert!(is_close(intake.count("runs.total"), 1.0));

    let mut pushes = 0;
    intake.set_policy(move |received: &Received| {
        pushes += 1;
        if pushes > 1 && received.has_tag("branch:main") { Order::status(400) } else { Order::Take }
    });
    assert_eq!([push(&intake, now(), 1.0), push(&intake, now(), 1.0)], [Some(202), Some(400)]);
    intake.recover();
    assert_eq!(push(&intake, now(), 1.0), Some(202));
    let answered: Vec<_> = intake.requests().iter().map(|received| received.answered).collect();
    assert_eq!(answered, [Some(500), Some(429), None, Some(504), Some(202), Some(400), Some(202)]);
}

#[test]
fn a_push_that_lands_late_overwrites_what_came_after_it() {
    let intake = Intake::start();
    let second = now();
    intake.order(Order::StoreLater);
    assert_eq!(push(&intake, second, 1.0), None);
    assert_eq!(push(&intake, second, 2.0), Some(202));
    assert!(is_close(intake.count("runs.total"), 2.0));
    intake.land_late();
    assert!(is_close(intake.count("runs.total"), 1.0));
    assert_eq!(intake.overwritten().len(), 1);
}

#[test]
fn a_push_hangs_until_it_is_released_or_the_intake_stops() {
    let intake = Intake::start();
    intake.order_many([Order::Hang, Order::Hang]);
    for (pushes, let_go) in [(1, Intake::release as fn(&Intake)), (2, Intake::stop)] {
        thread::scope(|scope| {
            let hanging = scope.spawn(|| push(&intake, now(), 1.0));
            intake.wait_until(|state| state.requests().len() == pushes, WAIT_MAX);
            let_go(&intake);
            assert_eq!(hanging.join().unwrap(), None);
        });
    }
    assert!(intake.stored().is_empty());
}

#[test]
fn a_stopped_intake_refuses_connections_and_comes_back_with_what_it_had() {
    let intake = Intake::stopped();
    let connect = || TcpStream::connect(("127.0.0.1", intake.port())).map_err(|error| error.kind());
    assert_eq!(connect().err(), Some(std::io::ErrorKind::ConnectionRefused));
    intake.restart();
    let mut idle = connect().unwrap();
    let second = now();
    assert_eq!(push(&intake, second, 1.0), Some(202));
    intake.stop();
    assert_eq!(read_answer(&mut idle), None);
    assert_eq!(connect().err(), Some(std::io::ErrorKind::ConnectionRefused));
    intake.restart();
    assert_eq!(push(&intake, second - 1, 1.0), Some(202));
    assert!(is_close(intake.count("runs.total"), 2.0));

    let port = intake.port();
    drop(intake);
    let successor = Intake::start_at(port);
    assert_eq!(successor.url(), format!("http://127.0.0.1:{port}"));
    assert!(successor.stored().is_empty());
}

#[test]
fn a_field_that_datadog_does_not_describe_or_that_is_missing_is_refused_and_violates_the_contract() {
    let second = now();
    let with = |pointer: &str, field: &str, value: Option<Value>| {
        let mut payload = point(second, 1.0);
        let object = payload.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
        match value {
            Some(value) => object.insert(field.to_owned(), value),
            None => object.remove(field),
        };
        payload
    };
    let some = |value: Value| Some(value);
    for payload in [
        with("", "run", some(json!(1))),
        with("/series/0", "run_id", some(json!(1))),
        with("/series/0/points/0", "count", some(json!(1))),
        with("/series/0", "metadata", some(json!({ "origin": { "maker": 1 } }))),
        with("/series/0", "resources", some(json!([{ "type": "host", "kind": "h" }]))),
        with("/series/0", "type", some(json!(0))),
        with("/series/0", "type", some(json!(7))),
        with("/series/0", "type", some(json!("count"))),
        with("/series/0", "type", None),
        with("/series/0", "metric", None),
        with("/series/0", "points", None),
        with("/series/0/points/0", "timestamp", None),
        with("/series/0/points/0", "value", None),
        with("/series/0/points/0", "value", some(json!("1"))),
    ] {
        let intake = Intake::start();
        assert_eq!(status_of(push_json(&intake, &payload)), Some(400), "{payload}");
        assert_eq!(intake.violations().len(), 1, "{payload}");
        assert!(intake.stored().is_empty());
    }
}

#[test]
fn names_and_tags_that_datadog_would_change_violate_the_contract() {
    let long = "x".repeat(201);
    let with = |pointer: &str, value: &str| {
        let mut payload = point(now(), 1.0);
        *payload.pointer_mut(pointer).unwrap() = json!(value);
        payload
    };
    for name in ["1st", "_runs", "runs-total", "runs total", "läufe", "", &long] {
        let intake = Intake::start();
        assert_eq!(status_of(push_json(&intake, &with("/series/0/metric", name))), Some(202), "{name}");
        assert_eq!(intake.violations().len(), 1, "{name}");
    }
    for tag in ["branch:Main", "1:a", "a b", "a__b", "branch:", "a_", "a:b,c", "", &long] {
        let intake = Intake::start();
        assert_eq!(status_of(push_json(&intake, &with("/series/0/tags/0", tag))), Some(202), "{tag}");
        assert_eq!(intake.violations().len(), 1, "{tag}");
    }
    let intake = Intake::start();
    for tag in ["über:größe", "a", "branch:feature/x-1.0_b", long.get(..200).unwrap()] {
        assert_eq!(status_of(push_json(&intake, &with("/series/0/tags/0", tag))), Some(202), "{tag}");
    }
    intake.assert_contract();
}

#[test]
#[should_panic(expected = "no series")]
fn a_body_without_series_is_taken_to_no_effect_and_violates_the_contract() {
    let intake = Intake::start();
    assert_eq!(status_of(push_json(&intake, &json!({}))), Some(202));
    assert!(intake.stored().is_empty());
    intake.assert_contract();
}

#[test]
fn every_answer_has_the_date_of_the_intakes_clock_unless_it_is_omitted() {
    let intake = Intake::start();
    intake.set_clock_offset(1_000_000_000);
    let date = || {
        let answered = push_json(&intake, &point(now(), 1.0)).unwrap();
        let line = answered.head.lines().find_map(|line| line.strip_prefix("Date: ").map(str::to_owned));
        line.map(|date| jiff::fmt::rfc2822::parse(&date).unwrap().timestamp().as_second())
    };
    let before = intake.read(State::clock);
    let told = date().unwrap();
    assert!((before..=intake.read(State::clock)).contains(&told));
    intake.omit_date(true);
    assert_eq!(date(), None);
}

#[test]
fn validate_tells_whether_the_key_is_right_below_any_path() {
    let intake = Intake::start();
    let ask = |key: &str| {
        let answered =
            send(&intake, &format!("GET /proxy/api/v1/validate HTTP/1.1\r\nDD-API-KEY: {key}"), b"").unwrap();
        (answered.status, answered.body)
    };
    assert_eq!(ask(TEST_KEY), (200, r#"{"valid":true}"#.to_owned()));
    assert_eq!(ask("wrong").0, 403);
    intake.set_validate(Some(503));
    assert_eq!(ask(TEST_KEY).0, 503);
    assert_eq!(intake.validations(), 3);
    assert!(intake.requests().is_empty());
    intake.assert_contract();
}

#[test]
fn a_connection_serves_several_pushes_below_any_path_and_in_chunks() {
    let intake = Intake::start();
    let mut stream = TcpStream::connect(("127.0.0.1", intake.port())).unwrap();
    let text = point(now(), 1.0).to_string();
    let (first, rest) = text.split_at(10);
    let head = head("/proxy/datadog/api/v2/series?x=1", "identity");
    let chunks = format!("a;x=y\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\nTrailer: x\r\n\r\n", rest.len());
    let request = format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    stream.write_all(request.as_bytes()).unwrap();
    let last = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
    stream.write_all(last.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 202 ").count(), 2, "{answers}");
    let received = intake.requests();
    assert_eq!(received.len(), 2);
    for received in received {
        assert_eq!(received.unpacked, text);
        assert_eq!(received.wire_bytes, text.len());
        assert_eq!(received.path, "/proxy/datadog/api/v2/series");
        assert_eq!(received.encoding.as_deref(), Some("identity"));
        assert!(received.headers.contains_key("content-type") && received.at.elapsed() < WAIT_MAX);
    }
    intake.assert_contract();
}

#[test]
fn another_path_or_method_is_not_served_and_violates_the_contract() {
    let intake = Intake::start();
    assert_eq!(status_of(send(&intake, &head("/api/v1/series", "gzip"), b"")), Some(404));
    assert_eq!(status_of(send(&intake, "GET /api/v2/series HTTP/1.1", b"")), Some(405));
    assert_eq!(intake.violations().len(), 2);
}
