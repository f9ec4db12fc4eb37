//! `runhound register`: the webhook, by the real program.

use super::*;
use crate::hub::{Asked, Config};

fn register(scene: &Scene, url: &str, more: &[&str]) -> Said {
    scene.run(&[&["register", "--repository", REPOSITORY, "--url", url], more].concat())
}

/// How many requests changed a webhook.
fn changes(scene: &Scene) -> usize {
    let is_change = |asked: &Asked| asked.method == "PATCH" || asked.method == "POST" && asked.path.ends_with("/hooks");
    scene.hub.count(is_change)
}

#[test]
fn a_webhook_is_made_once_and_a_ping_is_seen_to_be_answered() {
    let scene = Scene::new();
    let service = scene.service();
    let url = webhook(&service);
    let dry = register(&scene, &url, &["--dry-run"]);
    assert!(dry.done().out.contains("would make a webhook"), "{}", dry.out);
    assert_eq!((changes(&scene), scene.hub.hooks().len()), (0, 0));
    let made = register(&scene, &url, &[]);
    assert!(made.done().out.contains(&format!("the ping to {url} was answered")), "{}", made.out);
    let hooks = scene.hub.hooks();
    let hook = &hooks[0];
    assert_eq!((hooks.len(), hook.active, hook.events.as_slice()), (1, true, &["workflow_run".to_owned()][..]));
    let Config { url: to, content_type, secret, insecure_ssl } = &hook.config;
    assert_eq!((to.as_str(), content_type.as_str(), insecure_ssl.as_str()), (url.as_str(), "json", "0"));
    assert_eq!(secret.as_deref(), Some(SECRET));
    let again = register(&scene, &url, &[]);
    assert!(again.done().out.contains("the webhook is as it should be"), "{}", again.out);
    assert_eq!((changes(&scene), scene.hub.hooks().len()), (1, 1));
    // It is one that works.
    let delivered = scene.hub.complete(&ended(1, 5));
    assert_eq!(delivered[0].status_code, 202, "{delivered:?}");
}

#[test]
fn a_webhook_that_is_not_as_it_should_be_is_mended_and_keeps_its_other_events() {
    let scene = Scene::new();
    let service = scene.service();
    let url = webhook(&service);
    let wrong =
        Config { url: url.clone(), content_type: "form".to_owned(), secret: None, insecure_ssl: "1".to_owned() };
    let id = scene.hub.hook_of(REPOSITORY, wrong, &["push"]);
    let told =
        ["add the event workflow_run", "content type to json from form", "certificate", "set its secret to ours"];
    for (more, verb) in [(&["--dry-run"][..], "would"), (&[], "will")] {
        let said = register(&scene, &url, more);
        said.done();
        for what in told {
            assert!(said.out.contains(&format!("{REPOSITORY}: {verb} ")) && said.out.contains(what), "{}", said.out);
        }
    }
    let hook = &scene.hub.hooks()[0];
    assert_eq!((hook.id, hook.events.as_slice()), (id, &["push".to_owned(), "workflow_run".to_owned()][..]));
    assert_eq!((hook.config.content_type.as_str(), hook.config.insecure_ssl.as_str()), ("json", "0"));
    assert_eq!(changes(&scene), 1);
}

#[test]
fn another_secret_shows_at_the_ping_and_is_set() {
    let scene = Scene::new();
    let service = scene.service();
    let url = webhook(&service);
    scene.hub.hook(REPOSITORY, &url, "of before");
    let said = register(&scene, &url, &[]);
    assert!(said.done().out.contains("will set the webhook's secret"), "{}", said.out);
    assert_eq!(scene.hub.hooks()[0].config.secret.as_deref(), Some(SECRET));
    assert!(!said.out.contains(SECRET) && !said.err.contains(SECRET));
}

#[test]
fn an_organizations_webhook_is_made_where_it_belongs() {
    let scene = Scene::new();
    let service = scene.service();
    let url = webhook(&service);
    scene.run(&["register", "--organization", "acme-rockets", "--url", &url]).done();
    assert_eq!(
        scene.hub.count(|asked| asked.path.contains("/orgs/acme-rockets/hooks")),
        scene.hub.count(|asked| asked.path.contains("/hooks"))
    );
    assert_eq!(scene.hub.complete(&ended(1, 5))[0].status_code, 202);
}

#[test]
fn a_ping_that_is_not_answered_as_it_should_be_is_an_error_with_the_likely_cause() {
    let scene = Scene::new();
    let service = scene.service();
    register(&scene, &nowhere(), &[]).failed("the ping to http://127.0.0.1", "firewalls");
    register(&scene, &format!("http://{}/", service.address), &[])
        .failed("failed: Invalid HTTP Response: 404", "/webhook");
    let other = said(
        scene
            .command(&["register", "--repository", REPOSITORY, "--url", &webhook(&service)])
            .env("GITHUB_WEBHOOK_SECRET", "another"),
    );
    other.failed("failed: Invalid HTTP Response: 401", "same GITHUB_WEBHOOK_SECRET");
    register(&scene, "runhound.example.com", &[]).failed("--url", "https://");
}
