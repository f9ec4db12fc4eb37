//! The stand-in itself, held to the rules that it stands for.

mod access;
mod actions;
mod deliveries;
mod faults;
mod jobs;
mod webhooks;

use super::*;
use crate::{
    github::RunBuilder,
    harness::Answer,
    http::{self, Request},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

const WAIT_MAX: Duration = Duration::from_secs(20);
const SECRET: &str = "It's a Secret to Everybody";
const HOOKS: &str = "/repos/acme/web/hooks";

/// A client of a hub, with a token that may do everything until it is given another one.
struct Asking<'a> {
    hub: &'a Hub,
    token: String,
}

impl<'a> Asking<'a> {
    fn of(hub: &'a Hub) -> Self {
        Self { hub, token: hub.token(Rights::All) }
    }

    /// Sends one request below `/api/v3` on a connection of its own; `None` if it was dropped without an answer.
    fn try_ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.hub.address).expect("the hub listens");
        let headers: String = headers.iter().flat_map(|(name, value)| [*name, ": ", value, "\r\n"]).collect();
        let authorisation = match self.token.as_str() {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let length = body.len();
        let text = format!(
            "{method} /api/v3{path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nUser-Agent: test\r\n{authorisation}\
             {headers}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).expect("the hub reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the hub closes in good order");
        Answer::read(&answer).ok()
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.try_ask(method, path, &[], &body).expect("an answer")
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null)
    }

    /// Where `Link` leads to by this relation, below `/api/v3`.
    fn link(&self, answer: &Answer, rel: &str) -> Option<String> {
        let links = answer.header("link")?;
        let link = links.split(", ").find(|link| link.ends_with(&format!("rel=\"{rel}\"")))?;
        let url = link.strip_prefix('<')?.split_once('>')?.0;
        Some(url.strip_prefix(&format!("{}/api/v3", self.hub.url())).expect("a link within the API").to_owned())
    }
}

/// Who receives deliveries: it keeps each request, and answers all with one status.
struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Vec<Request>>>,
    status: Arc<AtomicU16>,
    server: Option<Server>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (kept, status) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(AtomicU16::new(202)));
        let (keeping, answering) = (Arc::clone(&kept), Arc::clone(&status));
        let server = Server::start(listener, move |request| {
            keeping.lock().unwrap().push(request);
            let status = answering.load(Ordering::SeqCst);
            (status != 0).then(|| http::Answer { status, headers: Vec::new(), body: "heard".to_owned() })
        });
        Self { address, kept, status, server: Some(server) }
    }

    fn url(&self) -> String {
        format!("http://{}/webhook", self.address)
    }

    /// The status of its answers from now on; 0 drops the connection without one.
    fn answer_by(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// What came in, and is forgotten.
    fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.kept.lock().unwrap())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.take().expect("it is at work").stop();
    }
}

/// A completed run of the repository that most tests are about.
fn run(id: u64) -> RunBuilder {
    crate::github::workflow_run(id).owner("acme").repo("web")
}

/// What is in a list of the API, by a field.
fn fields(list: &Value, name: &str) -> Vec<Value> {
    list.as_array().expect("a list").iter().map(|item| item[name].clone()).collect()
}
