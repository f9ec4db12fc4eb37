//! The load benchmark: how many deliveries a second are accepted, each of them signed, distinct, 20 KB long, and on disk
//! before its answer; and how near that comes to what this machine allows at all.
//!
//! Three servers, each a process of its own, are loaded in turn over loopback, round by round, in a rotating order:
//!
//! - `durable limit`: actix-web with as many workers, which reads the body, verifies the signature, reads two fields, and
//!   has one thread append a line as long as ours and sync it together with those of whoever waits at the same moment.
//!   It drops no duplicate, keeps no state, logs and pushes nothing.
//! - `runhound live`: the real binary, pushing all the while to an intake in this process that takes everything.
//! - `runhound dry run`: the same with `--dry-run`, which writes its payloads to a file.
//!
//! How to read the table: all columns but the peak are medians over the rounds. `of limit` is the median of each round's
//! own ratio, and says more than the rate: the disk, and whatever else the machine does, touch all three alike. The rates
//! hold for a machine that also carries the client and the intake. CPU time is the server's own, user and system, until it
//! has come to rest after a round, so the pushes are in it. Latency is as the client sees it: with a fixed number of
//! connections it is little else than that number divided by the rate.
//!
//! At the end each server is killed without warning, and what its files hold must be just what it has answered 202 for.
//! Any other answer, and any difference there, makes the benchmark fail.
//!
//! Variables: `RUNHOUND_BENCH_ROUNDS` (5), `RUNHOUND_BENCH_SECONDS` (3, a round), `RUNHOUND_BENCH_CONNECTIONS` (64),
//! `RUNHOUND_BENCH_DIR` (a directory on the disk to measure; else below cargo's target directory). `RUST_LOG` reaches
//! the servers, whose log goes to a file; without it they log as they do in service, a line for each delivery. The line
//! that they start with must stay: `warn,runhound::serve=info` tells what the others cost.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a report, and a start line to be read by its parent")]
#![allow(clippy::indexing_slicing, reason = "a panic is a failed benchmark")]
#![allow(clippy::cast_precision_loss, reason = "counts and times far below 2^53")]

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    rt::{self, net::TcpStream},
    web,
};
use anyhow::{Context, Result, bail, ensure};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use std::{
    cell::RefCell,
    collections::HashSet,
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command},
    rc::Rc,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

const FIXTURE: &str = include_str!("../fixtures/01-success.json");
const SECRET: &str = "the benchmark's own secret";
const BODY_BYTES: usize = 20_480;
const LINE_BYTES: usize = 300;
const WORKFLOWS: [&str; 8] = ["CI", "Release", "Nightly", "Docs", "Lint", "Audit", "Deploy", "Stale issues"];

/// IDs count up from here: all have as many digits, so that one can take the place of another.
const FIRST_ID: u64 = 20_000_000_000;

/// How many deliveries a second are signed ahead of a round. One that is faster ends sooner.
const SIGNED_PER_SECOND: u64 = 40_000;

/// A server is at rest when it uses no more than a tick of processor time in so long.
const REST: Duration = Duration::from_millis(1_200);
const PATIENCE: Duration = Duration::from_secs(30);

/// The unit of times in `/proc/PID/stat`: Linux shows 100 ticks a second to programs, whatever its own are.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [mode, dir] if mode == "--limit-server" => serve_limit(Path::new(dir)),
        // Cargo says so; a test of all targets does not, and has better things to do.
        arguments if arguments.iter().any(|argument| argument == "--bench") => compare(),
        _ => {
            println!("run it by `cargo bench --bench load`");
            Ok(())
        }
    }
}

fn secret() -> Hmac<Sha256> {
    Hmac::new_from_slice(SECRET.as_bytes()).unwrap_or_else(|error| unreachable!("a key of any length will do: {error}"))
}

// The durable limit: the least that lies between a signed delivery and a durable 202.

type Append = (Vec<u8>, oneshot::Sender<()>);

#[derive(Deserialize)]
struct Delivery<'a> {
    action: &'a str,
    workflow_run: WorkflowRun,
}

