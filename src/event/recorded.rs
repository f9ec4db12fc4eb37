//! Deliveries as files hold them: the shape of GitHub's deliveries API, `request.headers` and `request.payload`.
//!
//! `replay` reads it, and what is set aside for people is written in it, so that it can be replayed.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap};

/// A delivery from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// `X-GitHub-Event`, where recorded.
    pub event: Option<String>,
    /// `X-GitHub-Delivery`, where recorded.
    pub guid: Option<String>,
    /// Whether it came form-encoded.
    pub is_form: bool,
    /// The JSON payload, as it stands in the file.
    pub payload: String,
}

#[derive(Deserialize)]
struct Recording<'a> {
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    headers: Option<BTreeMap<String, Value>>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Recorded {
    /// Reads a recorded delivery, or a bare payload.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        let whole: &RawValue = serde_json::from_str(text)?;
        let Ok(Recording { request: Some(request) }) = serde_json::from_str(text) else {
            return Ok(Self { event: None, guid: None, is_form: false, payload: whole.get().to_owned() });
        };
        let header = |name: &str| {
            let mut headers = request.headers.iter().flatten();
            headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
        };
        Ok(Self {
            event: header("x-github-event").map(str::to_owned),
            guid: header("x-github-delivery").map(str::to_owned),
            is_form: header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")),
            payload: request.payload.get().to_owned(),
        })
    }

    /// The body to send.
    #[must_use]
    pub fn body(&self) -> Cow<'_, str> {
        if self.is_form {
            let mut form = form_urlencoded::Serializer::new(String::new());
            Cow::Owned(form.append_pair("payload", &self.payload).finish())
        } else {
            Cow::Borrowed(&self.payload)
        }
    }

    /// The content type of the body.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        if self.is_form { "application/x-www-form-urlencoded" } else { "application/json" }
    }
}

#[derive(Serialize)]
struct Misunderstood<'a> {
    time: String,
    reason: &'a str,
    request: MisunderstoodRequest<'a>,
}

#[derive(Serialize)]
struct MisunderstoodRequest<'a> {
    headers: BTreeMap<&'static str, &'a str>,
    payload: Box<RawValue>,
}

