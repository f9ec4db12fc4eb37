use super::*;
use crate::{
    cli::{GithubArgs, LedgerArgs},
    explain::explain,
    github::Auth,
    metrics::ExtraTag,
};
use std::{collections::BTreeSet, io::Write};
use tempfile::NamedTempFile;

/// Stands in for whatever must never be shown.
const HUSH: &str = "hush-5f3a";

/// An environment with these variables and no others.
fn of<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Result<Option<String>, ConfigError> + 'a {
    |name| Ok(variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

fn file_of(bytes: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes.as_ref()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn common() -> Common {
    Common {
        reruns: Reruns::Push,
        repositories: Vec::new(),
        tags: tag_arguments(),
        max_series: 5_000,
        payload_log: None,
        max_journal_mib: 1_024,
        ledger: ledger_at(None),
    }
}

fn ledger_at(url: Option<&str>) -> LedgerArgs {
    LedgerArgs { ledger: url.map(str::to_owned), ledger_password_file: None, ledger_retention: 400 }
}

fn database_of(url: &str) -> Result<Option<Database>, ConfigError> {
    database(&ledger_at(Some(url)), Mode::Live, &of(&[("PGPASSWORD", HUSH)]))
}

fn tag_arguments() -> TagArgs {
    TagArgs {
        metric_prefix: "github.actions".to_owned(),
        branches: Vec::new(),
        jobs: false,
        steps: false,
        fold_matrix: true,
        extra_tags: Vec::new(),
    }
}

fn tagging_of(variables: &[(&str, &str)]) -> Result<Tagging, ConfigError> {
    tagging(&tag_arguments(), &of(variables))
}

fn with_prefix(prefix: &str) -> Result<Tagging, ConfigError> {
    tagging(&TagArgs { metric_prefix: prefix.to_owned(), ..tag_arguments() }, &of(&[]))
}

fn with_branches(branches: &[&str]) -> Result<Tagging, ConfigError> {
    let branches = branches.iter().map(|glob| (*glob).to_owned()).collect();
    tagging(&TagArgs { branches, ..tag_arguments() }, &of(&[]))
}

fn endpoint_of(variables: &[(&str, &str)]) -> Result<String, ConfigError> {
    endpoint(&of(variables)).map(|endpoint| endpoint.to_string())
}

/// Asserts that the secrets are these, in this order, by what they sign.
fn assert_secrets(variables: &[(&str, &str)], expected: &[&str]) {
    let signed: Vec<String> =
        secrets(&of(variables)).unwrap().current().iter().map(|secret| secret.sign(b"body")).collect();
    let expected = expected.iter().map(|text| Secret::new(text.as_bytes()).unwrap().sign(b"body"));
    assert_eq!(signed, expected.collect::<Vec<_>>());
}

#[test]
fn a_secret_comes_from_the_variable_as_it_stands() {
    assert_secrets(&[("GITHUB_WEBHOOK_SECRET", "It's a Secret to Everybody ")], &["It's a Secret to Everybody "]);
    assert_secrets(&[("GITHUB_WEBHOOK_SECRET", "one\r\n")], &["one"]);
}

#[test]
fn a_file_has_a_secret_a_line_whatever_its_line_ends() {
    let file = file_of("one\r\n\r\n  \ntwo\n\n three \nfour");
    assert_secrets(&[("GITHUB_WEBHOOK_SECRET_FILE", path(&file))], &["one", "two", "three", "four"]);
}

#[test]
fn secrets_of_variable_and_file_are_all_accepted() {
    let file = file_of("new\nnewer\n");
    let variables = [("GITHUB_WEBHOOK_SECRET", "old"), ("GITHUB_WEBHOOK_SECRET_FILE", path(&file))];
    assert_secrets(&variables, &["old", "new", "newer"]);
}

#[test]
fn an_empty_secret_is_none() {
    for variables in [&[][..], &[("GITHUB_WEBHOOK_SECRET", "")], &[("GITHUB_WEBHOOK_SECRET", " \n")]] {
        assert!(matches!(secrets(&of(variables)), Err(ConfigError::NoSecret)), "{variables:?}");
    }
    let unset_file = [("GITHUB_WEBHOOK_SECRET", ""), ("GITHUB_WEBHOOK_SECRET_FILE", "")];
    assert!(matches!(secrets(&of(&unset_file)), Err(ConfigError::NoSecret)));
}

#[test]
fn a_file_that_is_empty_is_an_error_that_names_variable_and_path() {
    for text in ["", "\n \r\n"] {
        let file = file_of(text);
        let in_file = [("GITHUB_WEBHOOK_SECRET", "one"), ("GITHUB_WEBHOOK_SECRET_FILE", path(&file))];
        let expected = format!("GITHUB_WEBHOOK_SECRET_FILE: {} is empty", path(&file));
        assert_eq!(explain(&secrets(&of(&in_file)).unwrap_err()), expected);
        let error = api_key(&of(&[("DD_API_KEY_FILE", path(&file))])).unwrap_err();
        assert_eq!(explain(&error), format!("DD_API_KEY_FILE: {} is empty", path(&file)));
        assert!(error.hint().contains("API key") && !error.hint().contains("one a line"), "{}", error.hint());
    }
}

#[test]
fn a_file_that_is_missing_is_an_error_that_names_variable_path_and_cause() {
    let missing = "/nowhere/secrets";
    let in_file = [("GITHUB_WEBHOOK_SECRET", "one"), ("GITHUB_WEBHOOK_SECRET_FILE", missing)];
    let error = explain(&secrets(&of(&in_file)).unwrap_err());
    assert!(error.starts_with("GITHUB_WEBHOOK_SECRET_FILE: /nowhere/secrets: No such file"), "{error}");
    let error = explain(&api_key(&of(&[("DD_API_KEY_FILE", missing)])).unwrap_err());
    assert!(error.starts_with("DD_API_KEY_FILE: /nowhere/secrets: No such file"), "{error}");
}

#[test]
fn a_key_comes_from_the_variable_or_the_file_and_is_trimmed() {
    let file = file_of("0123abcd\r\n");
    let bad = file_of("two words");
    for variables in [
        &[("DD_API_KEY", " 0123abcd\n")][..],
        &[("DD_API_KEY_FILE", path(&file))],
        &[("DD_API_KEY", ""), ("DD_API_KEY_FILE", path(&file))],
        // The variable wins, so that the file is not even looked at.
        &[("DD_API_KEY", "0123abcd"), ("DD_API_KEY_FILE", path(&bad))],
    ] {
        assert!(api_key(&of(variables)).is_ok(), "{variables:?}");
    }
    assert!(matches!(api_key(&of(&[])), Err(ConfigError::NoApiKey)));
    assert!(ConfigError::NoApiKey.hint().contains("DD_API_KEY_FILE"));
    assert!(matches!(api_key(&of(&[("DD_API_KEY", " ")])), Err(ConfigError::NoApiKey)));
}

#[test]
fn a_key_with_white_space_in_it_is_refused() {
    for key in ["two words", "two\nlines", "two\twords", "two\u{a0}words", "nul\0"] {
        let error = api_key(&of(&[("DD_API_KEY", key)])).unwrap_err();
        assert!(matches!(error, ConfigError::BadApiKey { variable: "DD_API_KEY" }), "{key:?}");
        let file = file_of(key);
        let error = api_key(&of(&[("DD_API_KEY_FILE", path(&file))])).unwrap_err();
        assert!(matches!(error, ConfigError::BadApiKey { variable: "DD_API_KEY_FILE" }), "{key:?}");
    }
}

#[test]
fn the_intake_is_that_of_dd_dd_url_else_dd_url_else_the_site() {
    let all =
        [("DD_DD_URL", "https://one.example/dd/"), ("DD_URL", " http://two:8126 "), ("DD_SITE", "datadoghq.eu\n")];
    assert_eq!(endpoint_of(&all).unwrap(), "https://one.example/dd");
    assert_eq!(endpoint_of(&all[1..]).unwrap(), "http://two:8126");
    assert_eq!(endpoint_of(&all[2..]).unwrap(), "https://api.datadoghq.eu");
    assert_eq!(endpoint_of(&[]).unwrap(), "https://api.datadoghq.com");
    let empty = [("DD_DD_URL", ""), ("DD_URL", " "), ("DD_SITE", "")];
    assert_eq!(endpoint_of(&empty).unwrap(), "https://api.datadoghq.com");
}

#[test]
fn an_intake_that_is_none_is_refused_by_the_name_of_its_variable() {
    // What wins is used or refused: a mistake in it does not send metrics elsewhere.
    let urls = [("DD_DD_URL", "ftp://one"), ("DD_URL", "two"), ("DD_SITE", "https://datadoghq.eu")];
    assert_eq!(endpoint_of(&urls).unwrap_err().to_string(), "DD_DD_URL: not a usable base URL");
    assert_eq!(endpoint_of(&urls[1..]).unwrap_err().to_string(), "DD_URL: not a usable base URL");
    assert_eq!(endpoint_of(&urls[2..]).unwrap_err().to_string(), "DD_SITE: not a usable site");
}

#[test]
fn the_tags_of_the_environment_are_separated_by_spaces_or_commas_and_put_in_form() {
    let constant = |variables: &[(&str, &str)]| tagging_of(variables).unwrap().constant;
    let tags = "Team:Core,cost-center:12  zone:a\tb:c\n,, ,solo,!";
    assert_eq!(constant(&[("DD_TAGS", tags)]), ["team:core", "cost-center:12", "zone:a", "b:c", "solo"]);
    assert_eq!(constant(&[("DD_ENV", "Prod EU")]), ["env:prod_eu"]);
    assert_eq!(constant(&[("DD_ENV", "prod"), ("DD_TAGS", "team:core")]), ["env:prod", "team:core"]);
    assert!(constant(&[("DD_ENV", " "), ("DD_TAGS", "")]).is_empty());
    assert!(constant(&[]).is_empty());
}

#[test]
fn a_tag_that_every_run_sets_itself_is_refused_by_name() {
    for key in TAG_KEYS {
        for tag in [format!("{key}:x"), format!("a:b,{}:x", key.to_uppercase()), format!("_{key}:x"), key.to_owned()] {
            let error = tagging_of(&[("DD_TAGS", &tag)]).unwrap_err();
            assert_eq!(error.to_string(), format!("DD_TAGS: the tag {key} is set by runs themselves"));
        }
    }
    assert!(tagging_of(&[("DD_TAGS", "branches:x,my_event:y,x:branch")]).is_ok());
}

#[test]
fn a_metric_prefix_is_the_beginning_of_a_metrics_name() {
    let longest = "p".repeat(120);
    for prefix in ["github.actions", "a", "Acme_CI.v2.github", &longest] {
        assert_eq!(with_prefix(prefix).unwrap().prefix, prefix);
    }
    let too_long = "p".repeat(121);
    for prefix in ["", ".a", "a.", "a..b", "1a", "_a", "a b", "a-b", "aé", "a:b", &too_long] {
        assert!(matches!(with_prefix(prefix), Err(ConfigError::BadPrefix(bad)) if bad == prefix), "{prefix}");
    }
}

#[test]
fn one_star_stops_at_a_slash_and_two_do_not() {
    for (glob, matches, others) in [
        ("main", &["main"][..], &["main2", "Main", "x/main"][..]),
        ("release/*", &["release/1.0", "release/"], &["release", "release/1/fix", "x/release/1"]),
        ("team/**", &["team/a", "team/a/b/c"], &["team", "teams/a"]),
        ("**", &["main", "a/b/c"], &[]),
        ("**/hotfix", &["hotfix", "a/hotfix", "a/b/hotfix"], &["a-hotfix"]),
        ("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["az", "a/bz"]),
        ("releases/**-alpha", &["releases/3-alpha", "releases/beta/3-alpha"], &["releases/3-beta"]),
        ("v2**", &["v2", "v2.1", "v2/fix/1"], &["v1/v2"]),
        ("{a**,b}/x", &["a/x", "a/1/2/x", "b/x"], &["b/1/x"]),
        (r"\**", &["*", "*x"], &["x", "*/x"]),
        ("v[12]", &["v1", "v2"], &["v3"]),
        ("v?", &["v1"], &["v", "v/"]),
    ] {
        let branches = with_branches(&[glob]).unwrap().branches;
        for branch in matches {
            assert!(branches.is_match(branch), "{glob} {branch}");
        }
        for branch in others {
            assert!(!branches.is_match(branch), "{glob} {branch}");
        }
    }
    let several = with_branches(&[" main ", "", "dev"]).unwrap().branches;
    assert!(several.is_match("main") && several.is_match("dev") && !several.is_match(""));
    assert!(!with_branches(&[]).unwrap().branches.is_match("main"));
}

#[test]
fn a_pattern_that_is_none_is_named() {
    for glob in ["release/[0-9", "{main", "a/**b/[", "x[z-a]"] {
        let error = explain(&with_branches(&["main", glob]).unwrap_err());
        assert!(error.starts_with("branches: ") && error.contains(&format!("'{glob}'")), "{error}");
    }
}

#[test]
fn settings_are_those_of_arguments_and_environment() {
    let common = Common {
        reruns: Reruns::Drop,
        repositories: vec!["acme".to_owned()],
        tags: TagArgs {
            metric_prefix: "acme.ci".to_owned(),
            branches: vec!["release/*".to_owned()],
            jobs: true,
            steps: true,
            fold_matrix: false,
            extra_tags: vec![ExtraTag::Actor],
        },
        max_series: 700,
        payload_log: Some("payloads.jsonl".into()),
        max_journal_mib: 3,
        ledger: ledger_at(Some("postgres://db.example/runhound")),
    };
    let environment = [("DD_API_KEY", "key"), ("DD_SITE", "datadoghq.eu"), ("DD_ENV", "prod")];
    let settings =
        Settings::new(Mode::Live, Path::new("cache"), &common, Vec::new().into(), &of(&environment)).unwrap();
    assert_eq!((settings.mode, settings.reruns), (Mode::Live, Reruns::Drop));
    assert_eq!(settings.cache_dir, Path::new("cache"));
    assert_eq!((settings.max_series, settings.max_journal_bytes), (700, 3 << 20));
    assert!(settings.repositories.is_some());
    assert_eq!(settings.database.unwrap().to_string(), "PostgreSQL database runhound on db.example:5432");
    assert_eq!(settings.payload_log.as_deref(), Some(Path::new("payloads.jsonl")));
    assert_eq!(settings.datadog.unwrap().0.to_string(), "https://api.datadoghq.eu");
    assert_eq!((settings.tagging.prefix.as_str(), settings.tagging.extra), ("acme.ci", vec![ExtraTag::Actor]));
    assert_eq!(settings.tagging.constant, ["env:prod"]);
    assert!(settings.tagging.branches.is_match("release/1"));
}

#[test]
fn a_live_run_needs_a_key_and_a_dry_run_neither_key_nor_intake() {
    let new = |mode, variables| Settings::new(mode, Path::new("cache"), &common(), Vec::new().into(), &of(variables));
    assert!(matches!(new(Mode::Live, &[]), Err(ConfigError::NoApiKey)));
    assert!(new(Mode::Live, &[("DD_API_KEY", "key")]).unwrap().datadog.is_some());
    let odd = [("DD_API_KEY", "two words"), ("DD_URL", "none"), ("DD_API_KEY_FILE", "/nowhere")];
    assert!(new(Mode::DryRun, &odd).unwrap().datadog.is_none());
    assert!(new(Mode::DryRun, &[("DD_TAGS", "branch:x")]).is_err(), "the rest is checked all the same");
}

/// Every error there is, each from an environment that holds something secret.
fn every_error() -> Vec<ConfigError> {
    let not_utf8 = file_of([HUSH.as_bytes(), b"\xff"].concat());
    let empty = file_of("");
    let two_keys = file_of(format!("{HUSH}\n{HUSH}"));
    let missing = [("GITHUB_WEBHOOK_SECRET", HUSH), ("GITHUB_WEBHOOK_SECRET_FILE", "/nowhere")];
    let hush_url = format!("https://user:{HUSH}@proxy.example");
    let words = format!("{HUSH} {HUSH}");
    vec![
        secrets(&of(&[])).unwrap_err(),
        secrets(&of(&missing)).unwrap_err(),
        secrets(&of(&[("GITHUB_WEBHOOK_SECRET_FILE", path(&not_utf8))])).unwrap_err(),
        secrets(&of(&[("GITHUB_WEBHOOK_SECRET_FILE", path(&empty))])).unwrap_err(),
        secrets(&|name: &str| Err(ConfigError::NotText(name.to_owned()))).unwrap_err(),
        api_key(&of(&[])).unwrap_err(),
        api_key(&of(&[("DD_API_KEY_FILE", path(&empty))])).unwrap_err(),
        api_key(&of(&[("DD_API_KEY", &words)])).unwrap_err(),
        api_key(&of(&[("DD_API_KEY_FILE", path(&two_keys))])).unwrap_err(),
        api_key(&of(&[("DD_API_KEY_FILE", path(&not_utf8))])).unwrap_err(),
        endpoint(&of(&[("DD_URL", &hush_url)])).unwrap_err(),
        endpoint(&of(&[("DD_SITE", &hush_url)])).unwrap_err(),
        tagging_of(&[("DD_TAGS", "branch:x"), ("DD_API_KEY", HUSH)]).unwrap_err(),
        with_prefix("a b").unwrap_err(),
        with_branches(&["["]).unwrap_err(),
        Repositories::new(&["[".to_owned()]).unwrap_err(),
        tls(&TlsArgs { tls_cert: Some(path(&not_utf8).into()), tls_key: Some(path(&two_keys).into()) }).unwrap_err(),
        database_of(&format!("postgres://u:{HUSH}@db.example/x")).unwrap_err(),
        database_of(&format!("postgres://u@db.example/x?password={HUSH}")).unwrap_err(),
        database_of(&format!("postgres://u:{HUSH}@[/x")).unwrap_err(),
        database_of("mysql://db.example").unwrap_err(),
        github(&asking(&hush_url, None), &of(&[])).unwrap_err(),
        github(&asking("https://github.com", None), &of(&[])).unwrap_err(),
        github(&asking("https://github.com", None), &of(&[("GITHUB_TOKEN", &words)])).unwrap_err(),
        github(&asking("https://github.com", None), &of(&[("GITHUB_TOKEN_FILE", path(&two_keys))])).unwrap_err(),
        github(&asking("https://github.com", None), &of(&[("GITHUB_TOKEN_FILE", "/nowhere")])).unwrap_err(),
        github(&asking("https://github.com", Some(path(&two_keys))), &of(&[])).unwrap_err(),
    ]
}

/// Asks a GitHub, as an App with this key if there is one.
fn asking(url: &str, key: Option<&str>) -> GithubArgs {
    GithubArgs {
        github_url: url.to_owned(),
        github_app_id: key.map(|_| "1".to_owned()),
        github_app_key: key.map(Into::into),
    }
}

#[test]
fn github_is_asked_with_the_token_of_the_variable_then_of_the_file_and_below_its_root() {
    let file = file_of("of-the-file\n");
    let both = [("GITHUB_TOKEN", "of-the-variable"), ("GITHUB_TOKEN_FILE", path(&file))];
    for (variables, token) in [(&both[..], "of-the-variable"), (&both[1..], "of-the-file")] {
        let (root, auth) = github(&asking("https://ghe.example.com", None), &of(variables)).unwrap();
        assert_eq!(root, "https://ghe.example.com/api/v3");
        assert!(matches!(auth, Auth::Token(found) if found.text() == token));
    }
}

#[test]
fn a_new_webhook_gets_the_secret_of_the_variable_or_the_first_of_the_file() {
    let file = file_of("\n first \nsecond\n");
    let both = [("GITHUB_WEBHOOK_SECRET", "it\n"), ("GITHUB_WEBHOOK_SECRET_FILE", path(&file))];
    assert_eq!(webhook_secret(&of(&both)).unwrap(), "it");
    assert_eq!(webhook_secret(&of(&both[1..])).unwrap(), "first");
    assert!(matches!(webhook_secret(&of(&[])), Err(ConfigError::NoSecret)));
}

/// Its variant. A new one does not compile until it is among `VARIANTS` and so in `every_error`.
const fn variant(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::NoSecret => VARIANTS[0],
        ConfigError::EmptyFile { .. } => VARIANTS[1],
        ConfigError::Unreadable { .. } => VARIANTS[2],
        ConfigError::NoApiKey => VARIANTS[3],
        ConfigError::BadApiKey { .. } => VARIANTS[4],
        ConfigError::BadEndpoint { .. } => VARIANTS[5],
        ConfigError::BadPrefix(_) => VARIANTS[6],
        ConfigError::BadGlob(_) => VARIANTS[7],
        ConfigError::ReservedTag(_) => VARIANTS[8],
        ConfigError::NotText(_) => VARIANTS[9],
        ConfigError::BadRepository { .. } => VARIANTS[10],
        ConfigError::BadTls(_) => VARIANTS[11],
        ConfigError::BadGithubUrl => VARIANTS[12],
        ConfigError::NoToken => VARIANTS[13],
        ConfigError::BadToken { .. } => VARIANTS[14],
        ConfigError::BadAppKey { .. } => VARIANTS[15],
        ConfigError::BadLedger(AddressError::Bad(_)) => VARIANTS[16],
        ConfigError::BadLedger(AddressError::Password) => VARIANTS[17],
    }
}

const VARIANTS: [&str; 18] = [
    "no secret",
    "empty file",
    "unreadable file",
    "no key",
    "bad key",
    "bad endpoint",
    "bad prefix",
    "bad glob",
    "reserved tag",
    "not text",
    "bad repository",
    "bad tls",
    "bad address of github",
    "no token",
    "bad token",
    "bad key of an app",
    "bad ledger",
    "password in the ledger's address",
];

#[test]
fn every_error_says_what_to_do() {
    let errors = every_error();
    let variants: BTreeSet<&str> = errors.iter().map(variant).collect();
    assert_eq!(variants, VARIANTS.into(), "each error is tried");
    let hints: BTreeSet<&str> = errors.iter().map(ConfigError::hint).collect();
    assert_eq!(hints.len(), VARIANTS.len() + 1, "a hint of its own for each, and two for an empty file");
    assert!(hints.iter().all(|hint| !hint.trim().is_empty()));
}

#[test]
fn no_error_shows_a_secret_or_a_key() {
    for error in every_error() {
        for shown in [format!("{error:?}"), format!("{error:#?}"), explain(&error)] {
            assert!(!shown.contains(HUSH), "{shown}");
        }
    }
}

#[test]
fn settings_never_show_a_secret_or_a_key() {
    let environment = [("GITHUB_WEBHOOK_SECRET", HUSH), ("DD_API_KEY", HUSH)];
    let secrets = secrets(&of(&environment)).unwrap();
    let settings = Settings::new(Mode::Live, Path::new("cache"), &common(), secrets, &of(&environment)).unwrap();
    let shown = format!("{settings:?} {settings:#?}");
    assert!(!shown.contains(HUSH), "{shown}");
    assert!(!shown.contains(&hex::encode(HUSH)), "{shown}");
    let bytes = format!("{:?}", HUSH.as_bytes());
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
}
