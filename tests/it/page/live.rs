//! The page of the real program, fed with deliveries that are really signed.

use super::{
    LOOKS,
    browser::{Browser, DESK, PHONE},
};
use crate::{
    github::{RunBuilder, workflow_run},
    harness::{SECRET, Service, Start, now},
    intake::Intake,
};
use serde_json::json;
use tempfile::TempDir;

/// Where the run with this ID is.
fn address_of(id: u64) -> String {
    format!("https://github.com/acme-rockets/telemetry/actions/runs/{id}")
}

struct House {
    dir: TempDir,
    intake: Intake,
    service: Service,
}

fn house() -> House {
    let (dir, intake) = (tempfile::tempdir().unwrap(), Intake::start());
    let service = Start::live(&dir.path().join("cache"), &intake).with_admin().start();
    House { dir, intake, service }
}

fn deliver(service: &Service, run: &RunBuilder, guid: &str) {
    let answer = service.post(&run.body(), &[("X-GitHub-Event", "workflow_run"), ("X-GitHub-Delivery", guid)]);
    assert!(answer.status < 300, "{answer:?}");
}

/// Names that want to be more than text.
fn hostile() -> Vec<String> {
    vec![
        "<script>document.title='owned'</script>".to_owned(),
        "\"><img src=x onerror=\"document.title='owned';alert(1)\">".to_owned(),
        "' onmouseover='alert(1)' x='".to_owned(),
        "</td></tr></table></main><h1>owned</h1>".to_owned(),
        "{{ 7 * 7 }} {% raw %} ${7*7} <!-- ".to_owned(),
        "abc \u{202e}gnp.exe\u{2066} \u{200f}".to_owned(),
        "مرحبا بالعالم".to_owned(),
        "one\ntwo\r\nthree\u{0}\u{1b}[31m".to_owned(),
        "W".repeat(10_000),
        "🚀👩‍👩‍👧‍👦🏳️‍🌈".repeat(40),
        "e\u{301}\u{302}\u{303}\u{304}\u{305}".repeat(50),
    ]
}

#[actix_web::test]
async fn before_the_first_delivery_the_page_says_so() {
    let Some(mut browser) = Browser::start().await else { return };
    let house = house();
    let url = house.service.page();
    for look in LOOKS {
        browser.open(&url, look).await;
        browser.assert_sound(&url, look).await;
        assert_eq!(browser.text(".word").await, "OK");
        assert!(browser.text(".deliveries").await.contains("Nothing has been delivered"));
        assert!(browser.text(".glance").await.contains("none yet"));
        assert_eq!(browser.text(".dry-run").await, "", "it is live");
        assert!(browser.text("header").await.contains(&house.intake.url()));
    }
}

#[actix_web::test]
async fn hostile_names_are_text_and_the_last_hundred_deliveries_are_all_there() {
    let Some(mut browser) = Browser::start().await else { return };
    let house = house();
    for id in 1..=100 {
        deliver(&house.service, &workflow_run(id).workflow("CI"), &format!("guid-{id}"));
    }
    for (id, name) in (201..).zip(hostile()) {
        let run = workflow_run(id).workflow(&name).conclusion(Some(&name)).set("/repository/name", json!(name));
        deliver(&house.service, &run, "\"><b>guid</b>");
    }
    let script = "javascript:document.title='owned'";
    deliver(&house.service, &workflow_run(300).set("/workflow_run/html_url", json!(script)), "no-link");
    deliver(&house.service, &workflow_run(301), "guid-301");
    deliver(&house.service, &workflow_run(301), "guid-301");
    deliver(&house.service, &workflow_run(302).action("requested"), "guid-302");
    let url = house.service.page();
    for look in LOOKS {
        browser.open(&url, look).await;
        browser.assert_sound(&url, look).await;
        assert_eq!(browser.number("document.querySelectorAll('tbody tr').length").await, 100);
        let foreign = "document.querySelectorAll('main script, main img, main b b, main h1 ~ h1, main iframe, [onmouseover]').length";
        assert_eq!(browser.number(foreign).await, 0);
        let text = browser.text("tbody").await;
        for shown in [
            "<script>document.title",
            "\"><img src=x",
            "</main><h1>owned</h1>",
            r"\u{202e}gnp.exe\u{2066}",
            r"one\ntwo\r\nthree",
        ] {
            assert!(text.contains(shown), "{shown}");
        }
        // From left to right, whatever the direction of a name.
        let order = "[...document.querySelectorAll('tbody tr')].every((row) => {
            const left = [...row.cells].filter((cell) => cell.offsetParent && cell.offsetHeight).map((cell) => cell.offsetLeft);
            return innerWidth < 600 || left.every((at, index) => !index || at > left[index - 1]);
        })";
        assert_eq!(browser.eval(order).await, true);
        let height = browser
            .number("Math.max(...[...document.querySelectorAll('tbody tr')].map((row) => row.offsetHeight))")
            .await;
        assert!(height < 500, "{look:?}: a row is {height} high");
    }
    let rows = browser.eval("[...document.querySelectorAll('tbody tr')].slice(0, 5).map((row) => {
        const link = row.querySelector('a');
        return [row.className, row.querySelector('.c-outcome').innerText.replace(/\\s+/g, ' ').trim(), link?.href ?? null, link?.rel ?? null];
    })");
    let rel = "noopener noreferrer";
    assert_eq!(
        rows.await,
        json!([
            ["ignored", "ignored action requested", null, null],
            ["duplicate", "duplicate", address_of(301), rel],
            ["accepted", "accepted", address_of(301), rel],
            ["accepted", "accepted", null, null],
            ["accepted", "accepted", address_of(211), rel],
        ])
    );
}

