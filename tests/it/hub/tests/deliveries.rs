//! That deliveries are really made, once each, and logged as GitHub logs them.

use super::*;
use crate::github;

#[test]
fn a_completed_run_is_delivered_once_signed_and_logged() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    let id = hub.hook("acme/web", &receiver.url(), SECRET);
    let made = hub.complete(&run(1));
    let [request] = receiver.take().try_into().unwrap();
    assert_eq!(request.path, "/webhook");
    assert_eq!(request.header("x-hub-signature-256"), Some(github::sign(SECRET, &request.body).as_str()));
    assert_eq!(request.header("x-github-hook-id"), Some(id.to_string().as_str()));
    assert_eq!(request.header("x-github-event"), Some("workflow_run"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert!(request.header("x-hub-signature").unwrap().starts_with("sha1="));
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap()["workflow_run"]["id"], json!(1));
    assert_eq!(made, hub.deliveries());
    let [delivery] = made.try_into().unwrap();
    assert_eq!((delivery.status.as_str(), delivery.status_code, delivery.redelivery), ("OK", 202, false));
    assert_eq!(request.header("x-github-delivery"), Some(delivery.guid.as_str()));
    assert_eq!(delivery.repository_id, Some(hub.repository("acme/web")));
    let shown = Asking::of(&hub).get(&format!("{HOOKS}/{id}/deliveries/{}", delivery.id)).body;
    assert_eq!(shown["request"]["headers"]["X-GitHub-Delivery"], json!(delivery.guid));
    assert_eq!(shown["request"]["payload"]["workflow_run"]["id"], json!(1));
    assert_eq!(shown["response"]["payload"], json!("heard"));
    assert_eq!((&shown["event"], &shown["action"]), (&json!("workflow_run"), &json!("completed")));
    assert_eq!(Asking::of(&hub).get(&format!("{HOOKS}/{id}")).body["last_response"]["code"], json!(202));
}

#[test]
fn the_first_repositorys_payload_is_the_recorded_one_and_the_second_has_an_id_of_its_own() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hub.hook("acme/web", &receiver.url(), "");
    hub.hook("acme/api", &receiver.url(), "");
    hub.complete(&run(1));
    hub.complete(&run(2).repo("api"));
    let [web, api] = receiver.take().try_into().unwrap();
    assert_eq!(String::from_utf8_lossy(&web.body), run(1).body());
    assert_eq!(web.header("x-hub-signature-256"), None);
    let api: Value = serde_json::from_slice(&api.body).unwrap();
    assert_eq!(api["repository"]["id"], json!(hub.repository("acme/api")));
    assert_ne!(hub.repository("acme/api"), hub.repository("acme/web"));
}

#[test]
fn a_form_has_the_payload_in_its_field_and_is_signed_as_it_is_sent() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    let config = Config {
        url: receiver.url(),
        content_type: "form".to_owned(),
        secret: Some(SECRET.to_owned()),
        insecure_ssl: "0".to_owned(),
    };
    hub.hook_of("acme/web", config, &["*"]);
    hub.complete(&run(1));
    let [request] = receiver.take().try_into().unwrap();
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("x-hub-signature-256"), Some(github::sign(SECRET, &request.body).as_str()));
    let (name, payload) = form_urlencoded::parse(&request.body).next().unwrap();
    assert_eq!((name.as_ref(), payload.as_ref()), ("payload", run(1).body().as_str()));
}

#[test]
fn each_hook_of_repository_and_organisation_that_wants_the_event_delivers_it_and_no_other() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    let web = hub.hook("acme/web", &receiver.url(), "");
    let all = hub.hook("acme", &receiver.url(), "");
    hub.hook("acme/api", &receiver.url(), "");
    hub.hook("other/web", &receiver.url(), "");
    let idle = hub.hook("acme/web", "http://127.0.0.1:9/idle", "");
    Asking::of(&hub).ask("PATCH", &format!("{HOOKS}/{idle}"), &json!({ "active": false }));
    let made = hub.complete(&run(1));
    assert_eq!(made.iter().map(|delivery| delivery.hook_id).collect::<Vec<_>>(), [web, all]);
    assert_eq!(receiver.take().len(), 2);
    assert!(hub.deliver("acme/web", "push", &json!({ "ref": "refs/heads/main" })).is_empty());
    assert_eq!(hub.complete(&run(2).action("requested"))[0].action.as_deref(), Some("requested"));
}

#[test]
fn a_failed_delivery_says_how_it_failed() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hub.set_delivery_timeout(Duration::from_millis(200));
    hub.hook("acme/web", &receiver.url(), SECRET);
    let status = |made: Vec<Delivery>| (made[0].status.clone(), made[0].status_code);
    receiver.answer_by(503);
    assert_eq!(status(hub.complete(&run(1))), ("Invalid HTTP Response: 503".to_owned(), 503));
    receiver.answer_by(0);
    assert_eq!(status(hub.complete(&run(2))), ("failed to connect to host".to_owned(), 0));
    drop(receiver);
    assert_eq!(status(hub.complete(&run(3))), ("failed to connect to host".to_owned(), 0));
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    hub.hook("acme/slow", &format!("http://{}/", silent.local_addr().unwrap()), "");
    assert_eq!(status(hub.complete(&run(4).repo("slow"))), ("timed out".to_owned(), 0));
    assert_eq!(status(hub.complete_unheard(&run(5), 502)), ("Invalid HTTP Response: 502".to_owned(), 502));
    hub.complete_silently(&run(6));
    assert_eq!(hub.deliveries().len(), 5);
}

