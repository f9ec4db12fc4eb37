//! What is wrong with configuration, secrets and files, and how to mend it. Nothing is changed but by a repair.

use crate::{
    cli,
    config::{self, ConfigError, Settings},
    datadog::{Answer, ApiKey, Client, ClientError, Endpoint, Intake, Verdict},
    delivery::APART_MAX_S,
    explain::explain,
    ledger::{self, Database, Entries, Files, LockError, Mode, OpenError, RealDisk, Repaired, Storage},
    limits::{Limits, raise_open_files},
    metrics::{Subject, Tagging},
};
use std::{error::Error, fmt, io::Write, sync::Arc};

/// Something is wrong; all of it has been printed.
#[derive(Debug)]
pub struct Wrong(usize);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "check: {} to mend", self.0)
    }
}

impl Error for Wrong {}

/// One thing that was looked at.
type Finding = Result<Fine, Fault>;

/// What there is to say of it.
enum Fine {
    Ok(String),
    /// Nothing to mend, but something to read.
    Look(String),
}

/// What is wrong with it, and what to do.
type Fault = (String, &'static str);

fn fine(text: impl Into<String>) -> Fine {
    Fine::Ok(text.into())
}

fn misconfigured(error: &ConfigError) -> Fault {
    (explain(error), error.hint())
}

/// Looks at everything that `serve` needs, and prints a line for each.
///
/// # Errors
/// Something is wrong.
pub fn check(arguments: &cli::Check) -> Result<(), Wrong> {
    let findings = findings(arguments);
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        let written = match finding {
            Ok(Fine::Ok(fine)) => writeln!(out, "ok     {fine}"),
            Ok(Fine::Look(what)) => writeln!(out, "look   {what}"),
            Err((what, hint)) => writeln!(out, "wrong  {what}\n       hint: {hint}"),
        };
        // Without a reader the exit status still says it.
        drop(written);
    }
    match findings.iter().filter(|finding| finding.is_err()).count() {
        0 => Ok(()),
        wrong => Err(Wrong(wrong)),
    }
}

fn findings(arguments: &cli::Check) -> Vec<Finding> {
    let environment = &config::process_environment;
    let mode = Mode::of(arguments.dry_run);
    let secrets = config::secrets(environment);
    let mut findings = vec![match &secrets {
        Ok(secrets) => Ok(fine(format!("webhook secret: {} accepted", secrets.current().len()))),
        Err(error) => Err(misconfigured(error)),
    }];
    if mode == Mode::Live {
        let endpoint = config::endpoint(environment).map_err(|error| misconfigured(&error));
        let key = config::api_key(environment).map_err(|error| misconfigured(&error));
        findings.extend(match (endpoint, key) {
            (Ok(endpoint), Ok(key)) => datadog(endpoint, key),
            (endpoint, key) => vec![
                endpoint.map(|endpoint| fine(format!("Datadog: {endpoint}"))),
                key.map(|_| fine("Datadog API key: present, not tried")),
            ],
        });
    }
    let settings = Settings::new(Mode::DryRun, &arguments.cache_dir, &arguments.common, Vec::new().into(), environment);
    findings.push(match settings {
        Ok(settings) => Ok(fine(format!(
            "metrics: {}, constant tags: {}",
            listed(&patterns(&settings.tagging)),
            listed(&settings.tagging.constant)
        ))),
        Err(error) => Err(misconfigured(&error)),
    });
    match config::tls(&arguments.tls) {
        Ok(Some(tls)) => {
            findings
                .push(Ok(fine(format!("TLS: the key belongs to the certificate, {} in the chain", tls.chain_len()))));
        }
        Ok(None) => {}
        Err(error) => findings.push(Err(misconfigured(&error))),
    }
    let wanted = Limits::from(&arguments.limits);
    let limits = wanted.within(raise_open_files());
    if limits != wanted {
        let (wanted, room) = (wanted.max_connections, limits.max_connections);
        let what = format!("connections: the hard limit of open files leaves room for {room} of {wanted}");
        findings.push(Ok(Fine::Look(what)));
    }
    match config::database(&arguments.common.ledger, mode, environment) {
        Ok(Some(database)) => findings.extend(of_database(&database)),
        Ok(None) => findings.extend(of_files(&Files::new(&arguments.cache_dir, mode), arguments)),
        // It is told above.
        Err(_) => {}
    }
    findings
}

/// What there is of the ledger in files.
fn of_files(files: &Files, arguments: &cli::Check) -> Vec<Finding> {
    let mut findings = if arguments.repair { repair(files) } else { Vec::new() };
    for inspected in ledger::inspect(files) {
        findings.push(inspected.map(Fine::Ok).map_err(|error| (explain(&error), OpenError::from(error).hint())));
    }
    findings.extend(ledger::holder(files).map(|holder| Ok(Fine::Look(format!("a service is running: {holder}")))));
    let now = jiff::Timestamp::now().as_second();
    findings.push(Ok(fine(ledger::inspect_series(files, arguments.common.max_series, now))));
    findings
}

