//! What benchmarks share: a recorded payload, runs, a file of sent IDs, and an intake on loopback that takes everything.

use anyhow::Result;
use runhound::metrics::{DEFAULT_PREFIX, Run, TagSet};
use serde_json::Value;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::Path,
    sync::Arc,
    thread,
};

/// IDs count up from here: all have as many digits.
pub(crate) const FIRST_ID: u64 = 20_000_000_000;

pub(crate) const TAG_SETS: u64 = 400;

/// The payload of a run that succeeded, as GitHub sent it.
pub(crate) fn payload() -> Result<Value> {
    let recorded: Value = serde_json::from_str(include_str!("../../fixtures/01-success.json"))?;
    Ok(recorded["request"]["payload"].clone())
}

/// One of the tag sets of a company, which are few.
pub(crate) fn tag_set(number: u64) -> TagSet {
    let number = number % TAG_SETS;
    let tags = [
        "branch:main".to_owned(),
        "conclusion:success".to_owned(),
        "default_branch:true".to_owned(),
        "event:push".to_owned(),
        "repository_owner:acme-rockets".to_owned(),
        format!("repository_name:service-{}", number / 4),
        "sender_type:user".to_owned(),
        format!("workflow_name:workflow-{}", number % 4),
    ];
    TagSet::of_runs(DEFAULT_PREFIX.to_owned(), tags.into())
}

/// A run, as it is handed to the ledger.
pub(crate) fn run(number: u64, end: i64, tag_set: Arc<TagSet>) -> Result<Run> {
    let key = (FIRST_ID + number).to_string().parse()?;
    Ok(Run { key, end, duration_ms: Some(61_000 + number % 1_000), job: None, tag_set })
}

/// Writes the file of sent IDs, as `JSON.stringify({ sent }, null, 2)` does.
pub(crate) fn write_cache(path: &Path, ids: Range<u64>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let (mut before, end) = ("\n    \"", if ids.is_empty() { "]\n}" } else { "\n  ]\n}" });
    file.write_all(b"{\n  \"sent\": [")?;
    for id in ids {
        write!(file, "{before}{id}\"")?;
        before = ",\n    \"";
    }
    file.write_all(end.as_bytes())?;
    file.into_inner()?.sync_all()
}

/// Starts an intake, which ends with the process.
pub(crate) fn start_intake() -> io::Result<SocketAddr> {
    start_noting_intake(|| ())
}

/// Starts an intake that notes each push as it comes.
pub(crate) fn start_noting_intake(note: impl Fn() + Clone + Send + 'static) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever sends may go at any time.
            let note = note.clone();
            thread::spawn(move || drop(answer(&stream, note)));
        }
    });
    Ok(address)
}

fn answer(mut stream: &TcpStream, note: impl Fn()) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let (status, body) = if line.starts_with("POST /api/v2/series ") {
            note();
            ("202 Accepted", r#"{"errors":[]}"#)
        } else {
            ("200 OK", r#"{"valid":true}"#)
        };
        let mut length = 0;
        line.clear();
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        line.clear();
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now())?;
        let head = format!("HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes())?;
    }
    Ok(())
}
