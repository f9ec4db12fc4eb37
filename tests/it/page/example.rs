//! Facts as a service of some size has them after a day, and a server that shows the page of any facts.

use jiff::Timestamp;
use runhound::{
    admin::{self, Facts, FileSize, Pending, Reason, Runs, Trouble},
    metrics::SeriesCount,
    vitals::{Answered, Delivered, Outcome, Recovery, Span, Way},
};
use std::collections::BTreeMap;

/// A quarter of an hour, in seconds.
const SPAN_S: i64 = 900;

/// Repository, workflow, and how long it takes, in seconds.
const WORKFLOWS: [(&str, &str, u64); 9] = [
    ("acme-rockets/telemetry", "CI", 272),
    ("acme-rockets/guidance", "Build and test", 508),
    ("acme-rockets/telemetry", "Lint", 41),
    ("acme-rockets/launch-pad", "Deploy to staging", 194),
    ("acme-rockets/guidance", "Nightly simulation", 3912),
    ("acme-rockets/website", "Pages", 63),
    ("acme-rockets/ground-control", "CI", 331),
    ("acme-rockets/ground-control", "Dependabot Updates", 88),
    ("acme-rockets/launch-pad", "Release", 722),
];

/// 14:03:22 on a Monday.
pub(crate) fn now() -> Timestamp {
    "2026-03-02T14:03:22Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

/// Numbers that look like chance and are always the same.
fn chance(seed: u64, below: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % below
}

fn index(seed: u64, below: usize) -> usize {
    usize::try_from(chance(seed, below as u64)).unwrap()
}

/// So many quarters of an hour: quiet at night, busy by day.
pub(crate) fn history(spans: u64) -> Vec<Span> {
    let last = now().as_second() / SPAN_S * SPAN_S;
    let span = |back: u64| {
        let start = Timestamp::from_second(last - i64::try_from(back).unwrap() * SPAN_S).unwrap();
        let hour = start.strftime("%H").to_string().parse::<usize>().unwrap();
        let busy = [2, 1, 1, 1, 2, 3, 6, 12, 22, 28, 30, 26, 20, 27, 30, 28, 24, 16, 10, 8, 6, 5, 4, 3][hour];
        let succeeded = busy + chance(back, busy / 2 + 2);
        let failed = if chance(back * 7, 3) == 0 { 1 + chance(back, busy / 8 + 1) } else { 0 };
        let other = u64::from(chance(back * 13, 4) == 0);
        let timed = succeeded + failed + other;
        let mean_ms = 240_000 + chance(back * 31, 90_000) + if hour == 2 { 700_000 } else { 0 };
        Span { start, succeeded, failed, other, timed, duration_ms: mean_ms * timed }
    };
    (0..spans).rev().map(span).collect()
}

fn delivered(number: u64) -> Delivered {
    let (repository, workflow, seconds) = WORKFLOWS[index(number, WORKFLOWS.len())];
    let run = 22_640_158_713 - number * 3571;
    let guid =
        format!("{:08x}-{:04x}-11f0-9c2b-{:012x}", chance(number, 1 << 32), chance(number + 1, 1 << 16), run * 31);
    let at = ago(i64::try_from(12 + number * 47 + chance(number * 3, 40)).unwrap());
    let base = Delivered {
        way: Way::Delivered,
        at,
        guid: Some(guid),
        outcome: Outcome::Accepted,
        reason: None,
        repository: Some(repository.to_owned()),
        workflow: Some(workflow.to_owned()),
        job: (number == 1).then(|| "ascent (engine 2)".to_owned()),
        conclusion: Some("success".to_owned()),
        duration_ms: Some(seconds * 1000 * (80 + chance(number * 11, 50)) / 100),
        run: Some(run.to_string()),
        url: Some(format!("https://github.com/{repository}/actions/runs/{run}")),
    };
    let ended = |conclusion: &str| Some(conclusion.to_owned());
    let lot = match number {
        2 => 3,
        5 => 0,
        8 => 5,
        9 => 4,
        _ => chance(number * 17, 20),
    };
    match lot {
        0 => Delivered { outcome: Outcome::Duplicate, ..base },
        1 | 2 => Delivered {
            outcome: Outcome::Ignored,
            reason: Some("action in_progress".to_owned()),
            workflow: None,
            conclusion: None,
            duration_ms: None,
            run: None,
            url: None,
            ..base
        },
        3 | 4 => Delivered { conclusion: ended("failure"), ..base },
        5 => Delivered { conclusion: ended("cancelled"), ..base },
        6 => Delivered { conclusion: ended("skipped"), duration_ms: Some(1000), ..base },
        _ => base,
    }
}

fn answer(number: u64) -> Answered {
    let runs = 1 + index(number, 4);
    Answered {
        at: ago(i64::try_from(14 + number * 95).unwrap()),
        request: if number == 19 { "validate" } else { "series" },
        verdict: "taken",
        status: Some(202),
        text: "{\"errors\":[]}".to_owned(),
        runs,
        points: runs * 4,
        took_ms: 90 + chance(number, 80),
    }
}

/// A live service that is well.
pub(crate) fn well() -> Facts {
    let file = |kind, name: &str, bytes| FileSize { kind, path: format!("/var/lib/runhound/{name}"), bytes };
    Facts {
        recovery: Some(Recovery {
            sweeps: 1164,
            last_sweep_at: Some(ago(412)),
            holes_found: 3,
            holes_filled: 3,
            requests_remaining: Some(4871),
            ..Recovery::default()
        }),
        version: env!("CARGO_PKG_VERSION"),
        mode: "live",
        target: Some("https://api.datadoghq.com".to_owned()),
        now: now(),
        started_at: ago(1_048_000),
        ready: true,
        unready_reason: None,
        unready_hint: None,
        degraded: false,
        troubles: Vec::new(),
        deliveries: BTreeMap::from([
            ("accepted", 14_207),
            ("duplicate", 61),
            ("ignored", 29_530),
            ("not_signed", 3),
            ("malformed", 0),
            ("unavailable", 0),
        ]),
        last_delivery_at: Some(delivered(0).at),
        last_accepted_at: Some(delivered(0).at),
        pending: Some(Pending { runs: 2, oldest_age_seconds: Some(14) }),
        known_ids: Some(48_112),
        runs: Runs { pushed: 14_205, restamped: 37, odd_times: 0, in_doubt: 0, rejected: 0 },
        pushes: BTreeMap::from([("taken", 9_816), ("retry", 4)]),
        points: 56_820,
        last_push_at: Some(ago(14)),
        failing_request: None,
        failing_since: None,
        blocked: None,
        in_doubt_at: None,
        rejected_at: None,
        clock_apart_seconds: Some(0),
        series: Some(SeriesCount { last_hour: 212, last_30_days: 1_348 }),
        max_series: 5000,
        capped_tags: Vec::new(),
        stale: Vec::new(),
        database: None,
        leadership: None,
        files: vec![
            file("journal", "journal.jsonl", 5_412_991),
            file("cache", "sent-workflows.json", 817_904),
            file("rejected", "rejected.jsonl", 2_114),
            file("series", "series.json", 96_380),
        ],
        answers: (0..20).map(answer).collect(),
        recent: (0..100).map(delivered).collect(),
        history: history(96),
    }
}

/// A live service that Datadog refuses.
pub(crate) fn degraded() -> Facts {
    let refused = |number: u64| Answered {
        at: ago(i64::try_from(21 + number * 60).unwrap()),
        verdict: "denied",
        status: Some(403),
        text: "{\"errors\":[\"Forbidden\"]}".to_owned(),
        runs: 40 - usize::try_from(number).unwrap(),
        ..answer(number)
    };
    let trouble = |reason: Reason, what: &str| Trouble { reason, what: what.to_owned(), hint: reason.hint() };
    Facts {
        degraded: true,
        troubles: vec![
            trouble(Reason::DatadogRefuses, "Datadog answers 403, and requests have failed for 14 min 21 s"),
            trouble(Reason::BacklogOld, "Runs wait: the oldest one for 14 min 34 s"),
        ],
        pending: Some(Pending { runs: 43, oldest_age_seconds: Some(874) }),
        failing_request: Some("series"),
        failing_since: Some(ago(861)),
        last_push_at: Some(ago(874)),
        answers: (0..14).map(refused).chain((14..20).map(answer)).collect(),
        pushes: BTreeMap::from([("taken", 9_816), ("denied", 14)]),
        ..well()
    }
}

/// A dry run.
pub(crate) fn dry_run() -> Facts {
    Facts {
        mode: "dry_run",
        target: None,
        last_push_at: None,
        answers: Vec::new(),
        pushes: BTreeMap::new(),
        points: 0,
        clock_apart_seconds: None,
        ..well()
    }
}

/// A dry run to which nothing has been delivered yet.
pub(crate) fn empty() -> Facts {
    Facts {
        started_at: ago(48),
        deliveries: BTreeMap::new(),
        last_delivery_at: None,
        last_accepted_at: None,
        pending: Some(Pending { runs: 0, oldest_age_seconds: None }),
        known_ids: Some(0),
        runs: Runs { pushed: 0, restamped: 0, odd_times: 0, in_doubt: 0, rejected: 0 },
        series: Some(SeriesCount { last_hour: 0, last_30_days: 0 }),
        recent: Vec::new(),
        history: Vec::new(),
        ..dry_run()
    }
}

/// A service that cannot write, and of which nothing more is known.
pub(crate) fn not_ready() -> Facts {
    Facts {
        ready: false,
        unready_reason: Some("/var/lib/runhound/journal.jsonl: No space left on device (os error 28)".to_owned()),
        unready_hint: Some(
            "Make room on the disk, and see that the cache directory is there and that this user can write in it; runs are \
             then accepted again, without a restart. GitHub repeats nothing by itself: redeliver what failed meanwhile.",
        ),
        pending: None,
        known_ids: None,
        series: None,
        ..degraded()
    }
}

/// Shows the page of these facts, for as long as the runtime lives: its address.
pub(crate) fn serve(facts: &Facts) -> String {
    use actix_web::{App, HttpResponse, HttpServer, web};
    let html = admin::html(facts).unwrap();
    let server = HttpServer::new(move || {
        let html = html.clone();
        App::new().route(
            "/",
            web::get().to(move || {
                let page = HttpResponse::Ok()
                    .content_type("text/html; charset=utf-8")
                    .insert_header(("Content-Security-Policy", admin::policy()))
                    .body(html.clone());
                async move { page }
            }),
        )
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
    let address = server.addrs()[0];
    drop(actix_web::rt::spawn(server.run()));
    format!("http://{address}/")
}
