//! What the documents say, held against what there is.

use crate::harness::program;
use clap::CommandFactory;
use prometheus::core::Collector;
use runhound::{
    admin::{Kind, METRICS, Reason},
    cli::Cli,
    vitals::Vitals,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The files below a folder with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path, ending) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == ending))
        .collect()
}

fn documents() -> Vec<PathBuf> {
    let top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root().join(name));
    let folders = ["docs", "deploy"].map(|name| files(&root().join(name), "md"));
    let documents: Vec<PathBuf> = top.into_iter().chain(folders.into_iter().flatten()).collect();
    assert!(documents.len() > 10);
    documents
}

/// Every flag, with its defaults.
fn flags() -> BTreeMap<String, String> {
    let mut command = Cli::command();
    command.build();
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    let options = commands.flat_map(|command| command.get_arguments().cloned().collect::<Vec<_>>());
    let default = |option: &clap::Arg| {
        if !option.get_action().takes_values() {
            return String::new();
        }
        let values = option.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
        values.collect::<Vec<_>>().join(",")
    };
    options.filter_map(|option| Some((format!("--{}", option.get_long()?), default(&option)))).collect()
}

#[test]
fn every_flag_and_variable_that_the_documents_name_exists() {
    let flags = flags();
    let variable = |flag: &str| format!("RUNHOUND_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
    let variables: BTreeSet<String> = flags.keys().map(|flag| variable(flag)).collect();
    for document in documents() {
        let text = read(&document);
        let document = document.display();
        let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || "-_".contains(char)));
        for word in words.filter(|word| word.starts_with("RUNHOUND_")) {
            assert!(variables.contains(word), "{document}: {word}");
        }
        let names = Cli::command()
            .get_subcommands()
            .map(|command| format!("runhound {}", command.get_name()))
            .collect::<Vec<_>>();
        let lines = names.iter().flat_map(|command| text.split(command).skip(1).filter_map(|rest| rest.lines().next()));
        // Another command may follow on the line.
        let lines = lines.filter_map(|line| line.split(" && ").next());
        for flag in lines.flat_map(|line| line.split(['`', ' '])).filter(|word| word.starts_with("--")) {
            let flag = flag.split(['=', ',', '.', ';']).next().unwrap();
            assert!(flag == "--help" || flags.contains_key(flag), "{document}: {flag}");
        }
    }
}

#[test]
fn the_table_of_settings_has_every_flag_of_the_service_with_its_variable_and_default() {
    let flags = flags();
    let page = read(&root().join("docs/production.md"));
    let mut told = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `RUNHOUND_")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let (variables, names) = (quoted(cells[0]), quoted(cells[1]));
        for (variable, name) in variables.iter().zip(&names) {
            assert_eq!(*variable, format!("RUNHOUND_{}", name[2..].replace('-', "_").to_uppercase()), "{row}");
            let default = flags.get(name).unwrap_or_else(|| panic!("no {name}: {row}"));
            assert!(cells[2].contains(default.as_str()), "{name} is {default} by default: {row}");
        }
        assert_eq!(variables.len(), names.len(), "{row}");
        told.extend(names);
    }
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for flag in serve.get_arguments().filter_map(|option| option.get_long()).filter(|flag| *flag != "help") {
        assert!(told.contains(&format!("--{flag}")), "docs/production.md does not tell of --{flag}");
    }
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let sources = [files(&root().join("src"), "rs"), files(&root().join("tests"), "rs")].concat();
    let code: String = sources.iter().map(|path| read(path)).collect();
    let mut named = 0;
    for document in documents() {
        let text = read(&document);
        // Between backticks, in lower case, with many words in it, and not a metric.
        let words = text.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 2);
        let words = words.filter(|word| !word.starts_with("runhound_"));
        for name in
            words.filter(|word| word.chars().all(|char| char.is_ascii_lowercase() || "_0123456789".contains(char)))
        {
            let is_there = code.contains(&format!("fn {name}(")) || code.contains(&format!("    {name}: Workload"));
            assert!(is_there, "{}: there is no test {name}", document.display());
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}

#[test]
fn the_tables_of_metrics_tell_what_the_catalogue_tells() {
    let output = program(&["metrics", "--format=json"]).output().unwrap();
    let catalogue: Value = serde_json::from_slice(&output.stdout).unwrap();
    let metrics = catalogue.as_array().unwrap();
    assert_eq!(metrics.len(), 4);
    let readme = read(&root().join("README.md"));
    for metric in metrics {
        let text = |field: &str| metric[field].as_str().unwrap_or_default();
        let unit = metric["unit"].as_str().map(|unit| format!(", {unit}")).unwrap_or_default();
        let row = format!("| `{}` | {}{unit} | {} |", text("name"), text("type"), text("description"));
        assert!(readme.contains(&row), "the README has no row {row}");
        for tag in metric["tags"].as_array().unwrap() {
            assert!(readme.contains(&format!("`{}`", tag.as_str().unwrap())), "the README has no tag {tag}");
        }
    }
    let table = String::from_utf8(program(&["metrics"]).output().unwrap().stdout).unwrap();
    assert!(metrics.iter().all(|metric| table.contains(metric["name"].as_str().unwrap())), "{table}");
}

#[test]
fn the_page_for_operators_explains_every_metric_and_every_reason() {
    let page = read(&root().join("docs/operations.md"));
    let explains = |row: &str| assert!(page.contains(row), "docs/operations.md has no row {row}");
    for metric in METRICS {
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        let label = metric.label.map_or("–".to_owned(), |label| format!("`{label}`"));
        explains(&format!("| `{}` | {kind} | {label} | {} |", metric.name, metric.help));
    }
    for family in Vitals::default().histograms().iter().flat_map(|histogram| histogram.collect()) {
        explains(&format!("| `{}` | {} |", family.name(), family.help()));
    }
    for reason in Reason::ALL {
        explains(&format!("| `{}` | ", reason.name()));
    }
}
