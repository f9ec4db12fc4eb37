//! The page as text: what stands in it, and what cannot.

use super::*;
use crate::admin::{FileSize, Reason, Trouble, facts::tests::facts as at_the_start};
use crate::vitals::Outcome;
use jiff::Timestamp;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-02T14:03:22.7Z")
}

/// A live service that was started some minutes ago.
fn facts() -> Facts {
    let started_at = at("2026-03-02T14:00:00Z");
    Facts { version: "1.2.3", now: now(), started_at, ..at_the_start() }
}

fn delivered() -> Delivered {
    Delivered {
        outcome: Outcome::Accepted,
        guid: Some("guid-1".to_owned()),
        repository: Some("octo/hello".to_owned()),
        workflow: Some("CI".to_owned()),
        conclusion: Some("success".to_owned()),
        duration_ms: Some(272_000),
        run: Some("30433642".to_owned()),
        url: Some("https://github.com/octo/hello/actions/runs/30433642".to_owned()),
        ..Delivered::at(at("2026-03-02T14:00:10Z"))
    }
}

fn answered(text: &str) -> Answered {
    Answered {
        at: at("2026-03-02T14:03:00Z"),
        request: "series",
        verdict: "denied",
        status: Some(403),
        text: text.to_owned(),
        runs: 3,
        points: 12,
        took_ms: 80,
    }
}

/// The page, between one tag and the next.
fn page(facts: &Facts) -> String {
    html(facts).unwrap()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end} after {start}")).0
}

#[test]
fn every_text_from_outside_is_text() {
    const HOSTILE: &str = "<x onload='a'\"&>\u{202e}\n</main>";
    let text = || HOSTILE.to_owned();
    let with = |delivered: Delivered| Facts { recent: vec![delivered], ..facts() };
    let trouble = Trouble { reason: Reason::NotRecorded, what: text(), hint: Reason::NotRecorded.hint() };
    let cases = [
        ("target", Facts { target: Some(text()), ..facts() }),
        ("unready_reason", Facts { ready: false, unready_reason: Some(text()), ..facts() }),
        ("troubles", Facts { degraded: true, troubles: vec![trouble], ..facts() }),
        ("files", Facts { files: vec![FileSize { kind: "cache", path: text(), bytes: 1 }], ..facts() }),
        ("answers", Facts { answers: vec![answered(HOSTILE)], ..facts() }),
        ("guid", with(Delivered { guid: Some(text()), ..delivered() })),
        ("run", with(Delivered { guid: None, run: Some(text()), ..delivered() })),
        ("reason", with(Delivered { reason: Some(text()), ..delivered() })),
        ("repository", with(Delivered { repository: Some(text()), ..delivered() })),
        ("workflow", with(Delivered { workflow: Some(text()), ..delivered() })),
        ("conclusion", with(Delivered { conclusion: Some(text()), ..delivered() })),
        ("url", with(Delivered { url: Some(format!("https://x/{HOSTILE}")), ..delivered() })),
    ];
    for (name, facts) in cases {
        let page = page(&facts);
        assert!(page.contains("onload="), "{name} is not shown");
        assert!(!page.contains("<x") && !page.contains("'a'\""), "{name}");
        assert_eq!(page.matches("</main>").count(), 1, "{name}");
        let is_turned = page.contains('\u{202e}');
        assert!(!is_turned || name == "url", "{name}: an address stays what it is, and is not shown");
    }
}

#[test]
fn a_long_text_is_cut_and_its_tooltip_too() {
    let workflow = Some("W".repeat(10_000));
    let page = page(&Facts { recent: vec![Delivered { workflow, ..delivered() }], ..facts() });
    let cell = between(&page, "<td class=\"c-workflow\">", "</td>");
    assert!(cell.len() < 1200 && cell.contains("W…</bdi>"), "{}", cell.len());
}

