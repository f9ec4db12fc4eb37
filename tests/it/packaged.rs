//! What images and packages rely on: the health check, completions and manual pages.

use crate::{
    commands::text,
    faults::mount::Mount,
    github::workflow_run,
    harness::{Start, program},
};
use clap::CommandFactory;
use runhound::cli::Cli;

#[test]
fn a_healthcheck_says_whether_the_service_beside_it_is_ready_and_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).with_admin().start();
    let healthcheck = |address: &str| {
        let output = program(&["healthcheck"]).env("RUNHOUND_ADMIN_LISTEN", address).output().unwrap();
        text(&output)
    };
    // As an image has it: an address for all of the machine's.
    let address = format!("0.0.0.0:{}", service.admin().port());
    assert_eq!(healthcheck(&address), (Some(0), String::new(), String::new()));

    if let Some(read_only) = Mount::over(dir.path(), "ro") {
        // The next delivery meets a journal that is no longer the one it was.
        assert_eq!(service.deliver(&workflow_run(1)).status, 503);
        let (status, out, err) = healthcheck(&address);
        assert_eq!((status, out.as_str()), (Some(1), ""));
        let told = "runhound: not ready: the journal cannot be written: ";
        assert!(err.starts_with(told) && err.contains("\nhint: "), "{err}");
        drop(read_only);
    }

    service.kill();
    let (status, _, err) = healthcheck(&address);
    assert_eq!(status, Some(1));
    let asked = address.replace("0.0.0.0", "http://127.0.0.1");
    assert!(err.starts_with(&format!("runhound: {asked}/readyz: ")) && err.contains("\nhint: "), "{err}");
    let (status, _, err) = healthcheck("off");
    assert_eq!(status, Some(1));
    assert!(err.starts_with("runhound: --admin-listen: it is off"), "{err}");
}

#[test]
fn completions_and_manual_pages_tell_of_every_command_and_flag() {
    let dir = tempfile::tempdir().unwrap();
    let share = dir.path().join("share");
    // What is set where they are made is nobody else's business.
    let mut generate = program(&["generate", share.to_str().unwrap()]);
    assert!(generate.env("RUNHOUND_CACHE_DIR", "/the/cache/of/one/machine").status().unwrap().success());
    let read = |name: &str| std::fs::read_to_string(share.join(name)).unwrap();
    let completions = [
        "bash-completion/completions/runhound",
        "fish/vendor_completions.d/runhound.fish",
        "zsh/site-functions/_runhound",
    ]
    .map(read);
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let page = read(&format!("man/man1/runhound-{name}.1"));
        assert!(!page.contains("of/one/machine"), "{page}");
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(page.contains(&format!("\\-\\-{}", flag.replace('-', "\\-"))), "{name} --{flag}: {page}");
            for completion in &completions {
                assert!(completion.contains(name) && completion.contains(flag), "{name} --{flag}");
            }
        }
    }
    let serve = read("man/man1/runhound-serve.1");
    assert!(serve.contains("RUNHOUND_LISTEN") && serve.contains("GITHUB_WEBHOOK_SECRET_FILE"), "{serve}");

    let (status, _, err) = text(&program(&["generate", "/dev/null"]).output().unwrap());
    assert_eq!(status, Some(1));
    assert!(err.starts_with("runhound: /dev/null/") && err.contains("hint: name a folder"), "{err}");
}
