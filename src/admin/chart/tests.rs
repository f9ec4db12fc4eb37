//! The charts at 0, 1 and 96 spans, and with numbers that no day has.

use super::*;

const NOW: i64 = 1_800_000_700;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn now() -> Timestamp {
    at(NOW)
}

/// A span so many quarters of an hour ago.
fn quarter(ago: i64, succeeded: u64, failed: u64, other: u64, duration_ms: u64) -> Span {
    let start = at(NOW - NOW.rem_euclid(SPAN_S) - ago * SPAN_S);
    Span { start, succeeded, failed, other, timed: succeeded + failed + other, duration_ms }
}

fn number(text: &str) -> f64 {
    text.trim_end_matches('%').parse().unwrap()
}

#[track_caller]
fn assert_within(chart: &Chart) {
    let across = |x: f64| assert!((0.0..=100.01).contains(&x), "{x}");
    let down = |y: f64| assert!((0.0..=HEIGHT + 0.11).contains(&y), "{y}");
    for bar in &chart.bars {
        across(number(&bar.x) + number(&bar.width));
        down(number(&bar.y));
        down(number(&bar.y) + number(&bar.height));
        assert!(number(&bar.height) > 0.0);
    }
    for dot in &chart.dots {
        across(number(&dot.x));
        down(number(&dot.y));
    }
    for tick in &chart.times {
        across(number(&tick.at));
    }
    for tick in &chart.levels {
        down(number(&tick.at));
    }
    assert!(chart.levels.len() as u64 <= LINES_MAX + 1);
}

#[test]
fn without_runs_there_is_a_ground_line_and_a_sentence() {
    for chart in [runs(&[], now()), durations(&[], now())] {
        assert_within(&chart);
        assert_eq!(chart.levels, [Tick { at: "112.0".to_owned(), label: "0".to_owned() }]);
        assert!(chart.bars.is_empty() && chart.dots.is_empty() && chart.notes.is_empty());
        assert!(chart.summary.starts_with("No run"), "{}", chart.summary);
        assert_eq!(chart.times.len(), 6);
    }
}

#[test]
fn one_span_is_one_bar_and_one_point() {
    let history = [quarter(0, 1, 0, 0, 90_000)];
    let chart = runs(&history, now());
    assert_within(&chart);
    assert_eq!((chart.bars.len(), chart.bars[0].y.as_str()), (1, "0.0"));
    assert!(number(&chart.bars[0].x) > 98.9, "it is the last one");
    assert_eq!(chart.summary.split('.').next(), Some("1 run in the last 24 hours: 0 failed, 1 succeeded, 0 other"));
    let chart = durations(&history, now());
    assert_within(&chart);
    assert_eq!((chart.dots.len(), chart.lines.len()), (1, 0));
    let labels: Vec<_> = chart.levels.iter().map(|tick| tick.label.as_str()).collect();
    assert_eq!(labels, ["0", "30 s", "1 min", "1 min 30 s"]);
    assert!(chart.notes[0].text.ends_with("1 min 30 s in the mean of 1 run"), "{}", chart.notes[0].text);
}

#[test]
fn a_whole_day_fills_the_plane() {
    let history: Vec<Span> =
        (0..96).rev().map(|ago| quarter(ago, 10, 2, u64::from(ago % 2 == 0), 60_000 * 12)).collect();
    let chart = runs(&history, now());
    assert_within(&chart);
    assert_eq!((chart.bars.len(), chart.notes.len()), (96 * 2 + 48, 96));
    assert!(number(&chart.bars[0].x) < 1.0);
    assert_eq!(
        chart.keys.iter().map(|key| key.text.as_str()).collect::<Vec<_>>(),
        ["192 failed", "960 succeeded", "48 other"]
    );
    let chart = durations(&history, now());
    assert_within(&chart);
    assert_eq!((chart.dots.len(), chart.lines.len()), (96, 95));
}

#[test]
fn a_gap_has_no_line_and_what_lies_outside_the_day_no_bar() {
    let history = [quarter(96, 1, 0, 0, 1), quarter(95, 1, 0, 0, 1), quarter(50, 1, 0, 0, 1), quarter(49, 1, 0, 0, 1)];
    let chart = durations(&history, now());
    assert_eq!((chart.dots.len(), chart.lines.len()), (3, 1));
    assert_eq!(runs(&history, now()).bars.len(), 3);
    assert!(runs(&[quarter(-1, 1, 0, 0, 1)], now()).bars.is_empty(), "of a time to come");
}

#[test]
fn a_single_failure_among_many_runs_can_be_seen_and_no_number_breaks_a_chart() {
    let chart = runs(&[quarter(3, 100_000, 1, 1, 0)], now());
    assert_within(&chart);
    assert_eq!(chart.bars.iter().map(|bar| bar.kind).collect::<Vec<_>>(), ["failed", "succeeded", "other"]);
    assert!(number(&chart.bars[0].height) >= BAR_MIN);
    let huge = quarter(1, u64::MAX - 2, 1, 1, u64::MAX);
    assert_within(&runs(std::slice::from_ref(&huge), now()));
    assert_within(&durations(&[Span { timed: 1, ..huge }], now()));
}

#[test]
fn labels_stand_at_whole_hours() {
    let labels: Vec<_> = runs(&[], now()).times.into_iter().map(|tick| tick.label).collect();
    assert_eq!(labels, ["12:00", "16:00", "20:00", "00:00", "04:00", "08:00"].map(str::to_owned));
}