#[test]
fn only_addresses_of_the_web_are_links() {
    for (url, is_link) in [
        ("https://github.com/o/r/actions/runs/1", true),
        ("http://ghe.local/o/r/actions/runs/1", true),
        ("javascript:alert(1)", false),
        ("data:text/html,x", false),
        ("//evil.example", false),
    ] {
        let page = page(&Facts { recent: vec![Delivered { url: Some(url.to_owned()), ..delivered() }], ..facts() });
        let cell = between(&page, "<td class=\"c-delivery\">", "</td>");
        assert_eq!(cell.contains("<a href="), is_link, "{url}");
        assert_eq!(cell.contains("rel=\"noopener noreferrer\""), is_link);
        assert!(cell.contains("guid-1"));
    }
}

#[test]
fn the_policy_allows_the_style_and_the_script_that_are_served_and_nothing_else() {
    let page = page(&Facts { recent: vec![delivered()], answers: vec![answered("no")], ..facts() });
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let style = format!("style-src 'sha256-{}'", hash(between(&page, "<style>", "</style>")));
    let script = format!("script-src 'sha256-{}'", hash(between(&page, "<script>", "</script>")));
    let directives: Vec<&str> = policy().split("; ").collect();
    assert_eq!(
        directives,
        [
            "default-src 'none'",
            style.as_str(),
            script.as_str(),
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'"
        ]
    );
    assert_eq!((page.matches("<style").count(), page.matches("<script").count()), (1, 1));
    for never in [" style=", " onclick=", "@import", "url(", "src="] {
        assert!(!page.contains(never), "{never}");
    }
}

#[test]
fn before_the_first_delivery_there_is_no_table_and_nothing_is_made_up() {
    let page = page(&facts());
    assert!(!page.contains("<table") && page.contains("Nothing has been delivered since the start."));
    assert_eq!(page.matches("none yet").count(), 3);
    assert!(page.contains("nothing waits") && page.contains("up 3 min 22 s") && page.contains("1.2.3"));
    assert!(page.contains("<title>OK - runhound</title>"));
    assert!(!page.contains("DRY RUN"));
}

#[test]
fn a_dry_run_says_so_first() {
    let page = page(&Facts { target: None, mode: "dry_run", ..facts() });
    let main = between(&page, "<main", "<header>");
    assert!(main.contains("<strong>DRY RUN</strong> - nothing is sent to Datadog"), "{main}");
    assert!(page.contains("a dry run sends nothing") && page.contains("<title>OK (dry run) - runhound</title>"));
    assert!(!page.contains("Datadog's last answers"));
}

#[test]
fn each_state_has_its_word_and_says_what_to_do() {
    let trouble = Trouble { reason: Reason::DatadogRefuses, what: "it says 403".to_owned(), hint: "Run `it` now." };
    let degraded =
        Facts { degraded: true, troubles: vec![trouble], failing_since: Some(facts().started_at), ..facts() };
    let text = page(&degraded);
    assert!(text.contains(">DEGRADED</p>") && text.contains("it says 403") && text.contains("failing for 3 min 22 s"));
    assert!(text.contains("Run <code>it</code> now."));
    let unready = Facts {
        ready: false,
        unready_reason: Some("the disk is full".to_owned()),
        unready_hint: Some("Make room."),
        pending: None,
        series: None,
        ..degraded
    };
    let text = page(&unready);
    assert!(text.contains(">NOT READY</p>") && text.contains("the disk is full") && text.contains("Make room."));
    assert!(text.contains("it says 403"), "what else is the matter is told too");
    assert_eq!(text.matches(">unknown<").count(), 2);
}

#[test]
fn a_row_tells_all_of_its_delivery() {
    let page = page(&Facts { recent: vec![delivered()], last_delivery_at: Some(delivered().at), ..facts() });
    let row = between(&page, "<tbody>", "</tbody>");
    for told in
        ["14:00:10", "3 min ago", "datetime=\"2026-03-02T14:00:10Z\"", "accepted", "octo/", "hello", "CI", "4 min 32 s"]
    {
        assert!(row.contains(told), "{told}: {row}");
    }
    assert_eq!(page.matches("<tr data-key=").count(), 1);
}
