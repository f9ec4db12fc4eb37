//! Settings and command lines in what is deployed: a name that nothing reads would be taken for a setting, and be none.

use super::{path, read};
use clap::{CommandFactory, Parser};
use runhound::cli::{Cli, Command};
use std::{collections::BTreeSet, fs, path::Path};

/// What the program reads of its environment: a variable for each flag, and those that its help lists.
fn known() -> BTreeSet<String> {
    let mut cli = Cli::command();
    cli.build();
    let help = cli.render_long_help().to_string();
    let listed = help.split(|char: char| !(char.is_ascii_uppercase() || char == '_')).filter(|word| is_setting(word));
    let of_flags = cli.get_subcommands().flat_map(clap::Command::get_arguments).filter_map(|flag| flag.get_env());
    of_flags.map(|name| name.to_str().unwrap()).chain(listed).map(str::to_owned).collect()
}

fn is_setting(word: &str) -> bool {
    ["RUNHOUND_", "DD_", "GITHUB_WEBHOOK_"].iter().any(|prefix| word.starts_with(prefix))
}

/// The settings that a file names, below `folder`.
fn named(folder: &Path) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let file = entry.path();
        if file.is_dir() {
            named.extend(self::named(&file));
            continue;
        }
        // Pages have a test of their own; `check` names variables of the tests.
        if file.extension().is_none_or(|end| end != "md") && !file.ends_with("deploy/check") {
            let text = fs::read_to_string(&file).unwrap();
            let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
            named.extend(
                words.filter(|word| is_setting(word)).map(|word| (file.display().to_string(), word.to_owned())),
            );
        }
    }
    named
}

/// The settings that a Compose file gives the service, as `NAME=value`.
pub(super) fn of_compose(name: &str) -> Vec<String> {
    let text = read(name);
    let pairs = text.lines().filter_map(|line| line.trim().split_once(": "));
    pairs
        .filter(|(name, _)| is_setting(name))
        .map(|(name, value)| format!("{name}={}", value.trim_matches('"')))
        .collect()
}

#[test]
fn every_setting_that_is_deployed_is_one_that_the_program_reads() {
    let (known, named) = (known(), named(&path("")));
    assert!(named.len() > 25, "{named:?}");
    for (file, name) in named {
        assert!(known.contains(&name), "{file}: nothing reads {name}");
    }
}

/// The command line of a pod, as the program takes it.
fn of_pod(name: &str) -> Cli {
    let manifest = read(name);
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("args: [")?.strip_suffix(']'));
    let line = line.unwrap_or_else(|| panic!("{name} has no args"));
    Cli::try_parse_from(["runhound"].into_iter().chain(line.split(", "))).unwrap_or_else(|why| panic!("{name}: {why}"))
}

#[test]
fn the_command_line_of_each_pod_is_one_of_the_program() {
    assert!(matches!(of_pod("kubernetes/deployment.yaml").command, Command::Serve(_)));
    assert!(matches!(of_pod("replicated/kubernetes/import.yaml").command, Command::Ledger(_)));
}

/// What stands behind a setting in a file, in the forms of Compose and of both kinds of manifest.
fn values<'a>(text: &'a str, setting: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let compose = lines.iter().filter_map(|line| line.strip_prefix(setting)?.strip_prefix(": "));
    let patch = lines.iter().filter_map(|line| {
        line.strip_prefix("value: {name: ")?.strip_prefix(setting)?.strip_prefix(", value: ")?.strip_suffix('}')
    });
    let manifest = lines.windows(2).filter_map(|pair| {
        let name = pair[0].trim_start_matches("- ").strip_prefix("name: ")?;
        (name == setting).then_some(pair[1].strip_prefix("value: ")?)
    });
    compose.chain(patch).chain(manifest).collect()
}

/// A password never stands in the URL: it comes by a file that is mounted.
#[test]
fn every_ledger_that_is_deployed_is_one_that_the_program_takes_and_has_its_password_in_a_secret() {
    let files = ["compose.yaml", "kubernetes/kustomization.yaml", "kubernetes/import.yaml"];
    for name in files.map(|name| format!("replicated/{name}")) {
        let text = read(&name);
        let [ledger] = values(&text, "RUNHOUND_LEDGER")[..] else { panic!("{name}: one RUNHOUND_LEDGER") };
        Cli::try_parse_from(["runhound", "serve", "--ledger", ledger]).unwrap_or_else(|why| panic!("{name}: {why}"));
        let [password] = values(&text, "RUNHOUND_LEDGER_PASSWORD_FILE")[..] else { panic!("{name}: no password") };
        assert!(password.starts_with("/run/secrets/") && password.ends_with("/ledger-password"), "{name}: {password}");
        if let Some((_, certificate)) = ledger.split_once("sslrootcert=") {
            let folder = Path::new(certificate).parent().unwrap().display().to_string();
            assert!(text.contains(&format!("mountPath: {folder}")), "{name}: nothing is mounted at {folder}");
        }
    }
    let urls = files.map(|name| values(&read(&format!("replicated/{name}")), "RUNHOUND_LEDGER")[0].to_owned());
    assert_eq!(urls[1], urls[2], "the import goes where the replicas look");
}
