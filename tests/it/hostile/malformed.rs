//! Malformed requests of every kind, by chance from one seed: `RUNHOUND_HOSTILE_REQUESTS` says how many, and
//! `RUNHOUND_HOSTILE_SEED` by which.

use super::{assert_accepted, connect, delivery, number, read_to_close, statuses, strange, wrong_signature};
use crate::{
    github::{sign, workflow_run},
    harness::{SECRET, Service, Start},
};
use fastrand::Rng;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::Shutdown,
    sync::{Mutex, PoisonError},
};

const REQUESTS: usize = 800;
const CLIENTS: usize = 8;

/// Large bodies that are sent before all else: what they took stays with the allocator for a while.
const WARM_UP: usize = CLIENTS;

/// How much more memory the service may have after all than after the first tenth, in KiB: as much as bodies may take that are
/// not verified.
const GROWTH_MAX_KIB: u64 = 64 << 10;

/// What a stranger sends, and, where a secret is known, what its holder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    RandomBytes,
    RandomLines,
    Truncated,
    Flipped,
    WrongLength,
    HeaderBomb,
    Unsigned,
    Json(bool),
    Form(bool),
    SizeBomb(bool),
}

impl Kind {
    fn any(rng: &mut Rng) -> Self {
        match rng.u8(0..200) {
            0..20 => Self::RandomBytes,
            20..40 => Self::RandomLines,
            40..70 => Self::Truncated,
            70..100 => Self::Flipped,
            100..125 => Self::WrongLength,
            125..140 => Self::HeaderBomb,
            140..159 => Self::Unsigned,
            159..180 => Self::Json(rng.bool()),
            180..199 => Self::Form(rng.bool()),
            _ => Self::SizeBomb(rng.bool()),
        }
    }

    const fn is_signed(self) -> bool {
        matches!(self, Self::Json(true) | Self::Form(true) | Self::SizeBomb(true))
    }

    fn request(self, rng: &mut Rng) -> Vec<u8> {
        let bytes = |rng: &mut Rng, max| (0..rng.usize(0..max)).map(|_| rng.u8(..)).collect::<Vec<u8>>();
        match self {
            Self::RandomBytes => bytes(rng, 5_000),
            Self::RandomLines => random_lines(rng),
            Self::Truncated => {
                let whole = wrongly_signed(rng);
                whole[..rng.usize(0..whole.len())].to_vec()
            }
            Self::Flipped => {
                let mut whole = wrongly_signed(rng);
                for _ in 0..rng.usize(1..20) {
                    let at = rng.usize(0..whole.len().min(600));
                    whole[at] = rng.u8(..);
                }
                whole
            }
            Self::WrongLength => {
                let lengths =
                    ["0", "1", "-1", "99999999999999999999", "1e3", "26214401", "18446744073709551615", " ", "0x10"];
                let length = lengths[rng.usize(0..lengths.len())];
                request(&wrong_signature(), &format!("Content-Length: {length}\r\n"), &bytes(rng, 300))
            }
            Self::HeaderBomb => header_bomb(rng),
            Self::Unsigned => {
                let kinds = [
                    "",
                    "X-Hub-Signature-256: sha256=00\r\n",
                    "X-Hub-Signature-256: \u{1}\r\n",
                    "X-Hub-Signature: sha1=00\r\n",
                ];
                let kind = kinds[rng.usize(0..kinds.len())];
                let body = bytes(rng, 2_000);
                request(kind, &format!("Content-Length: {}\r\n", body.len()), &body)
            }
            Self::Json(is_signed) => signed(is_signed, "application/json", json_bomb(rng).as_bytes()),
            Self::Form(is_signed) => signed(is_signed, "application/x-www-form-urlencoded", form_bomb(rng).as_bytes()),
            Self::SizeBomb(is_signed) => {
                let filler = if rng.bool() { "[".repeat(24 << 20) } else { "x".repeat(27 << 20) };
                signed(is_signed, "application/json", format!("{{\"workflow_run\":{filler}").as_bytes())
            }
        }
    }
}

fn request(headers: &str, length: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}{length}\r\n");
    [head.as_bytes(), body].concat()
}

