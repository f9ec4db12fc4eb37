//! A PostgreSQL of the test's own: it is killed, held, stopped, started again, copied and promoted as the test likes.
//!
//! It runs with the settings that PostgreSQL comes with, so what it has committed is on the disk. On its socket all are
//! trusted; over TCP, where there is one, a password is wanted.
//!
//! Invariant: it listens on a socket in its own folder, and if at all on 127.0.0.1 beside; it and its files do not outlive
//! the test.
//!
//! Source: <https://www.postgresql.org/docs/15/server-shutdown.html> for what each signal does.

mod place;
mod processes;
mod session;
#[cfg(test)]
mod tests;
mod tls;

use self::{
    place::{NAME, Place, run},
    processes::{go_on, hold, pause, send, wait_for_the_end_of},
};
use crate::harness::{PATIENCE, Process};
use rustix::process::Signal;
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use processes::wait_until;
pub(crate) use session::Session;

/// What the role of the tests calls itself by over TCP.
pub(crate) const PASSWORD: &str = "It's a password & nothing else";

/// The port of a cluster that has its socket alone, in whose name the port is.
const USUAL_PORT: u16 = 5432;

/// How often a port is looked for: between the look and the server's start it may be taken.
const PORTS_TRIED: usize = 5;

/// So much of a log is shown of a server that does not start.
const LOG_TAIL_LINES: usize = 40;

/// Set in each cluster: many of them run at a time.
const SMALL: [(&str, &str); 2] = [("shared_buffers", "16MB"), ("log_line_prefix", "%m [%p] %a ")];

/// A cluster in a folder of its own, with its server or without.
#[derive(Debug)]
pub(crate) struct Cluster {
    place: &'static Place,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    is_on_tcp: bool,
    port: u16,
    server: Mutex<Option<Process>>,
    /// Lets a server that is held go on with the end of the tests, however they end.
    wakes: Mutex<Option<Process>>,
}

impl Cluster {
    /// A cluster that can be reached by its socket. `None` where there is no PostgreSQL, which has been said.
    pub(crate) fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// A cluster with more settings.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Option<Self> {
        let mut cluster = Self::new(Place::get()?, owned(settings), false);
        cluster.place.copy_template(&cluster.data());
        cluster.start_first();
        Some(cluster)
    }

    /// A cluster with more settings that can be reached over TCP as well, with the password, in the clear or over TLS.
    pub(crate) fn on_tcp(settings: &[(&str, &str)]) -> Option<Self> {
        let place = Place::get()?;
        let file = |name| place.file(name).to_str().unwrap().to_owned();
        let (certificate, key) = (file(tls::CERTIFICATE), file(tls::KEY));
        let mut all = owned(&[("listen_addresses", "127.0.0.1"), ("password_encryption", "scram-sha-256")]);
        all.extend(owned(&[("ssl", "on"), ("ssl_cert_file", &certificate), ("ssl_key_file", &key)]));
        all.extend(owned(settings));
        let mut cluster = Self::new(place, all, true);
        place.copy_template(&cluster.data());
        cluster.start_first();
        cluster.session().ask(&format!("alter role {NAME} password '{}'", PASSWORD.replace('\'', "''")));
        Some(cluster)
    }

    /// A standby of a running cluster, with its settings: it follows, answers what only reads, and can be promoted.
    pub(crate) fn standby_of(primary: &Self) -> Self {
        let mut standby = Self::new(primary.place, primary.settings.clone(), primary.is_on_tcp);
        let mut copy = primary.client("pg_basebackup");
        copy.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync", "--pgdata"]);
        run(copy.arg(standby.data()));
        standby.start_first();
        standby
    }

    fn new(place: &'static Place, settings: Vec<(String, String)>, is_on_tcp: bool) -> Self {
        let (server, wakes) = (Mutex::default(), Mutex::default());
        Self { place, folder: place.cluster(), settings, is_on_tcp, port: USUAL_PORT, server, wakes }
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The folder of its socket.
    pub(crate) fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// As a ledger on its socket.
    pub(crate) fn url(&self) -> String {
        let port = if self.is_on_tcp { format!("&port={}", self.port) } else { String::new() };
        format!("postgres://{NAME}@/{NAME}?host={}{port}", self.folder.display())
    }

    /// Where it is on TCP: host and port.
    pub(crate) fn address(&self) -> String {
        assert!(self.is_on_tcp, "this cluster has its socket alone");
        format!("127.0.0.1:{}", self.port)
    }

    /// As a ledger over TCP in the clear; of several clusters, whichever takes writes.
    pub(crate) fn tcp_url(clusters: &[&Self]) -> String {
        let addresses: Vec<String> = clusters.iter().map(|cluster| cluster.address()).collect();
        format!("postgres://{NAME}@{}/{NAME}", addresses.join(","))
    }

    /// As a ledger over TLS, by the authority of all clusters; of several clusters, whichever takes writes.
    pub(crate) fn tls_url(clusters: &[&Self]) -> String {
        let authority = clusters[0].authority();
        format!("{}?sslmode=verify-full&sslrootcert={}", Self::tcp_url(clusters), authority.display())
    }

    /// The certificate of the authority that the server's is of, which is for 127.0.0.1 and no other name.
    pub(crate) fn authority(&self) -> PathBuf {
        self.place.file(tls::AUTHORITY)
    }

    /// What its server has logged, in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What a statement answers: a row a line, with `|` between columns.
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// What a statement answers, or what is wrong with it.
    pub(crate) fn try_psql(&self, sql: &str) -> Result<String, String> {
        let mut psql = self.client("psql");
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"]);
        let output = psql.args(["--dbname", NAME, "--command", sql]).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// A session that goes on from one statement to the next.
    pub(crate) fn session(&self) -> Session {
        Session::new(self.client("psql").args(["--dbname", NAME]))
    }

    /// A client program, on the socket.
    fn client(&self, program: &str) -> Command {
        let mut client = self.place.command(program);
        client.arg("--host").arg(&self.folder).args(["--port", &self.port.to_string(), "--username", NAME]);
        client
    }

    /// Changes a setting that needs no restart, for each session from its next statement on.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let loaded = || self.psql("select pg_conf_load_time()");
        let before = loaded();
        self.psql(&format!("alter system set {name} = '{value}'"));
        self.psql("select pg_reload_conf()");
        // The server reads it, tells its children, and takes new connections after that.
        wait_until("the settings are read again", || loaded() != before);
    }

    /// Lets new transactions read only, or write again: a server that tells its clients it does not take writes.
    pub(crate) fn read_only(&self, is_so: bool) {
        self.set("default_transaction_read_only", if is_so { "on" } else { "off" });
    }

    /// Waits until all that a primary has committed by now can be seen in this standby.
    pub(crate) fn wait_for_all_of(&self, primary: &Self) {
        let position = primary.psql("select pg_current_wal_lsn()");
        let has_it = format!("select pg_last_wal_replay_lsn() >= '{position}'");
        wait_until("the standby has all of the primary", || self.psql(&has_it) == "t");
    }

    /// Makes a standby a primary, which takes writes when this returns.
    pub(crate) fn promote(&self) {
        assert_eq!(self.psql(&format!("select pg_promote(true, {})", PATIENCE.as_secs())), "t", "{}", self.log_tail());
        wait_until("the standby takes writes", || self.psql("show transaction_read_only") == "off");
    }
}

