//! Just enough of HTTP/1.1 for a server on loopback whose every connection is in hand: one thread serves one
//! connection, and an answer may be none at all.
//!
//! Invariant: nothing here knows of Datadog or GitHub. A request is read to its end before it is handled.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// The longest line of a head, in bytes.
const LINE_MAX_BYTES: u64 = 64 << 10;

/// The longest body that is read; a longer one costs its connection.
const BODY_MAX_BYTES: usize = 64 << 20;

/// A whole request.
#[derive(Debug)]
pub(crate) struct Request {
    /// `POST`, `GET` and so on.
    pub(crate) method: String,
    /// The path, without a query.
    pub(crate) path: String,
    /// What stands behind the question mark; empty without one.
    pub(crate) query: String,
    /// Headers by their lower-case names. Of one that stands twice the last is kept.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body as sent, freed of its chunks.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of the header with this lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer. `Content-Length` is added when it is written, all other headers are as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// Names and values.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// Adds a header, unless the answer has one of that name.
    pub(crate) fn add_default(&mut self, name: &str, value: &str) {
        if !self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut answer = self.clone();
        // Source: RFC 9110, 8.6: these have no body and say nothing of its length.
        let has_body = !matches!(self.status, 100..=199 | 204 | 304);
        if has_body {
            answer.add_default("Content-Length", &self.body.len().to_string());
        }
        let mut text = format!("HTTP/1.1 {} \r\n", self.status);
        for (name, value) in &answer.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        if has_body {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

/// What handles requests; `None` drops the connection without an answer.
type Handler = Arc<dyn Fn(Request) -> Option<Answer> + Send + Sync>;

/// A server at work.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    is_stopping: Arc<AtomicBool>,
    acceptor: JoinHandle<Vec<Connection>>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl Server {
    /// Serves what comes in at `listener`.
    pub(crate) fn start(
        listener: TcpListener,
        handle: impl Fn(Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let is_stopping = Arc::new(AtomicBool::new(false));
        let asked_to_stop = Arc::clone(&is_stopping);
        let handle: Handler = Arc::new(handle);
        let acceptor = thread::spawn(move || accept(&listener, &handle, &asked_to_stop));
        Self { address, is_stopping, acceptor }
    }

    /// Closes the listener, then every connection; returns once all threads have ended. A handler that waits for
    /// something must have been released before.
    pub(crate) fn stop(self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // The connection wakes the acceptor; if it cannot be made, the acceptor has ended already.
        drop(TcpStream::connect(self.address));
        for connection in self.acceptor.join().into_iter().flatten() {
            close(&connection.stream);
            // A panic in a handler has been printed, and the state it held is poisoned: readers will fail by that.
            drop(connection.thread.join());
        }
    }
}

/// Accepts until asked to stop, and returns what is left of the connections. The listener is closed by then.
fn accept(listener: &TcpListener, handle: &Handler, is_stopping: &AtomicBool) -> Vec<Connection> {
    let mut connections: Vec<Connection> = Vec::new();
    for stream in listener.incoming() {
        if is_stopping.load(Ordering::SeqCst) {
            break;
        }
        connections.retain(|connection| !connection.thread.is_finished());
        let Ok((stream, served)) = stream.and_then(|stream| Ok((stream.try_clone()?, stream))) else {
            continue;
        };
        let handle = Arc::clone(handle);
        let thread = thread::spawn(move || serve(&served, &handle));
        connections.push(Connection { stream, thread });
    }
    connections
}

/// Serves one connection to its end. It is closed even if a handler panics.
fn serve(stream: &TcpStream, handle: &Handler) {
    struct Closing<'a>(&'a TcpStream);
    impl Drop for Closing<'_> {
        fn drop(&mut self) {
            close(self.0);
        }
    }
    let closing = Closing(stream);
    // A broken connection is its client's affair.
    drop(converse(closing.0, handle));
}

/// The stream has a clone, so that dropping it would not be enough.
fn close(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Both));
}

fn converse(stream: &TcpStream, handle: &Handler) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    stream.set_nodelay(true)?;
    while let Some(request) = read_request(&mut reader)? {
        let is_last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let Some(answer) = handle(request) else {
            break;
        };
        writer.write_all(&answer.to_bytes())?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// The next request; `None` if the client has closed the connection instead.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(line) = read_line(reader)? else {
        return Ok(None);
    };
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(broken("the first line is no request of HTTP/1.1"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let method = method.to_owned();
    let headers = read_headers(reader)?;
    let body = read_body(reader, &headers)?;
    Ok(Some(Request { method, path, query, headers, body }))
}

/// The lines up to an empty one, as headers. Trailers have the same form.
fn read_headers(reader: &mut impl BufRead) -> io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(reader)?.ok_or_else(|| broken("the head breaks off"))?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a header without a colon"))?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

fn read_body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match (headers.get("transfer-encoding"), headers.get("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => loop {
            let size = read_line(reader)?.ok_or_else(|| broken("the chunks break off"))?;
            let digits = size.split(';').next().unwrap_or(&size).trim();
            let length = usize::from_str_radix(digits, 16).map_err(|_| broken("a chunk without its size"))?;
            if length == 0 {
                read_headers(reader)?;
                return Ok(body);
            }
            read_exactly(reader, length, &mut body)?;
            read_line(reader)?;
        },
        (Some(_), _) => Err(broken("a transfer encoding other than chunked")),
        (None, Some(length)) => {
            let length = length.parse().map_err(|_| broken("Content-Length is no number"))?;
            read_exactly(reader, length, &mut body)?;
            Ok(body)
        }
        (None, None) => Ok(body),
    }
}

fn read_exactly(reader: &mut impl BufRead, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
    let start = body.len();
    let end =
        start.checked_add(length).filter(|end| *end <= BODY_MAX_BYTES).ok_or_else(|| broken("too long a body"))?;
    body.resize(end, 0);
    reader.read_exact(body.get_mut(start..).unwrap_or_default())
}

/// The next line without its end; `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    reader.take(LINE_MAX_BYTES).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let line = line.strip_suffix('\n').ok_or_else(|| broken("a line without an end"))?;
    Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
