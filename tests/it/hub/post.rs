//! One post to a hook's URL, as GitHub makes it.
//!
//! Invariant: nothing but loopback is ever connected to; redirections are not followed, and nothing is tried twice.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// What was not connected to, for whatever reason.
const NOT_CONNECTED: &str = "failed to connect to host";

/// Whom to post what.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) url: String,
    /// Who answers at the URL, if anybody does.
    pub(super) address: Option<SocketAddr>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) timeout: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: String,
    /// 0 without an answer.
    pub(super) status_code: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) duration: Duration,
}

impl Outcome {
    /// What an answer of this status comes to; 0 for none.
    pub(super) fn of(status_code: u16) -> Self {
        let status = match status_code {
            0 => NOT_CONNECTED.to_owned(),
            200..=299 => "OK".to_owned(),
            _ => format!("Invalid HTTP Response: {status_code}"),
        };
        Self { status, status_code, headers: Vec::new(), body: String::new(), duration: Duration::ZERO }
    }
}

/// Who answers at a URL: the end of a road that begins it, or itself if it is on loopback.
pub(super) fn address(roads: &[(String, SocketAddr)], url: &str) -> Option<SocketAddr> {
    if let Some((_, address)) = roads.iter().find(|(start, _)| url.starts_with(start.as_str())) {
        return Some(*address);
    }
    let host = url.strip_prefix("http://")?.split('/').next()?;
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let ip = if name == "localhost" { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { name.parse().ok()? };
    let port = port.parse().ok()?;
    ip.is_loopback().then_some(SocketAddr::new(ip, port))
}

/// Posts, and waits for the answer as long as GitHub does.
pub(super) fn send(post: &Post) -> Outcome {
    let begun = Instant::now();
    let mut outcome = match exchange(post, begun + post.timeout) {
        Ok(outcome) => outcome,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Outcome { status: "timed out".to_owned(), ..Outcome::of(0) }
        }
        Err(_) => Outcome::of(0),
    };
    outcome.duration = begun.elapsed();
    outcome
}

fn exchange(post: &Post, deadline: Instant) -> io::Result<Outcome> {
    let address = post.address.ok_or(ErrorKind::ConnectionRefused)?;
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let (_, rest) = post.url.split_once("://").unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let headers: String = post.headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        post.body.len()
    );
    // One who answers before the end, and reads no more, has answered all the same.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(post.body.as_bytes())));
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    read_answer(&String::from_utf8_lossy(&bytes)).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn read_answer(text: &str) -> Option<Outcome> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status_code = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Some(Outcome { headers, body: body.to_owned(), ..Outcome::of(status_code) })
}
