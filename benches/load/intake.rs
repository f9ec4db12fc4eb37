//! The intake: a Datadog that takes everything, in this process.

use anyhow::Result;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// One for each server, so that each one's pushes are counted apart.
pub(crate) struct Intake {
    pub(crate) address: SocketAddr,
    pushes: Arc<AtomicU64>,
}

impl Intake {
    /// Its threads end with the process.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let intake = Self { address: listener.local_addr()?, pushes: Arc::default() };
        let pushes = Arc::clone(&intake.pushes);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let pushes = Arc::clone(&pushes);
                thread::spawn(move || drop(answer(&stream, &pushes)));
            }
        });
        Ok(intake)
    }

    pub(crate) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::Relaxed)
    }
}

fn answer(mut stream: &TcpStream, pushes: &AtomicU64) -> Result<()> {
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
        pushes.fetch_add(u64::from(is_push), Ordering::Relaxed);
        let (status, body) =
            if is_push { ("202 Accepted", r#"{"errors":[]}"#) } else { ("200 OK", r#"{"valid":true}"#) };
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now())?;
        let head = format!("HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes())?;
    }
}
