//! What an answer of the intake means: a pure function of status, headers and body.

use crate::outgoing::http_date;
use serde_json::Value;
use std::time::Duration;

/// The longest wait that an answer's headers can ask for.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(300);

/// What to do after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx, empty or JSON without errors: Datadog has it.
    Taken,
    /// Try again. `surely_failed` tells that nothing of it can have been taken.
    Retry {
        /// What `Retry-After` or `X-RateLimit-Reset` asked for, within bounds.
        after: Option<Duration>,
        /// Whether this try surely failed.
        surely_failed: bool,
        /// Whether nobody expects such an answer.
        is_unexpected: bool,
    },
    /// 401 and 403: the key, which can be mended.
    Denied,
    /// 400: something in it, or a passing fault.
    Refused,
    /// 413.
    TooLarge,
}

impl Verdict {
    /// The words for all of them.
    pub const NAMES: [&'static str; 6] = ["taken", "retry", "unexpected", "denied", "refused", "too_large"];

    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Retry { is_unexpected: false, .. } => "retry",
            Self::Retry { is_unexpected: true, .. } => "unexpected",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
        }
    }
}

/// Tells what an answer means. `headers` finds a header's text by its lower-case name; `now` is the second of the
/// answer, for a `Retry-After` that is a date.
#[must_use]
pub fn verdict<'a>(status: u16, headers: impl Fn(&str) -> Option<&'a str>, body: &[u8], now: i64) -> Verdict {
    let retry = |surely_failed, is_unexpected| Verdict::Retry {
        after: asked_wait(&headers, now),
        surely_failed,
        is_unexpected,
    };
    match status {
        200..=299 if is_free_of_errors(body) => Verdict::Taken,
        400 => Verdict::Refused,
        401 | 403 => Verdict::Denied,
        413 => Verdict::TooLarge,
        429 => retry(true, false),
        408 | 500..=599 => retry(false, false),
        _ => retry(false, true),
    }
}

/// What a 2xx means that is not all here, or not as it should be: Datadog may have taken it, and nothing says that it has.
pub(super) fn unexpected<'a>(headers: impl Fn(&str) -> Option<&'a str>, now: i64) -> Verdict {
    Verdict::Retry { after: asked_wait(headers, now), surely_failed: false, is_unexpected: true }
}

/// Whether an answer to the question about the key says that it is valid. A 2xx alone does not: a sign-in page has one, and so
/// has whatever answers every path. Source: Datadog's API reference, "Validate API key".
pub(super) fn says_valid(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|answer| answer.get("valid") == Some(&Value::Bool(true)))
}

/// Empty, or JSON in which `errors` is missing or empty.
fn is_free_of_errors(body: &[u8]) -> bool {
    if body.trim_ascii().is_empty() {
        return true;
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(answer) => match answer.get("errors") {
            None | Some(Value::Null) => true,
            Some(Value::Array(errors)) => errors.is_empty(),
            Some(_) => false,
        },
        Err(_) => false,
    }
}

/// Source: RFC 9110, 10.2.3 (seconds, or a date), and Datadog's "Rate limits" (`X-RateLimit-Reset`, seconds).
fn asked_wait<'a>(headers: impl Fn(&str) -> Option<&'a str>, now: i64) -> Option<Duration> {
    let seconds = |text: &str| text.trim().parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    #[expect(clippy::cast_precision_loss, reason = "a wait is cut at 300 s")]
    let until = |text: &str| http_date(text).map(|date| (date - now).max(0) as f64);
    let retry_after = headers("retry-after").and_then(|text| seconds(text).or_else(|| until(text)));
    let reset = headers("x-ratelimit-reset").and_then(seconds);
    let longest = retry_after.into_iter().chain(reset).reduce(f64::max)?;
    Some(Duration::from_secs_f64(longest.min(ASKED_WAIT_MAX.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_796_000_000;

    fn of(status: u16, headers: &[(&str, &'static str)], body: &str) -> Verdict {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        verdict(status, find, body.as_bytes(), NOW)
    }

    fn retry(after: Option<u64>, surely_failed: bool, is_unexpected: bool) -> Verdict {
        Verdict::Retry { after: after.map(Duration::from_secs), surely_failed, is_unexpected }
    }

    #[test]
    fn a_2xx_is_taken_where_it_is_empty_or_json_without_errors() {
        for body in ["", " \n", "{}", r#"{"errors":[]}"#, r#"{"errors":null}"#, r#"{"status":"ok"}"#] {
            assert_eq!(of(202, &[], body), Verdict::Taken, "{body}");
        }
        for body in [r#"{"errors":["no"]}"#, r#"{"errors":"no"}"#, "<html>sign in</html>", "ok", "{"] {
            assert_eq!(of(200, &[], body), retry(None, false, true), "{body}");
        }
    }

    #[test]
    fn a_key_is_valid_where_an_answer_says_so() {
        assert!(says_valid(b" {\n \"valid\": true,\n \"more\": 1\n}"));
        for body in ["", "{}", r#"{"valid":false}"#, r#"{"valid":"true"}"#, r#"{"errors":[]}"#, "true", "<html>", "[]"]
        {
            assert!(!says_valid(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn a_4xx_says_whose_fault_it_is() {
        assert_eq!(of(400, &[], ""), Verdict::Refused);
        assert_eq!(of(401, &[], ""), Verdict::Denied);
        assert_eq!(of(403, &[], "<html>"), Verdict::Denied);
        assert_eq!(of(413, &[], ""), Verdict::TooLarge);
    }

    #[test]
    fn a_passing_fault_is_tried_again() {
        assert_eq!(of(429, &[], ""), retry(None, true, false));
        for status in [408, 500, 502, 503, 504, 599] {
            assert_eq!(of(status, &[], ""), retry(None, false, false), "{status}");
        }
    }

    #[test]
    fn anything_else_is_tried_again_as_unexpected() {
        for status in [100, 301, 302, 307, 404, 405, 418, 600] {
            assert_eq!(of(status, &[], ""), retry(None, false, true), "{status}");
        }
    }

    #[test]
    fn a_wait_that_was_asked_for_is_honoured_up_to_300_seconds() {
        let after = |headers: &[(&str, &'static str)]| match of(429, headers, "") {
            Verdict::Retry { after, .. } => after.map(|after| after.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(after(&[("retry-after", "7")]), Some(7));
        assert_eq!(after(&[("x-ratelimit-reset", "42")]), Some(42));
        assert_eq!(after(&[("retry-after", "7"), ("x-ratelimit-reset", "42")]), Some(42));
        assert_eq!(after(&[("retry-after", "86400")]), Some(300));
        assert_eq!(after(&[("retry-after", "soon")]), None);
        assert_eq!(after(&[("retry-after", "-5")]), None);
        assert_eq!(after(&[("retry-after", "inf")]), Some(300));
        assert_eq!(http_date("Mon, 30 Nov 2026 00:13:50 GMT"), Some(1_795_997_630));
        assert_eq!(after(&[("retry-after", "Mon, 30 Nov 2026 00:54:00 GMT")]), Some(40));
        assert_eq!(after(&[("retry-after", "Mon, 30 Nov 2020 00:54:00 GMT")]), Some(0));
    }
}
