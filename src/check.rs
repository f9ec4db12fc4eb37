//! What is wrong with configuration, secrets and files, and how to mend it. Nothing is changed.

use crate::{
    cli,
    config::{self, ConfigError, Settings},
    explain::explain,
    ledger::{self, Files, Mode, OpenError},
};
use std::{error::Error, fmt, io::Write};

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
type Finding = Result<String, Fault>;

/// What is wrong with it, and what to do.
type Fault = (String, &'static str);

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
            Ok(fine) => writeln!(out, "ok     {fine}"),
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
    let mode = if arguments.dry_run { Mode::DryRun } else { Mode::Live };
    let secrets = config::secrets(environment);
    let mut findings = vec![match &secrets {
        Ok(secrets) => Ok(format!("webhook secret: {} accepted", secrets.len())),
        Err(error) => Err(misconfigured(error)),
    }];
    if mode == Mode::Live {
        findings.push(
            config::api_key(environment)
                .map(|_| "Datadog API key: present".to_owned())
                .map_err(|error| misconfigured(&error)),
        );
        let endpoint = config::endpoint(environment);
        findings.push(endpoint.map(|endpoint| format!("Datadog: {endpoint}")).map_err(|error| misconfigured(&error)));
    }
    let settings = Settings::new(Mode::DryRun, &arguments.cache_dir, &arguments.common, Vec::new(), environment);
    findings.push(match settings {
        Ok(settings) => Ok(format!(
            "metrics: {}.workflow_run.*, constant tags: {}",
            settings.tagging.prefix,
            listed(&settings.tagging.constant)
        )),
        Err(error) => Err(misconfigured(&error)),
    });
    let files = Files::new(&arguments.cache_dir, mode);
    let inspected = ledger::inspect(&files).into_iter();
    findings.extend(inspected.map(|finding| finding.map_err(|error| (explain(&error), OpenError::from(error).hint()))));
    findings
}

fn listed(tags: &[String]) -> String {
    if tags.is_empty() { "none".to_owned() } else { tags.join(" ") }
}