/// A line about a signed delivery that could not be understood.
///
/// # Errors
/// `payload` is not JSON.
pub fn misunderstood(
    time: i64,
    event: Option<&str>,
    guid: Option<&str>,
    reason: &str,
    payload: &str,
) -> Result<String, serde_json::Error> {
    let headers = [("X-GitHub-Event", event), ("X-GitHub-Delivery", guid)];
    // A line feed in JSON stands between tokens only, and a line must not have one.
    let one_line = payload.trim().replace(['\n', '\r'], " ");
    serde_json::to_string(&Misunderstood {
        time: jiff::Timestamp::from_second(time).unwrap_or_default().to_string(),
        reason,
        request: MisunderstoodRequest {
            headers: headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            payload: RawValue::from_string(one_line)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::any;
    use proptest::prelude::*;
    use serde_json::json;

    const PAYLOAD: &str =
        r#"{"action": "completed", "workflow_run": {"id": 18446744073709551615, "f": 1.10, "x": "a&b=c%+ é"}}"#;

    fn recording(headers: &str) -> Recorded {
        let text = format!(r#"{{"id": 1, "event": "x", "request": {{"headers": {headers}, "payload": {PAYLOAD}}}}}"#);
        Recorded::read(&text).unwrap()
    }

    #[test]
    fn a_bare_payload_is_sent_as_it_stands_and_names_no_event() {
        for text in [PAYLOAD, "[]", "1", "null", r#"{"request": 1}"#, r#"{"request": {"no": "payload"}}"#] {
            let recorded = Recorded::read(&format!("\n {text} \n")).unwrap();
            let expected = Recorded { event: None, guid: None, is_form: false, payload: text.to_owned() };
            assert_eq!(recorded, expected);
            assert_eq!((recorded.body().as_ref(), recorded.content_type()), (text, "application/json"));
        }
    }

    #[test]
    fn a_text_that_is_not_json_is_refused() {
        for text in ["", "payload=1", "{", "{} {}"] {
            assert!(Recorded::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_headers_of_a_recorded_delivery_are_known_in_any_case() {
        for headers in [
            r#"{"Accept": "*/*", "X-GitHub-Event": "ping", "X-GitHub-Delivery": "72d3", "content-type": "application/json"}"#,
            r#"{"x-github-event": "ping", "x-github-delivery": "72d3"}"#,
            r#"{"X-GITHUB-EVENT": "ping", "X-GITHUB-DELIVERY": "72d3", "X-GitHub-Hook-ID": 12, "Via": null}"#,
        ] {
            let recorded = recording(headers);
            assert_eq!(recorded.event.as_deref(), Some("ping"), "{headers}");
            assert_eq!(recorded.guid.as_deref(), Some("72d3"), "{headers}");
            assert!(!recorded.is_form);
            assert_eq!(recorded.body(), PAYLOAD, "{headers}");
        }
    }

    #[test]
    fn a_recorded_delivery_may_have_no_headers() {
        let bare = Recorded { event: None, guid: None, is_form: false, payload: PAYLOAD.to_owned() };
        assert_eq!(recording("{}"), bare);
        assert_eq!(recording("null"), bare);
        let without = format!(r#"{{"request": {{"payload": {PAYLOAD}}}}}"#);
        assert_eq!(Recorded::read(&without).unwrap(), bare);
    }

    #[test]
    fn a_form_decodes_to_the_same_payload() {
        let recorded = recording(r#"{"CONTENT-TYPE": "application/x-www-form-urlencoded; charset=utf-8"}"#);
        assert!(recorded.is_form);
        assert_eq!(recorded.content_type(), "application/x-www-form-urlencoded");
        let body = recorded.body();
        assert!(body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=%+*-._".contains(&byte)), "{body}");
        let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(body.as_bytes()).collect();
        assert_eq!(pairs, [(Cow::Borrowed("payload"), Cow::Borrowed(PAYLOAD))]);
    }

    #[test]
    fn what_was_not_understood_is_one_line_that_reads_back() {
        let pretty = "\n{\r\n  \"id\": 18446744073709551615,\r  \"n\": 1.10,\n\t\"text\": \"a\\nb \u{2028}\"\n}\r\n";
        let line = misunderstood(1_772_471_647, Some("workflow_run"), Some("72d3"), "no action", pretty).unwrap();
        assert!(!line.contains(['\n', '\r']), "{line}");
        let recorded = Recorded::read(&line).unwrap();
        assert_eq!(recorded.event.as_deref(), Some("workflow_run"));
        assert_eq!(recorded.guid.as_deref(), Some("72d3"));
        assert!(recorded.payload.contains(r#""id": 18446744073709551615,"#) && recorded.payload.contains("1.10"));
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(json(&recorded.payload), json(pretty));
        let told = json(&line);
        assert_eq!((&told["time"], &told["reason"]), (&json!("2026-03-02T17:14:07Z"), &json!("no action")));
    }

    #[test]
    fn what_was_not_understood_names_no_header_that_it_did_not_have() {
        let recorded = Recorded::read(&misunderstood(0, None, None, "odd", "[1]").unwrap()).unwrap();
        assert_eq!(recorded, Recorded { event: None, guid: None, is_form: false, payload: "[1]".to_owned() });
        assert!(misunderstood(0, None, None, "odd", "{").is_err());
    }

    proptest! {
        #[test]
        fn any_payload_set_aside_is_one_line_that_reads_back(text in any::text(), pretty: bool) {
            let value = json!({"text": text, "list": [text, 18_446_744_073_709_551_615_u64]});
            let payload = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let line = misunderstood(0, Some(&text), Some(&text), &text, &payload).unwrap();
            prop_assert!(!line.contains(['\n', '\r']));
            let recorded = Recorded::read(&line).unwrap();
            prop_assert_eq!(recorded.event.as_ref(), Some(&text));
            prop_assert_eq!(serde_json::from_str::<Value>(&recorded.payload).unwrap(), value);
        }
    }
}