#[actix_web::test]
async fn a_new_delivery_appears_in_the_page_that_is_there_and_moves_nothing() {
    let Some(mut browser) = Browser::start().await else { return };
    let house = house();
    for id in 1..=60 {
        deliver(&house.service, &workflow_run(id).workflow("CI"), &format!("guid-{id}"));
    }
    let url = house.service.page();
    browser.open(&url, DESK).await;
    browser.eval("window.mark = 1; window.row = document.querySelectorAll('tbody tr')[30]; scrollBy(0, row.getBoundingClientRect().top - 300); row.querySelector('a').focus({ preventScroll: true })").await;
    browser.eval("window.place = row.getBoundingClientRect().top").await;
    deliver(&house.service, &workflow_run(61).workflow("Nightly"), "guid-61");
    // By itself, within some seconds.
    browser.wait_until("document.querySelectorAll('tbody tr').length === 61").await;
    assert!(browser.text("tbody tr").await.contains("Nightly"));
    let moved = browser.eval("row.getBoundingClientRect().top - place").await;
    assert!(moved.as_f64().unwrap().abs() < 1.0, "the row that is read has moved by {moved}");
    let kept = browser.eval("[row.isConnected, document.activeElement === row.querySelector('a'), window.mark]").await;
    assert_eq!(kept, json!([true, true, 1]));
    browser.assert_sound(&url, DESK).await;

    // What is selected stays as it is, and the page says why it does not go on.
    let again = "document.dispatchEvent(new Event('visibilitychange'))";
    browser.eval("getSelection().selectAllChildren(row)").await;
    deliver(&house.service, &workflow_run(62), "guid-62");
    browser.eval(again).await;
    browser.wait_until("document.querySelector('#note').innerText.startsWith('Paused at ')").await;
    assert_eq!(browser.number("document.querySelectorAll('tbody tr').length").await, 61);
    browser.eval(&format!("getSelection().removeAllRanges(); {again}")).await;
    browser.wait_until("document.querySelectorAll('tbody tr').length === 62").await;
    assert_eq!(browser.eval("document.querySelector('#note').hidden").await, true);

    // Out of sight, it asks for nothing.
    let hide = |hidden: bool| {
        format!("Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); {again}")
    };
    browser.eval(&hide(true)).await;
    let asked = browser.events("Network.requestWillBeSent").len();
    deliver(&house.service, &workflow_run(63), "guid-63");
    browser.eval(&hide(false)).await;
    browser.wait_until("document.querySelectorAll('tbody tr').length === 63").await;
    assert_eq!(browser.events("Network.requestWillBeSent").len(), asked + 1);
    browser.assert_sound(&url, DESK).await;

    house.service.stop();
    browser.eval(again).await;
    browser.wait_until("document.querySelector('#note').innerText.startsWith('Stale since ')").await;
    assert_eq!(browser.number("window.mark + document.querySelectorAll('tbody tr').length").await, 64);
}