#[derive(Deserialize)]
struct WorkflowRun {
    id: u64,
}

async fn accept(lines: web::Data<mpsc::Sender<Append>>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let header = request.headers().get("x-hub-signature-256").and_then(|value| value.to_str().ok());
    let signature = header.and_then(|text| hex::decode(text.strip_prefix("sha256=")?).ok()).unwrap_or_default();
    if secret().chain_update(&body).verify_slice(&signature).is_err() {
        return HttpResponse::Unauthorized().finish();
    }
    let Ok(Delivery { action: "completed", workflow_run: WorkflowRun { id } }) = serde_json::from_slice(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    let line = format!("{{\"accept\":{{\"key\":\"{id}\",\"padding\":\"{:x<1$}\"}}}}\n", "", LINE_BYTES - 46);
    let (reply, answer) = oneshot::channel();
    if lines.send((line.into_bytes(), reply)).is_err() || answer.await.is_err() {
        return HttpResponse::ServiceUnavailable().finish();
    }
    let body = format!("{{\"status\":\"accepted\",\"id\":\"{id}\"}}");
    HttpResponse::Accepted().content_type("application/json").body(body)
}

fn commit_in_groups(file: &mut File, inbox: &mpsc::Receiver<Append>) -> io::Result<()> {
    while let Ok((mut bytes, reply)) = inbox.recv() {
        let mut waiting = vec![reply];
        while let Ok((line, reply)) = inbox.try_recv() {
            bytes.extend_from_slice(&line);
            waiting.push(reply);
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        // Whoever asked may have gone.
        for reply in waiting {
            reply.send(()).unwrap_or_default();
        }
    }
    Ok(())
}

fn serve_limit(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = File::create(dir.join("journal.jsonl"))?;
    let (lines, inbox) = mpsc::channel();
    thread::spawn(move || commit_in_groups(&mut file, &inbox));
    let lines = web::Data::new(lines);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    eprintln!("listening on http://{}/webhook", listener.local_addr()?);
    let server = HttpServer::new(move || {
        let bodies = web::PayloadConfig::new(25 << 20);
        App::new().app_data(lines.clone()).app_data(bodies).route("/webhook", web::post().to(accept))
    });
    Ok(rt::System::new().block_on(server.listen(listener)?.run())?)
}

// The intake, which takes everything.

static PUSHES: AtomicU64 = AtomicU64::new(0);

fn start_intake() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || drop(answer_pushes(&stream)));
        }
    });
    Ok(address)
}

fn answer_pushes(mut stream: &std::net::TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut request, mut line, mut length) = (String::new(), String::new(), 0);
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let is_push = request.starts_with("POST /api/v2/series ");
        PUSHES.fetch_add(u64::from(is_push), Ordering::Relaxed);
        let (status, body) =
            if is_push { ("202 Accepted", r#"{"errors":[]}"#) } else { ("200 OK", r#"{"valid":true}"#) };
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now())?;
        let head = format!("HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes())?;
    }
}

// The servers.

struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    dir: TempDir,
    next_id: u64,
    accepted: usize,
    rounds: Vec<Round>,
}

fn runhound(files: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runhound"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--cache-dir"]).arg(files);
    command.env_clear().envs(env::var_os("RUST_LOG").map(|log| ("RUST_LOG", log)));
    command.env("GITHUB_WEBHOOK_SECRET", SECRET).env("RUNHOUND_ADMIN_LISTEN", "off");
    command
}

