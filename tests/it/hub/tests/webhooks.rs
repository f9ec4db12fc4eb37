//! That hooks are made, changed and shown as GitHub does it.

use super::*;

fn web(url: &str) -> Value {
    json!({
        "name": "web", "active": true, "events": ["workflow_run"],
        "config": { "url": url, "content_type": "json", "secret": SECRET, "insecure_ssl": "0" },
    })
}

#[test]
fn a_hook_made_over_the_api_pings_then_delivers_and_hides_its_secret() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hub.repository("acme/web");
    let asking = Asking::of(&hub);
    let made = asking.ask("POST", HOOKS, &web(&receiver.url()));
    assert_eq!((made.status, &made.body["config"]["secret"]), (201, &json!("********")));
    assert!(made.header("location").unwrap().ends_with(&format!("{HOOKS}/{}", made.body["id"])));
    hub.wait_until(|state| state.deliveries().len() == 1 && state.is_idle(), WAIT_MAX);
    let [ping] = receiver.take().try_into().unwrap();
    assert_eq!(ping.header("x-github-event"), Some("ping"));
    assert_eq!(ping.header("x-hub-signature-256"), Some(crate::github::sign(SECRET, &ping.body).as_str()));
    hub.complete(&run(1));
    assert_eq!(receiver.take().len(), 1);
    let path = format!("{HOOKS}/{}", made.body["id"]);
    assert_eq!(asking.ask("POST", &format!("{path}/pings"), &Value::Null).status, 204);
    hub.wait_until(|state| state.deliveries().len() == 3 && state.is_idle(), WAIT_MAX);
    assert_eq!(receiver.take().len(), 1);
    assert_eq!(fields(&asking.get(HOOKS).body, "id"), [made.body["id"].clone()]);
    assert_eq!(asking.get(&path).body["config"]["secret"], json!("********"));
    assert_eq!(hub.hooks()[0].config.secret.as_deref(), Some(SECRET));
}

#[test]
fn defaults_are_githubs() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let body = json!({ "config": { "url": "https://runhound.example.com/" }, "active": false });
    let made = Asking::of(&hub).ask("POST", HOOKS, &body);
    assert_eq!(made.body["events"], json!(["push"]));
    let config = json!({ "url": "https://runhound.example.com/", "content_type": "form", "insecure_ssl": "0" });
    assert_eq!((&made.body["config"], &made.body["type"]), (&config, &json!("Repository")));
    assert!(hub.read(State::is_idle) && hub.deliveries().is_empty(), "what is not active does not ping");
}

#[test]
fn the_same_url_is_refused_as_are_hooks_that_are_none() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let asking = Asking::of(&hub);
    let url = "https://runhound.example.com/";
    assert_eq!(asking.ask("POST", HOOKS, &web(url)).status, 201);
    let other = asking.ask("POST", HOOKS, &web("https://runhound.example.com/other"));
    let refused = |answer: &Answer, message: &str| {
        assert_eq!((answer.status, &answer.body["message"]), (422, &json!("Validation Failed")));
        assert_eq!(answer.body["errors"][0]["message"], json!(message));
    };
    let twice = "Hook already exists on this repository";
    refused(&asking.ask("POST", HOOKS, &web(url)), twice);
    let path = format!("{HOOKS}/{}", other.body["id"]);
    refused(&asking.ask("PATCH", &path, &web(url)), twice);
    refused(&asking.ask("PATCH", &format!("{path}/config"), &json!({ "url": url })), twice);
    assert_eq!(asking.ask("POST", "/orgs/acme/hooks", &web(url)).status, 201, "an organisation is another place");
    refused(&asking.ask("POST", "/orgs/acme/hooks", &web(url)), "Hook already exists on this organization");
    refused(&asking.ask("POST", HOOKS, &json!({ "config": {} })), "Config must contain URL for webhooks");
    let mut none = web("https://runhound.example.com/none");
    none["events"] = json!(["workflow_ran"]);
    refused(&asking.ask("POST", HOOKS, &none), "Events contains an unknown event: workflow_ran");
    let broken = asking.try_ask("POST", HOOKS, &[], "{").unwrap();
    assert_eq!((broken.status, &broken.body["message"]), (400, &json!("Problems parsing JSON")));
    assert_eq!(hub.hooks().len(), 3);
}

