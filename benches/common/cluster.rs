//! A PostgreSQL of the benchmark's own, on a socket, with the settings that it comes with: what it has committed is on the disk.
//!
//! It ends when this is dropped, and its files go with it.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::{
    env,
    fs::{self, File, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// The role that owns everything, and a database.
const NAME: &str = "runhound";

const PROGRAMS: [&str; 3] = ["initdb", "postgres", "pg_basebackup"];

/// Where Debian keeps them, in a folder for each version.
const INSTALLED: &str = "/usr/lib/postgresql";

/// Who runs the server for root, for whom it does not start.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

const INITDB: [&str; 6] =
    ["--auth=trust", "--username=runhound", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"];

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// The unit of times in `/proc/PID/stat`.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct Cluster {
    /// Has every commit before it is answered.
    standby: Option<Box<Cluster>>,
    server: Child,
    place: Place,
}

#[derive(Debug)]
struct Place {
    programs: PathBuf,
    /// User and group of the server, if not our own.
    account: Option<(u32, u32)>,
    data: TempDir,
    /// Its socket, and its log. A socket's path has 107 bytes, which a folder of somebody's may not leave.
    socket: TempDir,
}

impl Cluster {
    /// Starts one on an empty folder in `parent`, which the server's account must be able to reach.
    pub(crate) fn start(parent: &Path) -> Result<Self> {
        let place = Place::new(find()?, parent)?;
        place.run("initdb", |initdb| initdb.args(INITDB).arg("--pgdata").arg(place.data.path()))?;
        let cluster = Self { standby: None, server: place.launch()?, place };
        cluster.session("postgres")?.ask(&format!("create database {NAME}"))?;
        Ok(cluster)
    }

    /// From here on, each commit waits for a standby of it on this machine, and on the same disk.
    pub(crate) fn add_synchronous_standby(&mut self, parent: &Path) -> Result<()> {
        let place = Place::new(self.place.programs.clone(), parent)?;
        place.run("pg_basebackup", |copy| {
            copy.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--username", NAME]);
            copy.arg("--host").arg(self.place.socket.path()).arg("--pgdata").arg(place.data.path())
        })?;
        self.standby = Some(Box::new(Self { standby: None, server: place.launch()?, place }));
        let session = self.session(NAME)?;
        session.ask("alter system set synchronous_standby_names = '*'")?;
        session.ask("select pg_reload_conf()")?;
        wait_until("the standby is a synchronous one", || {
            Ok(session.ask("select count(*) from pg_stat_replication where sync_state = 'sync'")? == "1")
        })
    }

    /// A database of it as a ledger.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://{NAME}@/{database}?host={}", self.place.socket.path().display())
    }

    pub(crate) fn session(&self, database: &str) -> Result<Session> {
        Session::new(&self.url(database))
    }

    /// Ends it without a checkpoint, as a crash would, and starts it again on what it has on disk.
    pub(crate) fn crash(&mut self) -> Result<()> {
        self.end();
        self.server = self.place.launch()?;
        let url = self.url(NAME);
        wait_until("PostgreSQL has recovered", || Ok(Session::new(&url).is_ok()))
    }

    /// Processor time of the server and its children so far, and of its standby's.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let (server, mut sum) = (self.server.id(), 0.0);
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may be gone by now.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            // What follows the name in parentheses begins with field 3: the parent is 4; utime, stime, cutime and cstime
            // are 14 to 17.
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            if id == server || fields[1].parse() == Ok(server) {
                sum += fields[11..15].iter().map(|ticks| ticks.parse::<f64>()).sum::<Result<f64, _>>()?;
            }
        }
        let standby = self.standby.as_ref().map_or(Ok(0.0), |standby| standby.cpu_s())?;
        Ok(sum / TICKS_PER_SECOND + standby)
    }

    /// At once, with its children.
    fn end(&mut self) {
        if let Some(id) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::QUIT).ok();
        }
        drop(self.server.wait());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.standby = None;
        self.end();
    }
}

impl Place {
    fn new(programs: PathBuf, parent: &Path) -> Result<Self> {
        let account = account()?;
        // The server wants its folder closed to others.
        let folder = |parent: &Path| {
            let closed = Permissions::from_mode(0o700);
            let folder = tempfile::Builder::new().prefix("postgres-").permissions(closed).tempdir_in(parent)?;
            if let Some((user, group)) = account {
                chown(folder.path(), Some(user), Some(group))?;
            }
            Ok::<TempDir, anyhow::Error>(folder)
        };
        Ok(Self { programs, account, data: folder(parent)?, socket: folder(Path::new("/tmp"))? })
    }

    /// Nothing of the environment is passed on, which may name servers, roles and passwords.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        command.current_dir(self.socket.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    fn run(&self, program: &str, with: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
        let output = with(&mut self.command(program)).output().with_context(|| program.to_owned())?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} fails: {error}");
        Ok(())
    }

    /// Starts the server, and waits until it takes connections.
    fn launch(&self) -> Result<Child> {
        let socket = self.socket.path();
        let log = File::options().create(true).append(true).open(socket.join("log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data.path()).arg("-k").arg(socket).args(["-c", "listen_addresses="]);
        let mut server = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let url = format!("postgres://{NAME}@/postgres?host={}", socket.display());
        let started = wait_until("PostgreSQL answers", || {
            let is_gone = server.try_wait()?.is_some();
            ensure!(!is_gone, "PostgreSQL does not start: {}", fs::read_to_string(socket.join("log"))?);
            Ok(Session::new(&url).is_ok())
        });
        if started.is_err() {
            drop(server.kill());
            drop(server.wait());
        }
        started.map(|()| server)
    }
}

/// A session, for what a benchmark asks and makes itself.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    runtime: Runtime,
}

impl Session {
    fn new(url: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        drop(runtime.spawn(connection));
        Ok(Self { client, runtime })
    }

    /// The first column of the first row of what a statement answers.
    pub(crate) fn ask(&self, sql: &str) -> Result<String> {
        let answer = self.runtime.block_on(self.client.simple_query(sql)).with_context(|| sql.to_owned())?;
        let value = answer.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(value.unwrap_or_default())
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !is_so()? {
        ensure!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Where the programs are.
fn find() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A link leads to the folder that holds them all.
    let known = env::split_paths(&path).filter_map(|folder| fs::canonicalize(folder.join("initdb")).ok());
    let mut known: Vec<PathBuf> = known.filter_map(|initdb| initdb.parent().map(Path::to_owned)).collect();
    let versions = fs::read_dir(INSTALLED).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable();
    known.extend(versions.into_iter().rev().map(|(_, folder)| folder));
    let found = known.into_iter().find(|folder| PROGRAMS.iter().all(|program| folder.join(program).is_file()));
    found.context("PostgreSQL is missing")
}

/// Another account than root's, if this is root.
fn account() -> Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let of = |name: &&str| {
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == *name)?;
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    let found = ACCOUNTS.iter().find_map(of);
    found.map(Some).context("PostgreSQL does not run as root, and there is no user postgres or nobody")
}
