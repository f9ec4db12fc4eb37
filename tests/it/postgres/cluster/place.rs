//! What every cluster is made of: the programs, the account that they run under, a data folder to copy, and a certificate.
//!
//! Invariant: all files lie in one folder for each test process, which goes with that process, however it ends. A server
//! that is left over then stops by itself, within a minute: PostgreSQL looks whether its lock file is still there.
//!
//! Source: <https://www.postgresql.org/docs/15/app-initdb.html>, <https://www.postgresql.org/docs/15/app-postgres.html>.

use super::tls;
use std::{
    env, fs,
    io::{self, Write},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The role that owns everything, and the database.
pub(super) const NAME: &str = "runhound";

const PROGRAMS: [&str; 5] = ["initdb", "postgres", "psql", "pg_isready", "pg_basebackup"];

/// Where Debian keeps them, in a folder for each version.
const INSTALLED: &str = "/usr/lib/postgresql";

/// Who runs the server for root, for whom it does not start.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// What a cluster is made with. Small segments of the log are soon copied; what is durable is as everywhere.
const INITDB: [&str; 8] = [
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--username=runhound",
    "--encoding=UTF8",
    "--locale=C",
    "--wal-segsize=1",
    "--no-instructions",
    "--no-sync",
];

/// Waits for the end of standard input, and removes a folder, which a server that is left over may still write to.
const SWEEP: &str = r#"read -r _; for second in $(seq 90); do rm -rf -- "$1" && break; sleep 1; done"#;

#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    user: u32,
    group: u32,
}

#[derive(Debug)]
pub(super) struct Place {
    programs: PathBuf,
    account: Option<Account>,
    folder: PathBuf,
    clusters: AtomicU32,
    /// Removes the folder when its standard input ends.
    _sweeper: Child,
}

impl Place {
    /// The one of this process. `None` where there is no PostgreSQL, which has been said. In CI there must be one.
    pub(super) fn get() -> Option<&'static Self> {
        static PLACE: OnceLock<Option<Place>> = OnceLock::new();
        PLACE.get_or_init(|| Some(Self::new(find()?))).as_ref()
    }

    fn new(programs: PathBuf) -> Self {
        // A socket's path has 107 bytes, and root's own folder for temporary files may be closed to others.
        let readable = fs::Permissions::from_mode(0o755);
        let folder =
            tempfile::Builder::new().prefix("runhound-").permissions(readable).tempdir_in("/tmp").unwrap().keep();
        let mut sweeper = Command::new("sh");
        sweeper.args(["-c", SWEEP, "sh"]).arg(&folder).process_group(0);
        let sweeper = sweeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let clusters = AtomicU32::new(0);
        let place = Self { programs, account: account(), folder, clusters, _sweeper: sweeper };
        place.give(&place.folder);
        place.make_template();
        tls::write(&place);
        place
    }

    fn make_template(&self) {
        run(self.command("initdb").args(INITDB).arg(self.template()));
        let mut single = self.command("postgres");
        single.args(["--single", "-F", "-D"]).arg(self.template()).arg("postgres");
        let mut single = single.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        writeln!(single.stdin.take().unwrap(), "create database {NAME}").unwrap();
        checked("postgres --single", single.wait_with_output().unwrap());
    }

    fn template(&self) -> PathBuf {
        self.folder.join("template")
    }

    /// A file of what the TLS of all clusters has in common.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A folder of its own for a cluster.
    pub(super) fn cluster(&self) -> PathBuf {
        let folder = self.folder.join(self.clusters.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder).unwrap();
        self.give(&folder);
        folder
    }

    pub(super) fn copy_template(&self, data: &Path) {
        run(self.for_server(Command::new("cp")).arg("-a").arg(self.template()).arg(data));
    }

    /// Makes something the server's own.
    pub(super) fn give(&self, path: &Path) {
        if let Some(Account { user, group }) = self.account {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    /// A program of PostgreSQL, under the server's account.
    pub(super) fn command(&self, program: &str) -> Command {
        self.for_server(Command::new(self.programs.join(program)))
    }

    /// Nothing of the environment is passed on, which may name servers, roles and passwords.
    fn for_server(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        command.current_dir(&self.folder).stdin(Stdio::null());
        if let Some(Account { user, group }) = self.account {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Where the programs are.
fn find() -> Option<PathBuf> {
    let has_all = |folder: &PathBuf| PROGRAMS.iter().all(|program| folder.join(program).is_file());
    if let Some(named) = env::var_os("RUNHOUND_TEST_POSTGRES").map(PathBuf::from) {
        assert!(has_all(&named), "RUNHOUND_TEST_POSTGRES: {} has not all of {PROGRAMS:?}", named.display());
        return Some(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // A link leads to the folder that holds them all.
    let known = env::split_paths(&path).filter_map(|folder| fs::canonicalize(folder.join("initdb")).ok());
    let known = known.filter_map(|initdb| initdb.parent().map(Path::to_owned));
    let found = known.chain(installed()).find(has_all);
    if found.is_none() {
        assert!(
            env::var_os("CI").is_none(),
            "the ledger is tested in PostgreSQL, and there is none: install postgresql"
        );
        // Past the capture of output, so that a run of all tests shows it.
        let told = "\nNOT RUN: the tests of a ledger in PostgreSQL want a server, and there is none. Install postgresql, or \
                    name the folder of its programs in RUNHOUND_TEST_POSTGRES.\n";
        io::stderr().write_all(told.as_bytes()).unwrap();
    }
    found
}

/// The folders of all versions that are installed, the newest first.
fn installed() -> Vec<PathBuf> {
    let folders = fs::read_dir(INSTALLED).into_iter().flatten().flatten();
    let version = |name: &str| name.parse::<u32>().ok();
    let mut versions: Vec<_> =
        folders.filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path().join("bin")))).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// Another account than root's, if this is root.
fn account() -> Option<Account> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &&str| {
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == *name)?;
        Some(Account { user: fields[2].parse().unwrap(), group: fields[3].parse().unwrap() })
    };
    let found = ACCOUNTS.iter().find_map(of);
    assert!(found.is_some(), "PostgreSQL does not run as root, and there is none of {ACCOUNTS:?}");
    found
}

/// Runs a command to its end: what it prints.
pub(super) fn run(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    checked(&name, command.output().unwrap())
}

fn checked(name: &str, output: Output) -> String {
    assert!(output.status.success(), "{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