#[test]
fn a_road_leads_from_a_public_address_to_loopback_and_without_one_nobody_answers() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hub.hook("acme/web", "https://runhound.example.com/webhook", "");
    assert_eq!(hub.complete(&run(1))[0].status_code, 0);
    hub.road("https://runhound.example.com/", receiver.address);
    assert_eq!(hub.complete(&run(2))[0].status, "OK");
    assert_eq!(receiver.take()[0].header("host"), Some("runhound.example.com"));
}

#[test]
fn a_redelivery_is_a_new_entry_with_the_same_guid_and_payload() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    let id = hub.hook("acme/web", &receiver.url(), SECRET);
    receiver.answer_by(500);
    let [failed] = hub.complete(&run(1)).try_into().unwrap();
    receiver.answer_by(202);
    let path = format!("{HOOKS}/{id}/deliveries");
    let asking = Asking::of(&hub);
    let accepted = asking.ask("POST", &format!("{path}/{}/attempts", failed.id), &Value::Null);
    assert_eq!((accepted.status, accepted.body), (202, json!({})));
    hub.wait_until(|state| state.deliveries().len() == 2 && state.is_idle(), WAIT_MAX);
    let [first, second] = receiver.take().try_into().unwrap();
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("x-github-delivery"), second.header("x-github-delivery"));
    let list = asking.get(&path).body;
    assert_eq!(fields(&list, "redelivery"), [json!(true), json!(false)]);
    assert_eq!(fields(&list, "guid"), [json!(failed.guid), json!(failed.guid)]);
    assert_ne!(list[0]["id"], list[1]["id"]);
    assert_eq!(asking.ask("POST", &format!("{path}/1/attempts"), &Value::Null).status, 404);
}

#[test]
fn the_log_is_paged_by_a_cursor_from_the_newest_on() {
    let hub = Hub::start();
    let id = hub.hook("acme/web", "https://runhound.example.com/", "");
    for number in 1..=5 {
        hub.complete_unheard(&run(number), if number % 2 == 0 { 500 } else { 202 });
    }
    let asking = Asking::of(&hub);
    let path = format!("{HOOKS}/{id}/deliveries");
    let mut next = Some(format!("{path}?per_page=2"));
    let (mut seen, mut pages) = (Vec::new(), 0);
    while let Some(page) = next {
        let answer = asking.get(&page);
        next = asking.link(&answer, "next");
        seen.extend(fields(&answer.body, "id"));
        pages += 1;
        // What comes meanwhile is on no later page.
        hub.complete_unheard(&run(100 + pages), 202);
    }
    let newest_first: Vec<Value> = hub.deliveries()[..5].iter().rev().map(|delivery| json!(delivery.id)).collect();
    assert_eq!((seen, pages), (newest_first, 3));
    assert_eq!(asking.get(&format!("{path}?status=failure")).body.as_array().unwrap().len(), 2);
    assert_eq!(asking.get(&format!("{path}?cursor=17")).status, 422);
    let empty = hub.hook("acme/web", "https://runhound.example.com/other", "");
    assert_eq!(asking.get(&format!("{HOOKS}/{empty}/deliveries")).body, json!([]));
}

#[test]
fn what_is_older_than_three_days_is_forgotten() {
    let hub = Hub::start();
    let id = hub.hook("acme/web", "https://runhound.example.com/", "");
    hub.set_clock_offset(-3 * 86_400 - 60);
    let [old] = hub.complete_unheard(&run(1), 500).try_into().unwrap();
    hub.set_clock_offset(-3 * 86_400 + 60);
    let [kept] = hub.complete_unheard(&run(2), 500).try_into().unwrap();
    hub.set_clock_offset(0);
    let asking = Asking::of(&hub);
    let path = format!("{HOOKS}/{id}/deliveries");
    assert_eq!(fields(&asking.get(&path).body, "id"), [json!(kept.id)]);
    assert_eq!(asking.ask("POST", &format!("{path}/{}/attempts", old.id), &Value::Null).status, 404);
}

#[test]
fn an_organisations_deliveries_are_below_it() {
    let (hub, receiver) = (Hub::start(), Receiver::start());
    hub.repository("acme/web");
    let id = hub.hook("acme", &receiver.url(), "");
    let [made] = hub.complete(&run(1)).try_into().unwrap();
    let [request] = receiver.take().try_into().unwrap();
    assert_eq!(request.header("x-github-hook-installation-target-type"), Some("organization"));
    let asking = Asking::of(&hub);
    let path = format!("/orgs/acme/hooks/{id}/deliveries");
    assert_eq!(fields(&asking.get(&path).body, "guid"), [json!(made.guid)]);
    assert_eq!(asking.get(&format!("{path}/{}", made.id)).body["url"], json!(receiver.url()));
    assert_eq!(asking.ask("POST", &format!("{path}/{}/attempts", made.id), &Value::Null).status, 202);
    assert_eq!(asking.get(&format!("{HOOKS}/{id}")).status, 404);
}
