//! HTTP as a client sees it, byte by byte.

use super::{PATIENCE, SECRET};
use crate::github::{self, Event};
use serde_json::Value;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// Who delivers to a public listener, with the secret of the tests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) SocketAddr);

impl Client {
    /// Delivers a run or a job as GitHub does.
    pub(crate) fn deliver<E: Event>(self, event: &E) -> Answer {
        answered(self.try_deliver(event))
    }

    /// Delivers a run or a job to a service that may have ended.
    pub(crate) fn try_deliver<E: Event>(self, event: &E) -> io::Result<Answer> {
        self.try_post(&event.body(), &[("X-GitHub-Event", E::NAME)])
    }

    pub(super) fn try_post(self, body: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let signature = github::sign(SECRET, body.as_bytes());
        let mut all = vec![("X-Hub-Signature-256", signature.as_str())];
        if !headers.iter().any(|(name, _)| *name == "Content-Type") {
            all.push(("Content-Type", "application/json"));
        }
        all.extend_from_slice(headers);
        self.try_request("POST", "/webhook", &all, body.as_bytes())
    }

    pub(super) fn try_request(
        self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let headers: String = headers.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            self.0,
            body.len()
        );
        Answer::read(&exchange(self.0, &[head.as_bytes(), body].concat())?)
    }
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn read(text: &str) -> io::Result<Self> {
        let broken = || io::Error::new(ErrorKind::UnexpectedEof, format!("{text:?}"));
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Ok(Self {
            status: status.ok_or_else(broken)?,
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The field `status` of the body.
    pub(crate) fn says(&self) -> &str {
        self.body["status"].as_str().unwrap_or_default()
    }
}

/// Sends bytes and reads what comes until the connection is closed.
pub(super) fn exchange(address: SocketAddr, bytes: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let is_left_open = read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(!is_left_open, "the connection was not closed: {answer:?}");
    Ok(answer)
}

pub(super) fn answered(answer: io::Result<Answer>) -> Answer {
    answer.unwrap_or_else(|error| panic!("no answer: {error}"))
}