/// The life of its server.
impl Cluster {
    /// Ends the server as a crash of its machine would, short of the disk, and waits for its children, which end with it.
    pub(crate) fn kill9(&self) {
        let mut server = self.take();
        let children = hold(server.0.id());
        server.0.kill().unwrap();
        server.0.wait().unwrap();
        wait_for_the_end_of(&children);
    }

    /// Stops the server as an operator does: sessions are ended, and what they were at is rolled back.
    pub(crate) fn stop_fast(&self) {
        let mut server = self.take();
        let status = end(&mut server, Signal::INT, PATIENCE);
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", self.log_tail());
    }

    /// Starts the server again, and waits until it answers.
    #[track_caller]
    pub(crate) fn start_again(&self) {
        if let Err(log) = self.launch() {
            panic!("PostgreSQL did not start: {log}");
        }
    }

    /// Holds the server and its children where they are: connections are taken by the system, and nothing answers.
    pub(crate) fn pause(&self) {
        *self.wakes.lock().unwrap() = Some(pause(self.id()));
    }

    /// Lets all that was held go on.
    pub(crate) fn go_on(&self) {
        go_on(self.id());
        *self.wakes.lock().unwrap() = None;
    }

    /// The server's process.
    pub(crate) fn id(&self) -> u32 {
        self.server.lock().unwrap().as_ref().expect("a running server").0.id()
    }

    fn take(&self) -> Process {
        *self.wakes.lock().unwrap() = None;
        self.server.lock().unwrap().take().expect("a running server")
    }

    /// Starts a new cluster, on a port that is free if it is to have one.
    fn start_first(&mut self) {
        for _ in 0..PORTS_TRIED {
            if self.is_on_tcp {
                self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            }
            match self.launch() {
                Ok(()) => return,
                Err(log) if self.is_on_tcp && log.contains("Address already in use") => (),
                Err(log) => panic!("PostgreSQL did not start: {log}"),
            }
        }
        panic!("no port was free: {}", self.log_tail());
    }

    /// Starts the server and waits until it answers; if it ends instead, its log.
    fn launch(&self) -> Result<(), String> {
        let mut server = self.server.lock().unwrap();
        assert!(server.is_none(), "it is running");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.place.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.folder).args(["-p", &self.port.to_string()]);
        let unless_set = owned(&SMALL).into_iter().chain(owned(&[("listen_addresses", "")]));
        for (name, value) in unless_set.chain(self.settings.iter().cloned()) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut process = Process(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let mut is_ended = false;
        wait_until("PostgreSQL answers", || {
            is_ended = process.0.try_wait().unwrap().is_some();
            is_ended || self.answers()
        });
        if is_ended {
            return Err(self.log_tail());
        }
        *server = Some(process);
        Ok(())
    }

    fn answers(&self) -> bool {
        self.client("pg_isready").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let server = self.server.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut server) = server.take() {
            end(&mut server, Signal::QUIT, PATIENCE);
        }
        self.remove_shared_memory();
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Cluster {
    /// Removes what a server that was killed has left in the system's memory. The next one on the same data does so itself.
    fn remove_shared_memory(&self) {
        let Ok(lock_file) = fs::read_to_string(self.data().join("postmaster.pid")) else {
            return;
        };
        if let Some(segment) = lock_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            drop(Command::new("ipcrm").args(["-m", segment]).stderr(Stdio::null()).status());
        }
    }
}

/// Ends a server by a signal, though it may be held: how it ended, if in time.
fn end(server: &mut Process, signal: Signal, patience: Duration) -> Option<ExitStatus> {
    send(server.0.id(), signal);
    go_on(server.0.id());
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if let Ok(Some(status)) = server.0.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}