struct Round {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_s_per_1000: f64,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts what `command` makes for a folder of files in `parent`.
    fn start(name: &'static str, parent: &str, command: impl FnOnce(&Path) -> Command) -> Result<Self> {
        let dir = tempfile::tempdir_in(parent)?;
        let log = dir.path().join("log");
        let child = command(&dir.path().join("files")).stderr(File::create(&log)?).spawn()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = Self { name, child, address, dir, next_id: FIRST_ID, accepted: 0, rounds: Vec::new() };
        let since = Instant::now();
        loop {
            let text = fs::read_to_string(&log)?;
            let rest = text.split_once("listening on http://").map(|(_, rest)| rest);
            if let Some((address, _)) = rest.and_then(|rest| rest.split_once("/webhook")) {
                server.address = address.parse()?;
                return Ok(server);
            }
            let is_gone = server.child.try_wait()?.is_some();
            ensure!(!is_gone && since.elapsed() < PATIENCE, "{name} does not start: {text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn cpu_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // What follows the name in parentheses begins with field 3; utime and stime are 14 and 15.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        Ok(fields.map(str::parse::<f64>).sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
    }

    fn peak_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Waits until it is at rest, and tells its processor time.
    fn rest(&self) -> Result<f64> {
        let since = Instant::now();
        let mut before = self.cpu_s()?;
        loop {
            thread::sleep(REST);
            let now = self.cpu_s()?;
            if now - before < 1.5 / TICKS_PER_SECOND || since.elapsed() > PATIENCE {
                return Ok(now);
            }
            before = now;
        }
    }

    fn round(&mut self, connections: usize, length: Duration) -> Result<Round> {
        let mut orders = Vec::new();
        let end = jiff::Timestamp::now();
        let workflows = WORKFLOWS.len().min(connections);
        for workflow in &WORKFLOWS[..workflows] {
            let ids = self.next_id..self.next_id + length.as_secs() * SIGNED_PER_SECOND / workflows as u64;
            self.next_id = ids.end;
            orders.push(Rc::new(RefCell::new(Orders::new(workflow, end, ids)?)));
        }
        let cpu_before = self.rest()?;
        let load = load(self.address, connections, length, &orders);
        let (latencies_us, elapsed) = rt::Runtime::new()?.block_on(load).with_context(|| self.name)?;
        let cpu_s = self.rest()? - cpu_before;
        let accepted = latencies_us.len();
        ensure!(accepted > 0, "{}: nothing was accepted", self.name);
        self.accepted += accepted;
        let permille = |permille: usize| f64::from(latencies_us[(accepted - 1) * permille / 1000]) / 1000.0;
        Ok(Round {
            rate: accepted as f64 / elapsed.as_secs_f64(),
            p50_ms: permille(500),
            p99_ms: permille(990),
            cpu_s_per_1000: cpu_s * 1000.0 / accepted as f64,
        })
    }

    /// Kills it, and compares what is on disk with what was answered.
    fn check(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let mut recorded = HashSet::new();
        for entry in fs::read_dir(self.dir.path().join("files"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("journal") || name.starts_with("sent-workflows") {
                recorded.extend(fs::read_to_string(&path)?.lines().filter_map(recorded_id));
            }
        }
        let (name, accepted, recorded) = (self.name, self.accepted, recorded.len());
        ensure!(recorded == accepted, "{name}: {accepted} answers 202, but {recorded} runs on disk");
        println!("{name}: {accepted} answers 202, and just as many runs on disk after kill -9");
        Ok(())
    }
}

/// The run that a line of a journal accepts, or a line of the cache names.
fn recorded_id(line: &str) -> Option<u64> {
    let key = match line.strip_prefix("{\"accept\":{\"key\":\"") {
        Some(rest) => rest.split('"').next()?,
        None => line.trim().trim_end_matches(',').trim_matches('"'),
    };
    key.parse().ok().filter(|id| *id >= FIRST_ID)
}

// The client: one thread, with as little to do for a delivery as possible.

/// A request to send over and over, each time with another ID and its signature.
struct Orders {
    request: Vec<u8>,
    id_at: usize,
    signature_at: usize,
    signed: std::vec::IntoIter<(u64, String)>,
}

type Shared = Rc<RefCell<Orders>>;

impl Orders {
    fn new(workflow: &str, end: jiff::Timestamp, ids: std::ops::Range<u64>) -> Result<Self> {
        let body = body(workflow, end)?;
        let id_in_body = body.find(&format!("\"id\":{FIRST_ID},")).context("no ID in the payload")? + "\"id\":".len();
        let mut body = body.into_bytes();
        let head = "POST /webhook HTTP/1.1\r\nHost: runhound.example.com\r\nUser-Agent: GitHub-Hookshot/7c04f2e\r\n\
             Accept: */*\r\nContent-Type: application/json\r\nX-GitHub-Event: workflow_run\r\n\
             X-GitHub-Delivery: 54327c40-fa02-11f1-9f86-53949f28b0ba\r\nX-Hub-Signature-256: sha256=";
        let rest = format!("{:064}\r\nContent-Length: {}\r\n\r\n", 0, body.len());
        let request = [head.as_bytes(), rest.as_bytes(), &body].concat();
        let mut signed = Vec::new();
        let begun = secret().chain_update(&body[..id_in_body]);
        for id in ids {
            write!(&mut body[id_in_body..], "{id}")?;
            let digest = begun.clone().chain_update(&body[id_in_body..]).finalize().into_bytes();
            signed.push((id, hex::encode(digest)));
        }
        let id_at = head.len() + rest.len() + id_in_body;
        Ok(Self { request, id_at, signature_at: head.len(), signed: signed.into_iter() })
    }
}

/// A real payload with `FIRST_ID` in it, which ended just now, padded by its commit's message.
fn body(workflow: &str, end: jiff::Timestamp) -> Result<String> {
    let mut payload = serde_json::from_str::<Value>(FIXTURE)?["request"]["payload"].take();
    payload["workflow"]["name"] = workflow.into();
    payload["workflow_run"]["id"] = FIRST_ID.into();
    payload["workflow_run"]["updated_at"] = format!("{end:.0}").into();
    payload["workflow_run"]["run_started_at"] = format!("{:.0}", end - Duration::from_secs(272)).into();
    let missing = BODY_BYTES.saturating_sub(payload.to_string().len());
    let message = &mut payload["workflow_run"]["head_commit"]["message"];
    *message = format!("{}{}", message.as_str().unwrap_or_default(), ".".repeat(missing)).into();
    Ok(payload.to_string())
}

/// How long each accepted delivery took, sorted, and how long all took together.
async fn load(
    address: SocketAddr,
    connections: usize,
    length: Duration,
    orders: &[Shared],
) -> Result<(Vec<u32>, Duration)> {
    let mut streams = Vec::new();
    for orders in orders.iter().cycle().take(connections) {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push((stream, Rc::clone(orders)));
    }
    let start = Instant::now();
    let deliver = |(stream, orders)| rt::spawn(deliver(stream, orders, start + length));
    let tasks: Vec<_> = streams.into_iter().map(deliver).collect();
    let mut latencies_us = Vec::new();
    for task in tasks {
        let done = rt::time::timeout(length + PATIENCE, task).await.context("no answer for a long time")?;
        latencies_us.extend(done??);
    }
    let elapsed = start.elapsed();
    if elapsed < length {
        println!("    (all that was signed ahead was sent in {:.1} s)", elapsed.as_secs_f64());
    }
    latencies_us.sort_unstable();
    Ok((latencies_us, elapsed))
}

/// Sends one delivery after the other until `end`, and tells how long each took.
async fn deliver(stream: TcpStream, orders: Shared, end: Instant) -> Result<Vec<u32>> {
    let (mut request, id_at, signature_at) = {
        let orders = orders.borrow();
        (orders.request.clone(), orders.id_at, orders.signature_at)
    };
    let mut latencies_us = Vec::new();
    loop {
        let start = Instant::now();
        let next = if start < end { orders.borrow_mut().signed.next() } else { None };
        let Some((id, signature)) = next else {
            return Ok(latencies_us);
        };
        write!(&mut request[id_at..], "{id}")?;
        request[signature_at..signature_at + signature.len()].copy_from_slice(signature.as_bytes());
        let mut sent = 0;
        while sent < request.len() {
            match stream.try_write(&request[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        let (mut answer, mut read) = ([0; 2048], 0);
        // An answer is a head and an object; whatever else comes is a failure.
        while !answer[..read].ends_with(b"}") {
            stream.readable().await?;
            match stream.try_read(&mut answer[read..]) {
                Ok(0) => bail!("the connection was closed"),
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            let text = &answer[..read];
            ensure!(text.starts_with(b"HTTP/1.1 202 ") || read < 13, "not accepted: {}", String::from_utf8_lossy(text));
        }
        latencies_us.push(u32::try_from(start.elapsed().as_micros())?);
    }
}

// The comparison.

fn setting(name: &str, default: usize) -> Result<usize> {
    let value = env::var(name).map_or(Ok(default), |text| text.parse()).with_context(|| name.to_owned())?;
    ensure!(value > 0, "{name}: must be 1 or more");
    Ok(value)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// How long it takes here to append a full group and sync it, with nothing else going on, in milliseconds.
fn sync_ms(dir: &str) -> Result<f64> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&vec![b'x'; 64 * LINE_BYTES])?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(times.into_iter()))
}

fn compare() -> Result<()> {
    let rounds = setting("RUNHOUND_BENCH_ROUNDS", 5)?;
    let length = Duration::from_secs(setting("RUNHOUND_BENCH_SECONDS", 3)? as u64);
    let connections = setting("RUNHOUND_BENCH_CONNECTIONS", 64)?;
    let dir = env::var("RUNHOUND_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let intake = start_intake()?;
    println!("{connections} connections, bodies of {BODY_BYTES} B, {rounds} rounds of {length:?}");
    println!("{} processors; 64 lines are on disk after {:.2} ms\n", thread::available_parallelism()?, sync_ms(&dir)?);
    let program = env::current_exe()?;
    let mut servers = [
        Server::start("durable limit", &dir, |files| {
            let mut command = Command::new(&program);
            command.arg("--limit-server").arg(files);
            command
        })?,
        Server::start("runhound live", &dir, |files| {
            let mut command = runhound(files);
            command.env("DD_API_KEY", "none").env("DD_URL", format!("http://{intake}"));
            command
        })?,
        Server::start("runhound dry run", &dir, |files| {
            let mut command = runhound(files);
            command.arg("--dry-run");
            command
        })?,
    ];
    for number in 0..=rounds {
        for turn in 0..servers.len() {
            let server = &mut servers[(number + turn) % 3];
            let round = server.round(connections, length)?;
            let label = if number == 0 { "warm-up".to_owned() } else { format!("round {number}") };
            println!("{label:<8} {:<16} {round}", server.name);
            if number > 0 {
                server.rounds.push(round);
            }
        }
    }
    report(&servers)?;
    let pushes = PUSHES.load(Ordering::Relaxed);
    ensure!(pushes > 0, "nothing was pushed");
    println!("\n{pushes} pushes were taken meanwhile");
    servers.into_iter().try_for_each(Server::check)
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, p50_ms, p99_ms, cpu_s_per_1000 } = self;
        write!(f, "{rate:>7.0}/s  p50 {p50_ms:>6.2} ms  p99 {p99_ms:>6.2} ms  CPU {cpu_s_per_1000:.3} s/1000")
    }
}

fn report(servers: &[Server; 3]) -> Result<()> {
    let [limit, ..] = servers;
    println!("\n                 accepted/s of limit   p50 ms   p99 ms CPU s/1000 of limit peak MiB of limit");
    for server in servers {
        let all = |value: fn(&Round) -> f64| median(server.rounds.iter().map(value));
        let ratio = |value: fn(&Round) -> f64| {
            let pairs = server.rounds.iter().zip(&limit.rounds);
            median(pairs.map(|(round, limit)| value(round) / value(limit)))
        };
        println!(
            "{:<16} {:>10.0} {:>8.3} {:>8.2} {:>8.2} {:>10.3} {:>8.2} {:>8.1} {:>8.2}",
            server.name,
            all(|round| round.rate),
            ratio(|round| round.rate),
            all(|round| round.p50_ms),
            all(|round| round.p99_ms),
            all(|round| round.cpu_s_per_1000),
            ratio(|round| round.cpu_s_per_1000),
            server.peak_mib()?,
            server.peak_mib()? / limit.peak_mib()?,
        );
    }
    Ok(())
}