#[test]
fn no_more_than_twenty_hooks_are_for_one_event() {
    let hub = Hub::start();
    for number in 0..20 {
        hub.hook("acme/web", &format!("https://runhound.example.com/{number}"), "");
    }
    let refused = Asking::of(&hub).ask("POST", HOOKS, &web("https://runhound.example.com/20"));
    assert_eq!(refused.status, 422);
    assert!(refused.body["errors"][0]["message"].as_str().unwrap().contains("cannot have more than 20 hooks"));
}

#[test]
fn a_config_that_is_given_replaces_the_whole_one_and_below_config_only_what_is_given() {
    let hub = Hub::start();
    let url = "https://runhound.example.com/";
    let id = hub.hook("acme/web", url, SECRET);
    let asking = Asking::of(&hub);
    let path = format!("{HOOKS}/{id}");
    let events = json!({ "add_events": ["push"], "remove_events": ["workflow_run"], "active": false });
    let changed = asking.ask("PATCH", &path, &events).body;
    assert_eq!((&changed["events"], &changed["active"]), (&json!(["push"]), &json!(false)));
    assert_eq!(changed["config"]["secret"], json!("********"), "what is not given stays");
    let config = asking.ask("PATCH", &format!("{path}/config"), &json!({ "content_type": "form" })).body;
    assert_eq!((&config["content_type"], &config["secret"]), (&json!("form"), &json!("********")));
    assert_eq!(asking.get(&format!("{path}/config")).body, config);
    let replaced = asking.ask("PATCH", &path, &json!({ "config": { "url": url, "content_type": "json" } })).body;
    let bare = json!({ "url": url, "content_type": "json", "insecure_ssl": "0" });
    assert_eq!(replaced["config"], bare);
    assert_eq!(hub.hooks()[0].config.secret, None);
}

#[test]
fn a_deleted_hook_is_gone_and_delivers_nothing() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    let id = hub.hook("acme/web", &receiver.url(), "");
    let asking = Asking::of(&hub);
    assert_eq!(asking.ask("DELETE", &format!("{HOOKS}/{id}"), &Value::Null).status, 204);
    assert_eq!(asking.get(&format!("{HOOKS}/{id}")).status, 404);
    assert!(hub.complete(&run(1)).is_empty());
}

#[test]
fn an_organisations_hook_is_one_of_its_kind() {
    let hub = Hub::start();
    hub.repository("acme/web");
    let asking = Asking::of(&hub);
    let made = asking.ask("POST", "/orgs/acme/hooks", &web("https://runhound.example.com/"));
    assert_eq!((made.status, &made.body["type"]), (201, &json!("Organization")));
    assert!(made.body["test_url"].is_null());
    let path = format!("/orgs/acme/hooks/{}", made.body["id"]);
    assert_eq!(asking.get(&path).body["id"], made.body["id"]);
    assert_eq!(asking.ask("PATCH", &path, &json!({ "active": false })).body["active"], json!(false));
    assert_eq!(asking.ask("POST", &format!("{path}/pings"), &Value::Null).status, 204);
    assert_eq!(asking.get("/orgs/nobody/hooks").status, 404);
    hub.wait_until(State::is_idle, WAIT_MAX);
}

#[test]
fn hooks_are_listed_page_by_page() {
    let hub = Hub::start();
    let ids: Vec<Value> = (0..5)
        .map(|number| json!(hub.hook("acme/web", &format!("https://runhound.example.com/{number}"), "")))
        .collect();
    let asking = Asking::of(&hub);
    let first = asking.get(&format!("{HOOKS}?per_page=3"));
    let second = asking.get(&asking.link(&first, "next").unwrap());
    assert_eq!([fields(&first.body, "id"), fields(&second.body, "id")].concat(), ids);
    assert_eq!(asking.link(&second, "next"), None);
}