fn signed(is_signed: bool, content_type: &str, body: &[u8]) -> Vec<u8> {
    let signature = if is_signed { sign(SECRET, body) } else { format!("sha256={}", "5a".repeat(32)) };
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nX-Hub-Signature-256: {signature}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn wrongly_signed(rng: &mut Rng) -> Vec<u8> {
    delivery(rng.u64(..), "a guess", "keep-alive")
}

fn random_lines(rng: &mut Rng) -> Vec<u8> {
    let parts = [
        "POST", "GET", " ", "/webhook", "HTTP/1.1", "HTTP/9.9", "\r\n", "\n", ":", "Host", "\0", "%00", "*", "{",
        "\u{e9}",
    ];
    let parts = std::iter::repeat_with(|| parts[rng.usize(0..parts.len())]).take(60).collect::<String>();
    format!("{parts}\r\n\r\n").into_bytes()
}

fn header_bomb(rng: &mut Rng) -> Vec<u8> {
    let headers = match rng.u8(0..5) {
        0 => "X-Many: x\r\n".repeat(rng.usize(90..5_000)),
        1 => format!("X: {}\r\n", "x".repeat(rng.usize(1_000..400_000))),
        // Up to what the parser reads, and beyond what it takes for a name.
        2 => format!("{}: x\r\n", "x".repeat(rng.usize(60_000..140_000))),
        3 => "X-Hub-Signature-256: sha256=00\r\n".repeat(rng.usize(2..200)),
        _ => "\r ".repeat(rng.usize(1_000..100_000)),
    };
    request(&headers, "Content-Length: 0\r\n", b"")
}

fn json_bomb(rng: &mut Rng) -> String {
    let depth = rng.usize(100..200_000);
    let nested = match rng.u8(0..4) {
        0 => "[".repeat(depth),
        1 => format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        2 => "{\"a\":".repeat(depth),
        _ => format!("\"{}\"", "\\u0000".repeat(depth)),
    };
    match rng.u8(0..4) {
        0 => nested,
        1 => format!("{{\"action\":\"completed\",\"workflow_run\":{nested}}}"),
        2 => format!("{{\"action\":\"completed\",\"workflow_run\":{{\"id\":{nested}}}}}"),
        _ => format!("{{{}\"a\":1}}", "\"a\":1,".repeat(depth)),
    }
}

fn form_bomb(rng: &mut Rng) -> String {
    let times = rng.usize(10..100_000);
    match rng.u8(0..4) {
        0 => "a&".repeat(times),
        1 => "payload&".repeat(times),
        2 => format!("payload={}", "%".repeat(times)),
        _ => format!("payload={}", "%5B".repeat(times)),
    }
}

pub(super) fn resident_kib(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends requests of kinds that `is_wanted`; what was answered how often.
fn send(service: &Service, requests: usize, rng: &mut Rng, is_wanted: fn(Kind) -> bool) -> BTreeMap<u16, usize> {
    let (answers, turn) = (Mutex::new(BTreeMap::new()), Mutex::new(()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (answers, turn, mut rng) = (&answers, &turn, rng.fork());
            scope.spawn(move || {
                let kinds = std::iter::repeat_with(|| Kind::any(&mut rng)).filter(|kind| is_wanted(*kind));
                let kinds: Vec<Kind> = kinds.take(requests.div_ceil(CLIENTS)).collect();
                for kind in kinds {
                    // One at a time, for which there is room in every budget.
                    let _turn =
                        matches!(kind, Kind::SizeBomb(_)).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
                    let bytes = kind.request(&mut rng);
                    let mut stream = connect(service.address);
                    let (first, rest) = bytes.split_at(rng.usize(0..=bytes.len()));
                    // A server that answers early may stop reading.
                    drop(stream.write_all(first).and_then(|()| stream.write_all(rest)));
                    drop(stream.shutdown(Shutdown::Write));
                    let answer = read_to_close(&mut stream);
                    let statuses = statuses(&answer);
                    assert!(statuses.iter().all(|status| *status < 500 && *status != 202), "{kind:?}: {answer}");
                    for status in statuses {
                        *answers.lock().unwrap().entry(status).or_default() += 1;
                    }
                }
            });
        }
    });
    answers.into_inner().unwrap()
}

#[test]
fn malformed_requests_cost_no_memory_no_line_of_log_and_no_delivery() {
    let requests = number("RUNHOUND_HOSTILE_REQUESTS", REQUESTS);
    let seed = u64::try_from(number("RUNHOUND_HOSTILE_SEED", 1)).unwrap();
    let mut rng = Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    send(&service, WARM_UP, &mut rng, |kind| kind == Kind::SizeBomb(false));
    let mut answers = send(&service, requests / 10, &mut rng, |kind| !kind.is_signed());
    let before = resident_kib(&service);
    let mut answers_of = |requests, is_wanted| {
        for (status, count) in send(&service, requests, &mut rng, is_wanted) {
            *answers.entry(status).or_default() += count;
        }
    };
    answers_of(requests - requests / 10, |kind| !kind.is_signed());
    let after = resident_kib(&service);
    println!("seed {seed}: {requests} requests, answered {answers:?}; {before} KiB before, {after} KiB after");
    assert!(after < before + GROWTH_MAX_KIB, "{before} KiB have become {after} KiB");
    assert_accepted(&service, 1);
    let log = service.stop();
    assert_eq!(strange(&log), Vec::<&String>::new(), "lines that strangers have caused");
}

#[test]
fn bombs_with_a_valid_signature_are_refused_and_cost_no_memory() {
    let requests = number("RUNHOUND_HOSTILE_REQUESTS", REQUESTS) / 10;
    let mut rng = Rng::with_seed(2);
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    let warm = send(&service, requests.min(50), &mut rng, Kind::is_signed);
    let before = resident_kib(&service);
    let answers = send(&service, requests, &mut rng, Kind::is_signed);
    let after = resident_kib(&service);
    println!("{requests} signed requests, answered {answers:?}; {before} KiB before, {after} KiB after");
    assert!(warm.keys().chain(answers.keys()).all(|status| [200, 400, 413].contains(status)), "{answers:?}");
    assert!(after < before + 4 * GROWTH_MAX_KIB, "{before} KiB have become {after} KiB");
    let body = workflow_run(1).body();
    assert_eq!(service.post(&body, &[]).status, 202);
}
