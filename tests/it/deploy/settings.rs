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

#[test]
fn the_command_line_of_the_pod_is_one_of_the_program() {
    let deployment = read("kubernetes/deployment.yaml");
    let line = deployment.lines().find_map(|line| line.trim().strip_prefix("args: [")?.strip_suffix(']')).unwrap();
    let cli = Cli::try_parse_from(["runhound"].into_iter().chain(line.split(", "))).unwrap();
    assert!(matches!(cli.command, Command::Serve(_)), "{line}");
}
