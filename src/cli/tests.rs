use super::*;
use crate::limits::Limits;
use clap::Arg;
use std::{collections::BTreeMap, time::Duration};

/// Every flag of every command but those that clap adds.
fn flags() -> Vec<(String, Arg)> {
    let cli = Cli::command();
    let of = |command: &clap::Command| {
        let name = command.get_name().to_owned();
        let flags = command.get_opts().cloned().collect::<Vec<_>>();
        flags.into_iter().map(move |flag| (name.clone(), flag)).collect::<Vec<_>>()
    };
    let flags = std::iter::once(&cli).chain(cli.get_subcommands()).flat_map(of);
    flags.filter(|(_, flag)| !["help", "version"].contains(&flag.get_id().as_str())).collect()
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_a_variable_of_the_same_name() {
    assert!(!flags().is_empty());
    for (command, flag) in flags() {
        let long = flag.get_long().unwrap();
        let expected = format!("RUNHOUND_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(flag.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "{command} --{long}");
        assert!(!flag.is_hide_env_set(), "{command} --{long}: the help shows it");
    }
}

#[test]
fn defaults_are_as_designed() {
    let defaults: BTreeMap<(String, String), String> = flags()
        .into_iter()
        .map(|(command, flag)| {
            let values = flag.get_default_values().iter().map(|value| value.to_string_lossy());
            let long = flag.get_long().unwrap().to_owned();
            ((command, long), values.collect::<Vec<_>>().join(","))
        })
        .collect();
    for (command, flag, default) in [
        ("serve", "listen", "127.0.0.1:8080"),
        ("serve", "admin-listen", "127.0.0.1:8081"),
        ("serve", "shutdown-timeout", "20"),
        ("serve", "cache-dir", "./cache"),
        ("serve", "reruns", "push"),
        ("serve", "metric-prefix", "github.actions"),
        ("serve", "branches", ""),
        ("serve", "extra-tags", ""),
        ("serve", "payload-log", ""),
        ("serve", "max-series", "5000"),
        ("serve", "repositories", ""),
        ("serve", "max-journal-mib", "1024"),
        ("serve", "max-in-flight-mib", "256"),
        ("serve", "max-unverified-mib", "64"),
        ("serve", "max-connections", "16000"),
        ("serve", "client-timeout", "10"),
        ("serve", "tls-cert", ""),
        ("serve", "tls-key", ""),
        ("replay", "to", ""),
        ("replay", "timeout", "60"),
        ("replay", "cache-dir", ""),
        ("replay", "reruns", "push"),
        ("check", "cache-dir", "./cache"),
    ] {
        let found = defaults.get(&(command.to_owned(), flag.to_owned())).map(String::as_str);
        assert_eq!(found, Some(default), "{command} --{flag}");
    }
}

#[test]
fn nothing_is_pushed_by_a_replay_unless_live_is_said_and_a_directory_given() {
    let parse = |arguments: &str| Cli::read_from(arguments.split(' ').map(OsString::from));
    assert!(parse("runhound replay x --live --cache-dir y").is_ok());
    assert!(parse("runhound replay x --live").is_err());
    assert!(parse("runhound replay x --live --cache-dir y --to http://z").is_err());
    assert!(parse("runhound replay").is_err());
}

#[test]
fn a_limit_on_series_is_a_number_above_zero() {
    let parse = |limit: &str| Cli::read_from(["runhound", "serve", "--max-series", limit].map(OsString::from));
    assert!(parse("1").is_ok());
    assert!(parse("0").is_err() && parse("-1").is_err() && parse("none").is_err());
}

#[test]
fn a_limit_of_nothing_is_no_limit_and_a_mistake() {
    let limits: Vec<String> = flags()
        .into_iter()
        .filter(|(command, _)| command == "serve")
        .map(|(_, flag)| format!("--{}", flag.get_long().unwrap()))
        .filter(|long| long.starts_with("--max-") || long == "--client-timeout")
        .collect();
    assert!(limits.len() > 5, "{limits:?}");
    for limit in limits {
        let parse = |value: &str| Cli::read_from(["runhound", "serve", &limit, value].map(OsString::from));
        assert!(parse("1").is_ok(), "{limit}");
        assert!(parse("0").is_err() && parse("-1").is_err() && parse("none").is_err(), "{limit}");
    }
}

#[test]
fn limits_are_in_the_units_of_their_names() {
    let parse = |arguments: &str| Cli::read_from(arguments.split(' ').map(OsString::from)).unwrap();
    let limits = |cli: Cli| match cli.command {
        Command::Serve(serve) => Limits::from(&serve.limits),
        other => panic!("{other:?}"),
    };
    assert_eq!(limits(parse("runhound serve")), Limits::default());
    let set = "--max-in-flight-mib 3 --max-unverified-mib 2 --max-connections 7 --client-timeout 5";
    let expected = Limits {
        verified_max_bytes: 3 << 20,
        unverified_max_bytes: 2 << 20,
        max_connections: 7,
        client_timeout: Duration::from_secs(5),
        ..Limits::default()
    };
    assert_eq!(limits(parse(&format!("runhound serve {set}"))), expected);
}

#[test]
fn a_certificate_and_its_key_need_each_other() {
    let parse = |arguments: &str| Cli::read_from(arguments.split(' ').map(OsString::from));
    for command in ["serve", "check"] {
        assert!(parse(&format!("runhound {command} --tls-cert a --tls-key b")).is_ok());
        assert!(parse(&format!("runhound {command} --tls-cert a")).is_err());
        assert!(parse(&format!("runhound {command} --tls-key b")).is_err());
    }
}

#[test]
fn no_flag_takes_a_secret() {
    // These name the file that a secret is in.
    let is_a_file =
        |flag: &clap::Arg| matches!(flag.get_long(), Some("tls-key" | "github-app-key" | "ledger-password-file"));
    for (command, flag) in flags().into_iter().filter(|(_, flag)| !is_a_file(flag)) {
        let long = flag.get_long().unwrap();
        assert!(!["secret", "key", "token", "password"].iter().any(|word| long.contains(word)), "{command} --{long}");
    }
}

#[test]
fn what_asks_github_needs_to_know_whom_and_of_what() {
    let parse = |arguments: &str| Cli::read_from(arguments.split(' ').map(OsString::from));
    let hook = "--url https://r.example/webhook";
    for (fine, missing) in [
        (format!("register --repository a/b {hook}"), format!("register {hook}")),
        ("recover --organization a".to_owned(), "recover".to_owned()),
        ("recover --repository a/b --hook 7".to_owned(), "recover --repository a/b,a/c --hook 7".to_owned()),
        ("backfill --repository a/b --since 3d".to_owned(), "backfill --since 3d".to_owned()),
        ("backfill --repository a/b --since 3d --late historical".to_owned(), "backfill --repository a/b".to_owned()),
        (
            "backfill --repository a/b --since 3d --to http://127.0.0.1/webhook".to_owned(),
            "backfill --repository a/b --since 3d --late historical --to http://127.0.0.1/webhook".to_owned(),
        ),
        ("serve --recover-every 15m --organization a".to_owned(), "serve --recover-every 15m".to_owned()),
        (
            "recover --organization a --github-app-id 1 --github-app-key a.pem".to_owned(),
            "recover --organization a --github-app-id 1".to_owned(),
        ),
    ] {
        assert!(parse(&format!("runhound {fine}")).is_ok(), "{fine}");
        assert!(parse(&format!("runhound {missing}")).is_err(), "{missing}");
    }
}
