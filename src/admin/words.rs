//! Numbers, times and texts as people read them.
//!
//! Invariant: pure, and no text from outside leaves [`Text`] with a character that could turn or break a line, or longer
//! than its bound.

use crate::explain::{cut, escaped};
use jiff::Timestamp;

/// The longest text that is shown, in characters; the rest can be read in its tooltip.
const SHOWN_MAX_CHARS: usize = 100;

/// The longest text in a tooltip, in characters.
const WHOLE_MAX_CHARS: usize = 1000;

/// A text from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// What is shown of it.
    pub(super) shown: String,
    /// All of it, where that is more.
    pub(super) whole: Option<String>,
}

impl Text {
    pub(super) fn new(text: &str) -> Self {
        let safe = escaped(text);
        let shown = cut(&safe, SHOWN_MAX_CHARS);
        if shown.len() == safe.len() {
            return Self { shown: safe.into_owned(), whole: None };
        }
        Self { shown: format!("{}…", shown.trim_end()), whole: Some(cut(&safe, WHOLE_MAX_CHARS).to_owned()) }
    }

    /// Of a text that is there and not empty.
    pub(super) fn of(text: Option<&str>) -> Option<Self> {
        text.filter(|text| !text.is_empty()).map(Self::new)
    }
}

/// A moment, as it stands in the page. All of it is UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Time {
    /// For programs: RFC 3339, to the second.
    pub(super) iso: String,
    /// Day and time, for a tooltip.
    pub(super) full: String,
    /// The time, with the day where that is not today.
    pub(super) clock: String,
    /// How long ago it was.
    pub(super) age: String,
}

impl Time {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let day = |at: Timestamp| at.strftime("%F").to_string();
        let clock = if day(at) == day(now) { "%T" } else { "%-d %b %T" };
        Self {
            iso: at.strftime("%FT%TZ").to_string(),
            full: at.strftime("%F %T UTC").to_string(),
            clock: at.strftime(clock).to_string(),
            age: ago(now.as_second().saturating_sub(at.as_second())),
        }
    }
}

/// How long ago something was, from the seconds since.
pub(super) fn ago(seconds: i64) -> String {
    match seconds {
        // Ours or theirs, a clock may be a little ahead.
        i64::MIN..=0 => "just now".to_owned(),
        1..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..172_800 => "1 day ago".to_owned(),
        _ => format!("{} days ago", grouped((seconds / 86_400).unsigned_abs())),
    }
}

/// How long something takes, by its two largest units.
pub(super) fn span(seconds: u64) -> String {
    let two = |large: u64, unit: &str, small: u64, lesser: &str| {
        if small == 0 {
            format!("{} {unit}", grouped(large))
        } else {
            format!("{} {unit} {small} {lesser}", grouped(large))
        }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// How long something takes, from milliseconds.
pub(super) fn span_ms(milliseconds: u64) -> String {
    if milliseconds < 1000 { format!("{milliseconds} ms") } else { span(milliseconds / 1000) }
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many of something: `1 run`, `2 runs`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A size in bytes.
pub(super) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    let unit = units.get(unit).unwrap_or(&"EiB");
    if tenths < 100 { format!("{}.{} {unit}", tenths / 10, tenths % 10) } else { format!("{} {unit}", tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_keeps_its_line_and_has_a_bound() {
        let text = Text::new("a\nb\u{202e}c");
        assert_eq!((text.shown.as_str(), text.whole), (r"a\nb\u{202e}c", None));
        let long = Text::new(&"x".repeat(10_000));
        assert_eq!(long.shown.chars().count(), SHOWN_MAX_CHARS + 1);
        assert_eq!(long.whole.unwrap().len(), WHOLE_MAX_CHARS);
        let turned = Text::new(&"\u{202e}".repeat(200));
        assert!(turned.shown.is_ascii() || turned.shown.ends_with('…'));
        assert!(turned.shown.chars().count() <= SHOWN_MAX_CHARS + 1);
        assert_eq!((Text::of(Some("")), Text::of(None)), (None, None));
    }

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        for (seconds, told) in [
            (-5, "just now"),
            (0, "just now"),
            (1, "1 s ago"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (3599, "59 min ago"),
            (3600, "1 h ago"),
            (86_399, "23 h ago"),
            (86_400, "1 day ago"),
            (172_800, "2 days ago"),
            (i64::MAX, "106,751,991,167,300 days ago"),
        ] {
            assert_eq!(ago(seconds), told, "{seconds}");
        }
    }

    #[test]
    fn a_duration_is_told_in_its_two_largest_units() {
        for (milliseconds, told) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (272_000, "4 min 32 s"),
            (3_600_000, "1 h"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
            (u64::MAX, "213,503,982,334 d 14 h"),
        ] {
            assert_eq!(span_ms(milliseconds), told, "{milliseconds}");
        }
    }

    #[test]
    fn numbers_and_sizes_can_be_read_at_a_glance() {
        for (number, told) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), told);
        }
        assert_eq!((count(1, "run").as_str(), count(2000, "run").as_str()), ("1 run", "2,000 runs"));
        for (bytes, told) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10_240, "10 KiB"),
            (1_048_575, "1023 KiB"),
            (8 << 20, "8.0 MiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(size(bytes), told, "{bytes}");
        }
    }

    #[test]
    fn a_time_names_its_day_where_that_is_not_today() {
        let now: Timestamp = "2026-03-02T00:00:04.9Z".parse().unwrap();
        let today = Time::new("2026-03-02T00:00:01.2Z".parse().unwrap(), now);
        assert_eq!((today.clock.as_str(), today.age.as_str()), ("00:00:01", "3 s ago"));
        assert_eq!((today.iso.as_str(), today.full.as_str()), ("2026-03-02T00:00:01Z", "2026-03-02 00:00:01 UTC"));
        let before = Time::new("2026-03-01T23:59:04Z".parse().unwrap(), now);
        assert_eq!((before.clock.as_str(), before.age.as_str()), ("1 Mar 23:59:04", "1 min ago"));
    }
}