/// What there is of the ledger in a database.
fn of_database(database: &Database) -> Vec<Finding> {
    let inspected = actix_web::rt::System::new().block_on(ledger::inspect_database(database));
    let mut findings: Vec<Finding> = match inspected {
        Ok(lines) => lines.into_iter().map(|line| Ok(fine(line))).collect(),
        Err(error) => vec![Err((explain(&error), error.hint()))],
    };
    if !database.is_private() {
        findings.push(Ok(Fine::Look(format!("{database}: not encrypted on its way, for sslmode=disable says so"))));
    }
    findings
}

/// Asks Datadog whether the key is valid, and what time it is.
fn datadog(endpoint: Endpoint, key: ApiKey) -> Vec<Finding> {
    let shown = endpoint.to_string();
    let answer = actix_web::rt::System::new()
        .block_on(async { Ok::<Answer, ClientError>(Client::new(endpoint, key)?.validate().await) });
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return vec![Err((explain(&error), "the certificates of this machine cannot be used"))],
    };
    let now = jiff::Timestamp::now().as_second();
    let apart = answer.date.map(|date| date - now).filter(|apart| apart.abs() > APART_MAX_S);
    let clock = apart.map(|apart| {
        Err((format!("the clock of this machine is {apart} s apart from Datadog's"), "set it, or run a time service"))
    });
    let key = match answer.status {
        Some(_) if answer.verdict == Verdict::Taken => Ok(fine(format!("Datadog API key: valid, says {shown}"))),
        Some(status @ (401 | 403)) => Err((
            format!("Datadog API key: refused by {shown} with {status}"),
            "copy the key again from Datadog: Organization Settings, API Keys; each site (DD_SITE) has keys of its own",
        )),
        Some(status) => Err((
            format!("Datadog: {shown} answered {status} when asked about the API key: {}", answer.text),
            "if DD_URL names a proxy, it must hand on /api/v1/validate and /api/v2/series; else try again later",
        )),
        None => Err((
            format!("Datadog: no answer from {shown}: {}", answer.text),
            "see to DD_SITE or DD_URL, name resolution, and outgoing HTTPS",
        )),
    };
    [key].into_iter().chain(clock).collect()
}

/// Repairs what is damaged, and says what has come of it.
fn repair(files: &Files) -> Vec<Finding> {
    if !files.dir.is_dir() {
        return vec![Ok(fine("repair: there are no files yet"))];
    }
    let storage: Arc<dyn Storage> = Arc::new(RealDisk);
    match ledger::repair(&storage, files, jiff::Timestamp::now().as_second()) {
        Ok(repaired) if repaired.is_empty() => vec![Ok(fine("repair: no file is damaged"))],
        Ok(repaired) => repaired.iter().flat_map(report).map(|line| Ok(Fine::Look(line))).collect(),
        Err(error @ OpenError::Lock(LockError::Held { .. })) => {
            vec![Err((explain(&error), "stop that service first: a repair needs the files for itself"))]
        }
        // What is wrong with a file is told by the look at it that follows.
        Err(OpenError::File(_)) => Vec::new(),
        Err(error) => vec![Err((explain(&error), error.hint()))],
    }
}

fn report(repaired: &Repaired) -> Vec<String> {
    let Repaired { path, set_aside, what, kept, doubts } = repaired;
    let mut lines = vec![format!(
        "repair: {} was damaged and is {} now; {kept} {what} could be read and are in a new file",
        path.display(),
        set_aside.display()
    )];
    for (what, keys) in [
        ("go again and may be counted twice", &doubts.in_doubt),
        ("were read in spite of a wrong checksum", &doubts.unsure),
        ("are named but cannot be read: redeliver them in GitHub", &doubts.lost),
    ] {
        if !keys.is_empty() {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            lines.push(format!("repair: runs that {what} ({}): {}", keys.len(), keys.join(" ")));
        }
    }
    if doubts.unreadable_bytes > 0 {
        let bytes = doubts.unreadable_bytes;
        lines.push(match what {
            Entries::Ids => format!(
                "repair: {bytes} bytes of IDs cannot be read: a redelivery of those runs would be counted again; IDs that \
                 the journal knows are added at the next start"
            ),
            Entries::Records => {
                format!("repair: {bytes} bytes cannot be read: redeliver in GitHub what came in and is not counted")
            }
        });
    }
    lines
}

fn patterns(tagging: &Tagging) -> Vec<String> {
    Subject::of(tagging.detail).iter().map(|subject| subject.pattern(&tagging.prefix)).collect()
}

fn listed(tags: &[String]) -> String {
    if tags.is_empty() { "none".to_owned() } else { tags.join(" ") }
}
