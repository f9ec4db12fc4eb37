//! That limits are kept, what is known is not sent again, and orders are obeyed.

use super::*;
use std::thread;

const REPOSITORY: &str = "/repos/acme/web";

fn remaining(answer: &Answer) -> u64 {
    answer.header("x-ratelimit-remaining").unwrap().parse().unwrap()
}

#[test]
fn each_answer_tells_the_limit_and_costs_one_of_it() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let asking = Asking::of(&hub);
    let first = asking.get(REPOSITORY);
    let second = asking.get("/repos/acme/none");
    assert_eq!((remaining(&first), remaining(&second)), (4999, 4998));
    assert_eq!(second.header("x-ratelimit-limit"), Some("5000"));
    assert_eq!(second.header("x-ratelimit-used"), Some("2"));
    assert_eq!(second.header("x-ratelimit-resource"), Some("core"));
    let resets_at: i64 = second.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&(resets_at - crate::harness::now())));
    let overview = asking.get("/rate_limit").body;
    assert_eq!(overview["resources"]["core"]["remaining"], json!(4998), "it costs nothing itself");
}

#[test]
fn what_is_exhausted_is_refused_until_its_reset() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let asking = Asking::of(&hub);
    hub.set_rate_limit(60, 1, 120);
    assert_eq!(asking.get(REPOSITORY).status, 200);
    for status in [403, 429] {
        hub.set_rate_limit_refusal(status);
        let refused = asking.get(REPOSITORY);
        assert_eq!((refused.status, remaining(&refused)), (status, 0));
        assert!(refused.body["message"].as_str().unwrap().starts_with("API rate limit exceeded for"));
    }
    assert_eq!(asking.get("/rate_limit").body["rate"]["remaining"], json!(0));
    hub.set_clock_offset(121);
    let whole = asking.get(REPOSITORY);
    assert_eq!((whole.status, remaining(&whole)), (200, 59));
}

#[test]
fn what_is_known_and_unchanged_is_304_and_costs_nothing() {
    let hub = Hub::start();
    hub.complete_silently(&run(1));
    let asking = Asking::of(&hub);
    let path = "/repos/acme/web/actions/runs/1";
    let first = asking.get(path);
    let etag = first.header("etag").unwrap();
    let known = asking.try_ask("GET", path, &[("If-None-Match", etag)], "").unwrap();
    assert_eq!((known.status, known.header("etag")), (304, Some(etag)));
    assert_eq!(remaining(&known), remaining(&first));
    hub.set_updated_at(1, 1, 1_790_000_000);
    let changed = asking.try_ask("GET", path, &[("If-None-Match", etag)], "").unwrap();
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(etag));
}

#[test]
fn orders_are_for_the_next_requests_that_match() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let asking = Asking::of(&hub);
    hub.order(Order::Status(502), 2, |asked| asked.path.ends_with("/hooks"));
    hub.order(Order::Text(500, "<html>".to_owned()), 1, |asked| asked.path.ends_with("/hooks"));
    hub.order(Order::Secondary(403, Some(7)), 1, |asked| asked.is("GET", REPOSITORY));
    hub.order(Order::Secondary(429, None), 1, |asked| asked.is("GET", REPOSITORY));
    let limited = asking.get(REPOSITORY);
    assert_eq!((limited.status, limited.header("retry-after")), (403, Some("7")));
    assert!(limited.body["message"].as_str().unwrap().starts_with("You have exceeded a secondary rate limit"));
    assert_ne!(remaining(&limited), 0);
    let limited = asking.get(REPOSITORY);
    assert_eq!((limited.status, limited.header("retry-after")), (429, None));
    let statuses: Vec<u16> = (0..4).map(|_| asking.get(HOOKS).status).collect();
    assert_eq!(statuses, [502, 502, 500, 200]);
    hub.order(Order::Status(500), 1, |_| true);
    hub.recover();
    assert_eq!(asking.get(HOOKS).status, 200);
    assert_eq!(hub.count(|asked| asked.is("GET", HOOKS) && asked.answered == Some(502)), 2);
}

#[test]
fn a_connection_can_be_dropped_before_or_after_what_is_asked_is_done() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let asking = Asking::of(&hub);
    let body = json!({ "config": { "url": "https://runhound.example.com/" }, "active": false }).to_string();
    hub.order(Order::Reset, 1, |asked| asked.method == "POST");
    assert_eq!(asking.try_ask("POST", HOOKS, &[], &body), None);
    assert!(hub.hooks().is_empty());
    hub.order(Order::ActThenReset, 1, |asked| asked.method == "POST");
    assert_eq!(asking.try_ask("POST", HOOKS, &[], &body), None);
    assert_eq!(hub.hooks().len(), 1);
    assert_eq!(hub.count(|asked| asked.answered.is_none()), 2);
}

#[test]
fn what_hangs_hangs_until_it_is_released_or_the_hub_ends() {
    let hub = Hub::start();
    hub.repository("acme/web");
    hub.order(Order::Hang, 1, |asked| asked.path == REPOSITORY);
    let asking = Asking::of(&hub);
    thread::scope(|scope| {
        let hanging = scope.spawn(|| asking.try_ask("GET", REPOSITORY, &[], ""));
        hub.wait_until(|state| state.requests().len() == 1, WAIT_MAX);
        assert_eq!(asking.get(HOOKS).status, 200, "others do not wait");
        assert!(!hanging.is_finished());
        hub.release();
        assert_eq!(hanging.join().unwrap(), None);
    });
    hub.order(Order::Hang, 1, |_| true);
    let mut stream = TcpStream::connect(hub.address).unwrap();
    stream.write_all(b"GET /api/v3/meta HTTP/1.1\r\n\r\n").unwrap();
    hub.wait_until(|state| state.requests().len() == 3, WAIT_MAX);
    drop(hub);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_request_is_kept_with_its_path_query_and_headers() {
    let hub = Hub::start();
    let asking = Asking::of(&hub);
    asking.try_ask("GET", "/repos/acme/web?page=2", &[("Accept", "application/vnd.github+json")], "").unwrap();
    let [asked] = hub.requests().try_into().unwrap();
    assert_eq!(asked.to_string(), "GET /repos/acme/web?page=2 -> 404");
    assert_eq!(asked.headers["accept"], "application/vnd.github+json");
    assert_eq!(asked.scheme, "Bearer");
}

#[test]
fn an_unknown_version_and_a_client_without_a_name_are_refused() {
    let hub = Hub::start();
    let asking = Asking::of(&hub);
    let version = asking.try_ask("GET", "/meta", &[("X-GitHub-Api-Version", "2020-01-01")], "").unwrap();
    assert_eq!(version.status, 400);
    assert_eq!(asking.try_ask("GET", "/meta", &[("X-GitHub-Api-Version", "2022-11-28")], "").unwrap().status, 200);
    let nameless = asking.try_ask("GET", "/meta", &[("User-Agent", "")], "").unwrap();
    assert_eq!(nameless.status, 403);
    let mut stream = TcpStream::connect(hub.address).unwrap();
    stream.write_all(b"GET /meta HTTP/1.1\r\nUser-Agent: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(Answer::read(&answer).unwrap().status, 404, "the API is below /api/v3 only");
}
