//! Who is measured, and how each is started.

use crate::{FIRST_ID, SECRET, cluster::Cluster, settings::number, tools};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::{
    env,
    fmt::{self, Display},
    fs::{self, File},
    io::{BufWriter, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

#[derive(Clone, PartialEq)]
pub(crate) enum Contender {
    Limit,
    Live,
    DryRun,
    /// runhound, with its ledger in PostgreSQL.
    Database {
        replicas: usize,
        has_standby: bool,
    },
    /// Another build of runhound.
    Beside(PathBuf),
    /// runhound, started on a cache that holds so many IDs.
    Known(usize),
    Plan,
    Webhook,
}

/// What `RUNHOUND_BENCH_ONLY` calls them, in the order of the table.
const KEYS: [&str; 11] = [
    "limit",
    "live",
    "dry",
    "database",
    "replicas",
    "standby",
    "standby-replicas",
    "beside",
    "known",
    "plan",
    "webhook",
];

/// As many as share one database.
const REPLICAS: usize = 3;

impl Contender {
    /// Those that `RUNHOUND_BENCH_ONLY` names; without it all but those with a standby, the two that need a variable if it is
    /// set.
    pub(crate) fn chosen() -> Result<Vec<Self>> {
        let Some(only) = env::var("RUNHOUND_BENCH_ONLY").ok() else {
            let has_what_it_needs = |key: &&str| match *key {
                "beside" => env::var_os("RUNHOUND_BENCH_BESIDE").is_some(),
                "known" => env::var_os("RUNHOUND_BENCH_KNOWN").is_some(),
                "standby" | "standby-replicas" => false,
                _ => true,
            };
            return KEYS.into_iter().filter(has_what_it_needs).map(Self::named).collect();
        };
        let only: Vec<&str> = only.split(',').map(str::trim).collect();
        let unknown = only.iter().find(|key| !KEYS.contains(key));
        ensure!(unknown.is_none(), "RUNHOUND_BENCH_ONLY: {unknown:?} is none of {}", KEYS.join(", "));
        KEYS.into_iter().filter(|key| only.contains(key)).map(Self::named).collect()
    }

    fn named(key: &str) -> Result<Self> {
        Ok(match key {
            "limit" => Self::Limit,
            "live" => Self::Live,
            "dry" => Self::DryRun,
            "database" => Self::Database { replicas: 1, has_standby: false },
            "replicas" => Self::Database { replicas: REPLICAS, has_standby: false },
            "standby" => Self::Database { replicas: 1, has_standby: true },
            "standby-replicas" => Self::Database { replicas: REPLICAS, has_standby: true },
            "beside" => {
                let program = env::var_os("RUNHOUND_BENCH_BESIDE").context("RUNHOUND_BENCH_BESIDE is not set")?;
                Self::Beside(fs::canonicalize(program).context("RUNHOUND_BENCH_BESIDE")?)
            }
            "known" => Self::Known(number("RUNHOUND_BENCH_KNOWN", 1_000_000)?),
            "plan" => Self::Plan,
            "webhook" => Self::Webhook,
            _ => bail!("no contender is called {key}"),
        })
    }

    /// Whether it is made here, so that it has to start. Others need tools that may be missing.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self, Self::Database { .. } | Self::Plan | Self::Webhook)
    }

    pub(crate) fn pushes(&self) -> bool {
        matches!(self, Self::Live | Self::Database { .. } | Self::Beside(_) | Self::Known(_) | Self::Plan)
    }

    /// Whether it is also measured at half load.
    pub(crate) fn is_paced(&self) -> bool {
        matches!(self, Self::Limit | Self::Live | Self::Beside(_))
    }

    /// The database that its ledger is in, if it is in one.
    pub(crate) fn cluster(&self, parent: &Path) -> Result<Option<Cluster>> {
        let Self::Database { has_standby, .. } = self else {
            return Ok(None);
        };
        let mut cluster = Cluster::start(parent)?;
        if *has_standby {
            cluster.add_synchronous_standby(parent)?;
        }
        Ok(Some(cluster))
    }

    /// How many processes take deliveries.
    pub(crate) const fn replicas(&self) -> usize {
        match self {
            Self::Database { replicas, .. } => *replicas,
            _ => 1,
        }
    }

    /// What serves from `files`, a folder named `cache` that is not there yet, or from `ledger`; and its address, where its log
    /// does not tell.
    pub(crate) fn command(
        &self,
        files: &Path,
        ledger: Option<&str>,
        intake: SocketAddr,
    ) -> Result<(Command, Option<SocketAddr>)> {
        let built = Path::new(env!("CARGO_BIN_EXE_runhound"));
        let command = match self {
            Self::Limit => {
                let mut command = Command::new(env::current_exe()?);
                command.arg("--limit-server").arg(files);
                command
            }
            Self::DryRun => {
                let mut command = runhound(built, files);
                command.arg("--dry-run");
                command
            }
            Self::Live => live(built, files, intake),
            Self::Database { .. } => {
                let mut command = live(built, files, intake);
                command.arg("--ledger").arg(ledger.context("a ledger without a database")?);
                command
            }
            Self::Beside(program) => live(program, files, intake),
            Self::Known(ids) => {
                fs::create_dir(files)?;
                write_known(&files.join("sent-workflows.json"), *ids)?;
                live(built, files, intake)
            }
            Self::Plan => {
                let mut command = Command::new("node");
                command.arg(tools::plan()?).current_dir(files.parent().context("a folder without a parent")?);
                command.env("GITHUB_WEBHOOK_SECRET", SECRET).env("PORT", "0");
                command.env("DD_API_KEY", "none").env("DD_URL", format!("http://{intake}"));
                command
            }
            Self::Webhook => {
                let (command, address) = webhook(files)?;
                return Ok((command, Some(address)));
            }
        };
        Ok((command, None))
    }
}

impl Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit => f.pad("durable limit"),
            Self::Live => f.pad("runhound live"),
            Self::DryRun => f.pad("runhound dry run"),
            Self::Database { replicas, has_standby } => {
                let ledger = if *has_standby { "standby" } else { "PostgreSQL" };
                f.pad(&if *replicas == 1 { format!("live, {ledger}") } else { format!("{replicas} live, {ledger}") })
            }
            Self::Beside(_) => f.pad("beside live"),
            Self::Known(ids) => f.pad(&format!("live, {ids} known")),
            Self::Plan => f.pad("the plan on Node"),
            Self::Webhook => f.pad("webhook"),
        }
    }
}

