//! What an answer of GitHub's API means: a pure function of status, headers and message.

use std::time::Duration;

/// The longest wait for a limit: the primary one is whole again within the hour.
const WAIT_MAX: Duration = Duration::from_secs(3660);

/// The shortest: an answer that asks for none would otherwise be asked for at full speed.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// How long to wait after a secondary limit that does not say. Source: "Rate limits for the REST API".
const SECONDARY_WAIT: Duration = Duration::from_secs(60);

/// What to do after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx, or 304.
    Done,
    /// Nothing was done, as there were too many requests: again after this time.
    Limited(Duration),
    /// A fault at GitHub, or between us, that may pass.
    Passing,
    /// 401: the token.
    Unauthorized,
    /// 403: its rights.
    Forbidden,
    /// 404 and 410; 404 is also what GitHub says of what a token may not see.
    NotFound,
    /// 3xx: it has another name now.
    Moved,
    /// 422: what was asked for.
    Invalid,
    /// Nobody expects such an answer.
    Unexpected,
}

/// Tells what an answer means. `headers` finds a header's text by its lower-case name; `now` is the second of now.
pub(super) fn verdict<'a>(status: u16, headers: impl Fn(&str) -> Option<&'a str>, message: &str, now: i64) -> Verdict {
    match status {
        200..=299 | 304 => Verdict::Done,
        403 | 429 => match limit(&headers, message, now) {
            Some(wait) => Verdict::Limited(wait.clamp(WAIT_MIN, WAIT_MAX)),
            None if status == 429 => Verdict::Limited(SECONDARY_WAIT),
            None => Verdict::Forbidden,
        },
        401 => Verdict::Unauthorized,
        404 | 410 => Verdict::NotFound,
        301 | 302 | 307 | 308 => Verdict::Moved,
        408 | 500..=599 => Verdict::Passing,
        422 => Verdict::Invalid,
        _ => Verdict::Unexpected,
    }
}

/// How long a limit lasts, if the answer tells of one: `Retry-After` first, then the reset of a limit that is used up.
fn limit<'a>(headers: impl Fn(&str) -> Option<&'a str>, message: &str, now: i64) -> Option<Duration> {
    let number = |name: &str| headers(name).and_then(|text| text.trim().parse::<i64>().ok());
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    if let Some(asked) = number("retry-after") {
        return Some(seconds(asked));
    }
    if number("x-ratelimit-remaining") == Some(0) {
        // A second more, for clocks that are apart.
        return number("x-ratelimit-reset").map(|reset| seconds(reset - now + 1));
    }
    let message = message.to_ascii_lowercase();
    (message.contains("rate limit") || message.contains("abuse")).then_some(SECONDARY_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_796_000_000;

    fn of(status: u16, headers: &[(&str, &'static str)], message: &str) -> Verdict {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        verdict(status, find, message, NOW)
    }

    fn limited(seconds: u64) -> Verdict {
        Verdict::Limited(Duration::from_secs(seconds))
    }

    #[test]
    fn a_status_alone_means_what_githubs_reference_says() {
        for (status, expected) in [
            (200, Verdict::Done),
            (202, Verdict::Done),
            (304, Verdict::Done),
            (401, Verdict::Unauthorized),
            (403, Verdict::Forbidden),
            (404, Verdict::NotFound),
            (422, Verdict::Invalid),
            (500, Verdict::Passing),
            (502, Verdict::Passing),
            (301, Verdict::Moved),
            (307, Verdict::Moved),
            (410, Verdict::NotFound),
            (418, Verdict::Unexpected),
        ] {
            assert_eq!(of(status, &[], ""), expected, "{status}");
        }
    }

    #[test]
    fn a_limit_that_is_used_up_lasts_until_its_reset() {
        for status in [403, 429] {
            let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1796000600")];
            assert_eq!(of(status, &headers, "API rate limit exceeded"), limited(601));
            let past = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795999000")];
            assert_eq!(of(status, &past, ""), limited(1), "never at full speed");
        }
        assert_eq!(
            of(403, &[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "1796000600")], ""),
            Verdict::Forbidden
        );
        assert_eq!(of(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1796000600")], ""), Verdict::Done);
    }

    #[test]
    fn a_secondary_limit_lasts_as_long_as_it_says_or_a_minute() {
        let all = [("retry-after", "17"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1796000600")];
        assert_eq!(of(403, &all, ""), limited(17));
        assert_eq!(of(429, &[("retry-after", "3")], ""), limited(3));
        assert_eq!(of(429, &[("retry-after", "0")], ""), limited(1));
        assert_eq!(of(429, &[("retry-after", "9223372036854775807")], ""), limited(3660));
        assert_eq!(of(403, &[], "You have exceeded a secondary rate limit."), limited(60));
        assert_eq!(of(403, &[], "You have triggered an abuse detection mechanism."), limited(60));
        assert_eq!(of(429, &[], ""), limited(60));
        assert_eq!(of(403, &[], "Resource not accessible by personal access token"), Verdict::Forbidden);
    }
}