#[actix_web::test]
async fn what_is_the_matter_and_what_to_do_is_in_plain_sight() {
    let Some(mut browser) = Browser::start().await else { return };
    let house = house();
    let url = house.service.page();
    house.intake.set_key("another");
    deliver(&house.service, &workflow_run(1), "guid-1");
    house.service.wait_for_log("403");
    for look in [DESK, PHONE.dark()] {
        browser.open(&url, look).await;
        browser.wait_until("document.querySelector('.word').innerText === 'DEGRADED'").await;
        browser.assert_sound(&url, look).await;
        let state = browser.text(".state").await;
        assert!(state.contains("Datadog answers 403") && state.contains("DD_API_KEY"), "{state}");
        assert!(browser.text(".answers").await.starts_with("403"));
        assert!(browser.text(".glance").await.contains("failing for"));
    }
    let (cache_dir, aside) = (house.dir.path().join("cache"), house.dir.path().join("aside"));
    std::fs::rename(&cache_dir, &aside).unwrap();
    std::fs::write(&cache_dir, "").unwrap();
    assert_eq!(house.service.deliver(&workflow_run(2)).status, 503);
    for look in [DESK, PHONE.dark()] {
        browser.open(&url, look).await;
        browser.assert_sound(&url, look).await;
        assert_eq!(browser.text(".word").await, "NOT READY");
        let state = browser.text(".state").await;
        assert!(state.contains("503") && state.contains("redeliver"), "{state}");
        assert!(state.contains("Datadog answers 403"), "the rest is still told: {state}");
    }
}

#[actix_web::test]
async fn a_dry_run_is_unmistakable() {
    let Some(mut browser) = Browser::start().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).with_admin().start();
    for id in 1..=60 {
        let ended = now() - 10;
        deliver(&service, &workflow_run(id).started_at(ended - 60).updated_at(ended), "guid");
    }
    let url = service.page();
    for look in LOOKS {
        browser.open(&url, look).await;
        browser.assert_sound(&url, look).await;
        assert_eq!(browser.text(".dry-run").await, "DRY RUN - nothing is sent to Datadog");
        browser.eval("scrollTo(0, 1e6)").await;
        let banner = browser.eval("(({ top, left, right }) => [top, left <= 0, right >= innerWidth])(document.querySelector('.dry-run').getBoundingClientRect())");
        assert_eq!(banner.await, json!([0, true, true]), "it stays in sight, from edge to edge");
        assert_eq!(browser.eval("document.title").await, "OK (dry run) - runhound");
    }
}

#[actix_web::test]
async fn the_page_works_without_scripts() {
    let Some(mut browser) = Browser::start().await else { return };
    let house = house();
    for id in 1..=3 {
        deliver(&house.service, &workflow_run(id), "guid");
    }
    let url = house.service.page();
    for look in [DESK.without_scripts(), PHONE.dark().without_scripts()] {
        browser.open(&url, look).await;
        browser.assert_sound(&url, look).await;
        assert_eq!(browser.number("document.querySelectorAll('tbody tr').length").await, 3);
        let planned = browser.event("Page.frameScheduledNavigation").await;
        assert_eq!((planned["delay"].as_f64(), planned["reason"].as_str()), (Some(30.0), Some("metaTagRefresh")));
    }
}

#[actix_web::test]
async fn the_policy_stops_whatever_is_not_ours() {
    let Some(mut browser) = Browser::start().await else { return };
    let house = house();
    browser.open(&house.service.page(), DESK).await;
    browser
        .eval("{
            const script = document.createElement('script');
            script.textContent = 'document.title = \"owned\"';
            document.body.append(script);
            const style = document.createElement('style');
            style.textContent = 'body { display: none }';
            document.body.append(style);
            document.body.insertAdjacentHTML('beforeend', '<img src=/x><iframe src=/></iframe><b onclick=\"document.title=1\" style=\"color:red\">x</b><form action=/><input></form>');
            document.body.lastElementChild.previousElementSibling.click();
            document.forms[0].submit();
        }")
        .await;
    browser.wait_until("new Set(window.stopped.map((stop) => stop.split(' ')[0])).size >= 6").await;
    assert_eq!(browser.eval("document.title").await, "OK - runhound");
    assert_eq!(browser.eval("getComputedStyle(document.body).display").await, "block");
    let mut stopped: Vec<String> =
        serde_json::from_value(browser.eval("[...new Set(window.stopped.map((stop) => stop.split(' ')[0]))]").await)
            .unwrap();
    stopped.sort();
    assert_eq!(
        stopped,
        [
            "form-action",
            "frame-src",
            "img-src",
            "script-src-attr",
            "script-src-elem",
            "style-src-attr",
            "style-src-elem"
        ]
    );
}

#[test]
fn the_page_answers_head_and_no_method_that_changes_anything() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).with_admin().start();
    let policy = runhound::admin::policy();
    for method in ["GET", "HEAD"] {
        let answer = service.request_page(method, "/");
        assert_eq!((answer.status, answer.header("content-security-policy")), (200, Some(policy)), "{method}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = service.request_page(method, "/");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let signed = crate::github::sign(SECRET, b"{}");
    assert_eq!(
        service.request("GET", "/", &[("X-Hub-Signature-256", &signed)], b"").status,
        404,
        "not on the public listener"
    );
}