fn runhound(program: &Path, files: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--cache-dir"]).arg(files);
    command.env_clear().envs(env::var_os("RUST_LOG").map(|log| ("RUST_LOG", log)));
    command.env("GITHUB_WEBHOOK_SECRET", SECRET);
    command
}

fn live(program: &Path, files: &Path, intake: SocketAddr) -> Command {
    let mut command = runhound(program, files);
    command.env("DD_API_KEY", "none").env("DD_URL", format!("http://{intake}"));
    command
}

/// A cache of IDs below all that are sent, as `JSON.stringify(…, null, 2)` writes it.
fn write_known(path: &Path, ids: usize) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write!(file, "{{\n  \"sent\": [")?;
    for number in 0..ids as u64 {
        let comma = if number == 0 { "" } else { "," };
        write!(file, "{comma}\n    \"{}\"", FIRST_ID - ids as u64 + number)?;
    }
    write!(file, "\n  ]\n}}")?;
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// webhook with one hook, whose command appends the run's ID and syncs it; its output is the answer, so that it comes
/// last.
fn webhook(files: &Path) -> Result<(Command, SocketAddr)> {
    tools::find("webhook")?;
    fs::create_dir(files)?;
    let hooks = files.join("hooks.json");
    let text = |text: &str| json!({ "source": "string", "name": text });
    let hook = json!({
        "id": "webhook",
        "execute-command": "/bin/sh",
        "command-working-directory": files,
        "pass-arguments-to-command": [
            text("-c"),
            text(r#"echo "$1" >> ids.txt && sync --data ids.txt && echo accepted "$1""#),
            text("append"),
            { "source": "payload", "name": "workflow_run.id" },
        ],
        "include-command-output-in-response": true,
        "success-http-response-code": 202,
        "trigger-rule-mismatch-http-response-code": 401,
        "trigger-rule": { "and": [
            { "match": {
                "type": "payload-hmac-sha256",
                "secret": SECRET,
                "parameter": { "source": "header", "name": "X-Hub-Signature-256" },
            } },
            { "match": {
                "type": "value",
                "value": "completed",
                "parameter": { "source": "payload", "name": "action" },
            } },
        ] },
    });
    fs::write(&hooks, serde_json::to_vec_pretty(&[hook])?)?;
    // It takes no listener and does not tell the port it was given, so one that was free a moment ago must do.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut command = Command::new("webhook");
    command.arg("-hooks").arg(&hooks).args(["-ip", "127.0.0.1", "-port"]).arg(address.port().to_string());
    command.args(["-urlprefix", ""]);
    Ok((command, address))
}
