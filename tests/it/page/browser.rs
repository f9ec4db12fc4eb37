//! A real browser without a window, driven over the protocol of its developer tools.
//!
//! Invariant: it knows loopback addresses only, has a profile of its own, and does not outlive its test. There is one at a
//! time, for each wants a machine for itself.
//!
//! Source: <https://chromedevtools.github.io/devtools-protocol/>.

use crate::harness::{PATIENCE, Process};
use awc::{
    error::WsProtocolError,
    ws::{Frame, Message},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{Sink, SinkExt, StreamExt, stream::LocalBoxStream};
use serde_json::{Value, json};
use std::{
    env,
    ffi::OsString,
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
    pin::Pin,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, Once, PoisonError, mpsc},
};
use tempfile::TempDir;
use tokio::time::timeout;

/// What it is called, where it is installed.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

const FLAGS: [&str; 15] = [
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-breakpad",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    // Whatever it asks for by a name is nowhere.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// The longest message of the browser: a picture.
const MESSAGE_MAX_BYTES: usize = 64 << 20;

/// What each page does before anything of its own: it notes what its policy stops.
const WATCH: &str = "window.stopped = [];
    document.addEventListener('securitypolicyviolation', (stop) => window.stopped.push(stop.violatedDirective + ' ' + stop.blockedURI));";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pixels of the picture for one of the page.
    pub(crate) scale: u32,
    pub(crate) is_dark: bool,
    pub(crate) runs_scripts: bool,
}

/// A desk and a phone, by day.
pub(crate) const DESK: Look = Look { width: 1400, height: 1000, scale: 1, is_dark: false, runs_scripts: true };
pub(crate) const PHONE: Look = Look { width: 400, height: 860, scale: 2, is_dark: false, runs_scripts: true };

impl Look {
    pub(crate) const fn dark(self) -> Self {
        Self { is_dark: true, ..self }
    }

    pub(crate) const fn without_scripts(self) -> Self {
        Self { runs_scripts: false, ..self }
    }
}

/// A browser, and the one tab in it that is looked at.
pub(crate) struct Browser {
    calls: Pin<Box<dyn Sink<Message, Error = WsProtocolError>>>,
    messages: LocalBoxStream<'static, Result<Frame, WsProtocolError>>,
    last_id: u64,
    session: Option<String>,
    /// What has happened in the tab, as the protocol tells it.
    events: Vec<Value>,
    _held: Held,
}

/// What a browser has for itself, and gives back with its end.
struct Held {
    _process: Process,
    _profile: TempDir,
    _alone: MutexGuard<'static, ()>,
}

static TOLD: Once = Once::new();

/// Where a browser is, or `None` on a machine that has none. In CI there must be one.
fn find() -> Option<PathBuf> {
    let named = env::var_os("RUNHOUND_TEST_BROWSER").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let known = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = named.into_iter().chain(known).find(|path| path.is_file());
    if found.is_none() {
        assert!(
            env::var_os("CI").is_none(),
            "the status page is tested in a browser, and there is none: install chromium"
        );
        TOLD.call_once(|| {
            // Past the capture of output, so that a run of all tests shows it.
            let told = "\nNOT RUN: the tests of the status page want a browser, and there is none. Install chromium, or name \
                        one in RUNHOUND_TEST_BROWSER.\n";
            io::stderr().write_all(told.as_bytes()).unwrap();
        });
    }
    found
}

/// Starts a browser, when no other is at work: where it listens.
fn launch() -> Option<(String, Held)> {
    let program = find()?;
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let profile = tempfile::tempdir().unwrap();
    let mut folder = OsString::from("--user-data-dir=");
    folder.push(profile.path());
    let mut command = Command::new(program);
    command.args(FLAGS).arg(folder).arg("about:blank").env("HOME", profile.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let log = BufReader::new(process.0.stderr.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let mut seen = Vec::new();
    let held = Held { _process: process, _profile: profile, _alone: alone };
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no browser: {error}: {seen:#?}"));
        if let Some((_, url)) = line.split_once("DevTools listening on ") {
            return Some((url.to_owned(), held));
        }
        seen.push(line);
    }
}

impl Browser {
    /// Starts one. `None` where there is none, which has been said.
    pub(crate) async fn start() -> Option<Self> {
        let (url, held) = launch()?;
        let client = awc::Client::builder().timeout(PATIENCE).finish();
        let (_, socket) = client.ws(url).max_frame_size(MESSAGE_MAX_BYTES).connect().await.unwrap();
        let (calls, messages) = socket.split();
        let (calls, messages) = (Box::pin(calls), messages.boxed_local());
        Some(Self { calls, messages, last_id: 0, session: None, events: Vec::new(), _held: held })
    }

    /// Opens a page in a tab of its own, and waits until all of it is there.
    pub(crate) async fn open(&mut self, url: &str, look: Look) {
        self.session = None;
        self.events.clear();
        let target = self.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        self.session = self.call("Target.attachToTarget", attach).await["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({})).await;
        }
        self.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true})).await;
        let size = json!({
            "width": look.width, "height": look.height, "deviceScaleFactor": look.scale, "mobile": look.width < 600
        });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if look.is_dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features).await;
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !look.runs_scripts})).await;
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": WATCH})).await;
        self.call("Page.navigate", json!({"url": url})).await;
        self.event("Page.loadEventFired").await;
    }

    /// The value of an expression in the page; of a promise, what it comes to.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.call("Runtime.evaluate", parameters).await;
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result:#}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true, which is asked anew with each frame that is drawn.
    pub(crate) async fn wait_until(&mut self, condition: &str) {
        let look = format!("const look = () => {condition} ? done(true) : requestAnimationFrame(look)");
        assert_eq!(self.eval(&format!("new Promise((done) => {{ {look}; look(); }})")).await, true, "{condition}");
    }

    /// What has happened of one kind in this tab.
    pub(crate) fn events(&self, method: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["method"] == method).map(|event| &event["params"]).collect()
    }

    /// Waits for something to happen, if it has not happened yet in this tab.
    pub(crate) async fn event(&mut self, method: &str) -> Value {
        loop {
            if let Some(event) = self.events(method).first() {
                return (*event).clone();
            }
            let message = self.message(method).await;
            self.take(message);
        }
    }

    /// A picture of what can be seen, as PNG.
    pub(crate) async fn picture(&mut self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png", "optimizeForSpeed": false})).await;
        BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    /// Calls a method of the protocol in the tab, if there is one: what it returns.
    pub(crate) async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut call = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.calls.send(Message::Text(call.to_string().into())).await.unwrap();
        loop {
            let mut message = self.message(method).await;
            if message["id"] == self.last_id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.take(message);
        }
    }

    fn take(&mut self, message: Value) {
        if message["sessionId"].as_str() == self.session.as_deref() {
            self.events.push(message);
        }
    }

    /// The next message; `why` it is waited for.
    async fn message(&mut self, why: &str) -> Value {
        loop {
            let frame = timeout(PATIENCE, self.messages.next()).await;
            let frame = frame.unwrap_or_else(|_| panic!("waited in vain for {why}: {:#?}", self.events));
            match frame.expect("the browser has ended").unwrap() {
                Frame::Text(text) => return serde_json::from_slice(&text).unwrap(),
                Frame::Ping(ping) => self.calls.send(Message::Pong(ping)).await.unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
}
