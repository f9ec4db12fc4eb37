//! Charts of the last day, as shapes on a plane: across in percent, so that a chart fits any width, and down in pixels.
//!
//! Invariant: pure, and whatever the numbers are, every shape lies within the plane.

use super::words::{count, grouped, span, span_ms};
use crate::vitals::{SPAN_S, SPANS, Span};
use jiff::Timestamp;

/// How high the plane is, in pixels.
pub(super) const HEIGHT: f64 = 112.0;

/// The lowest bar, in pixels: one failure among a thousand runs can be seen.
const BAR_MIN: f64 = 2.0;

/// How much of its span a bar covers.
const BAR_WIDTH: f64 = 0.76;

/// The most lines across, above the one at zero.
const LINES_MAX: u64 = 3;

/// The time between two labels at the foot, in seconds.
const LABEL_EVERY_S: i64 = 4 * 3600;

/// A label, and where on its axis it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) at: String,
    pub(super) label: String,
}

/// A bar, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) kind: &'static str,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
}

/// A line from one point to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) x1: String,
    pub(super) y1: String,
    pub(super) x2: String,
    pub(super) y2: String,
}

/// A point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dot {
    pub(super) x: String,
    pub(super) y: String,
}

/// What is told of one span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) text: String,
}

/// An entry of the legend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// A chart.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    /// Its name in the page.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// All that it tells, in words.
    pub(super) summary: String,
    pub(super) keys: Vec<Key>,
    /// Lines across: how far down, and what they stand for.
    pub(super) levels: Vec<Tick>,
    /// Times, at the foot.
    pub(super) times: Vec<Tick>,
    pub(super) bars: Vec<Bar>,
    pub(super) lines: Vec<Line>,
    pub(super) dots: Vec<Dot>,
    pub(super) notes: Vec<Note>,
}

/// A kind of run, and how many of them a span has.
type Kind = (&'static str, fn(&Span) -> u64);

/// Runs a quarter of an hour: those that failed at the foot, where they can be compared, then those that succeeded.
pub(super) fn runs(history: &[Span], now: Timestamp) -> Chart {
    let window = Window::of(now);
    let spans = window.within(history);
    let total = |of: fn(&Span) -> u64| spans.iter().map(|(_, span)| of(span)).sum::<u64>();
    let kinds: [Kind; 3] =
        [("failed", |span| span.failed), ("succeeded", |span| span.succeeded), ("other", |span| span.other)];
    let scale = Scale::of(spans.iter().map(|(_, span)| span.runs()).max().unwrap_or(0), decades(), grouped);
    let mut bars = Vec::new();
    let mut notes = Vec::new();
    for (index, span) in &spans {
        let mut foot = HEIGHT;
        for (kind, of) in kinds {
            let height = match of(span) {
                0 => continue,
                runs => scale.height(real(runs)).max(BAR_MIN).min(foot),
            };
            foot -= height;
            bars.push(Bar {
                kind,
                x: percent(Window::x(*index) + Window::width() * (1.0 - BAR_WIDTH) / 2.0),
                y: pixels(foot),
                width: percent(Window::width() * BAR_WIDTH),
                height: pixels(height),
            });
        }
        let parts =
            kinds.iter().filter(|(_, of)| of(span) > 0).map(|(kind, of)| format!("{} {kind}", grouped(of(span))));
        let parts = parts.collect::<Vec<_>>().join(", ");
        notes.push(window.note(*index, &format!("{}: {parts}", count(span.runs(), "run"))));
    }
    let keys = kinds.map(|(kind, of)| Key { kind, text: format!("{} {kind}", grouped(total(of))) });
    let all = count(total(Span::runs), "run");
    let summary = match spans.iter().max_by_key(|(_, span)| span.runs()) {
        None => "No run was accepted in the last 24 hours.".to_owned(),
        Some((index, busiest)) => format!(
            "{all} in the last 24 hours: {}. The most in a quarter of an hour: {}, from {} UTC.",
            keys.clone().map(|key| key.text).join(", "),
            grouped(busiest.runs()),
            window.clock(*index)
        ),
    };
    Chart {
        id: "chart-runs",
        title: "Runs per quarter of an hour",
        summary,
        keys: keys.into(),
        levels: scale.levels(),
        times: window.times(),
        bars,
        lines: Vec::new(),
        dots: Vec::new(),
        notes,
    }
}

/// The mean duration of the runs of each quarter of an hour.
pub(super) fn durations(history: &[Span], now: Timestamp) -> Chart {
    let window = Window::of(now);
    let spans: Vec<_> = window.within(history).into_iter().filter(|(_, span)| span.timed > 0).collect();
    let mean_ms = |span: &Span| span.duration_ms / span.timed.max(1);
    let longest = spans.iter().map(|(index, span)| (mean_ms(span), *index)).max();
    let scale = Scale::of(longest.map_or(0, |(ms, _)| ms.div_ceil(1000)), durations_of_people(), span);
    let point = |(index, span): &(usize, &Span)| Dot {
        x: percent(Window::x(*index) + Window::width() / 2.0),
        y: pixels(HEIGHT - scale.height(real(mean_ms(span)) / 1000.0)),
    };
    let dots: Vec<Dot> = spans.iter().map(point).collect();
    let pairs = spans.iter().zip(&dots).zip(spans.iter().zip(&dots).skip(1));
    // Where there is nothing between two points, no line tells of it.
    let lines = pairs.filter(|((from, _), (to, _))| from.0 + 1 == to.0).map(|((_, from), (_, to))| Line {
        x1: from.x.clone(),
        y1: from.y.clone(),
        x2: to.x.clone(),
        y2: to.y.clone(),
    });
    let lines = lines.collect();
    let notes = spans.iter().map(|(index, span)| {
        window.note(*index, &format!("{} in the mean of {}", span_ms(mean_ms(span)), count(span.timed, "run")))
    });
    let notes = notes.collect();
    let timed: u64 = spans.iter().map(|(_, span)| span.timed).sum();
    let sum = spans.iter().fold(0_u64, |sum, (_, span)| sum.saturating_add(span.duration_ms));
    let (keys, summary) = match longest {
        None => (Vec::new(), "No run with a duration was accepted in the last 24 hours.".to_owned()),
        Some((ms, index)) => {
            let mean = span_ms(sum / timed.max(1));
            let key = Key { kind: "mean", text: format!("{mean} over all") };
            let highest =
                format!("The longest of a quarter of an hour: {}, from {} UTC.", span_ms(ms), window.clock(index));
            (vec![key], format!("{mean} in the mean of {} of the last 24 hours. {highest}", count(timed, "run")))
        }
    };
    Chart {
        id: "chart-durations",
        title: "Mean duration",
        summary,
        keys,
        levels: scale.levels(),
        times: window.times(),
        bars: Vec::new(),
        lines,
        dots,
        notes,
    }
}

/// The day that is shown: whole spans, the last of which is under way.
#[derive(Debug, Clone, Copy)]
struct Window {
    first: i64,
}

impl Window {
    fn of(now: Timestamp) -> Self {
        let last = now.as_second() - now.as_second().rem_euclid(SPAN_S);
        Self { first: last - (spans() - 1) * SPAN_S }
    }

    /// The spans that lie in it, each with its place.
    fn within(self, history: &[Span]) -> Vec<(usize, &Span)> {
        let place = |span: &Span| usize::try_from((span.start.as_second() - self.first).div_euclid(SPAN_S)).ok();
        history.iter().filter_map(|span| Some((place(span).filter(|place| *place < SPANS)?, span))).collect()
    }

    const fn width() -> f64 {
        100.0 / real(SPANS as u64)
    }

    const fn x(index: usize) -> f64 {
        Self::width() * real(index as u64)
    }

    fn clock(self, index: usize) -> String {
        clock(self.first + i64::try_from(index).unwrap_or_default() * SPAN_S)
    }

    fn note(self, index: usize, text: &str) -> Note {
        let text = format!("{} to {} UTC: {text}", self.clock(index), self.clock(index + 1));
        Note { x: percent(Self::x(index)), width: percent(Self::width()), text }
    }

    fn times(self) -> Vec<Tick> {
        let end = self.first + spans() * SPAN_S;
        let begin = self.first + (-self.first).rem_euclid(LABEL_EVERY_S);
        let times = std::iter::successors(Some(begin), |at| Some(at + LABEL_EVERY_S)).take_while(|at| *at < end);
        let x = |at: i64| 100.0 * real((at - self.first).unsigned_abs()) / real((end - self.first).unsigned_abs());
        times.map(|at| Tick { at: percent(x(at)), label: clock(at) }).collect()
    }
}

/// How a number becomes a height.
struct Scale {
    step: u64,
    steps: u64,
    told: fn(u64) -> String,
}

impl Scale {
    /// Up to at least `max`, by the first of the steps that needs few lines.
    fn of(max: u64, mut steps: impl Iterator<Item = u64>, told: fn(u64) -> String) -> Self {
        let step = steps.find(|step| max.div_ceil(*step) <= LINES_MAX).unwrap_or(u64::MAX);
        Self { step, steps: max.div_ceil(step), told }
    }

    fn height(&self, value: f64) -> f64 {
        if self.steps == 0 { 0.0 } else { (HEIGHT * value / (real(self.step) * real(self.steps))).clamp(0.0, HEIGHT) }
    }

    fn levels(&self) -> Vec<Tick> {
        let level = |index: u64| {
            let value = self.step.saturating_mul(index);
            let label = if value == 0 { "0".to_owned() } else { (self.told)(value) };
            Tick { at: pixels(HEIGHT - self.height(real(self.step) * real(index))), label }
        };
        (0..=self.steps).map(level).collect()
    }
}

/// 1, 2, 5, 10, 20, 50, and so on.
fn decades() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(1_u64), |decade| decade.checked_mul(10))
        .flat_map(|decade| [1, 2, 5].into_iter().filter_map(move |step| decade.checked_mul(step)))
}

/// Steps in which people count time, in seconds.
fn durations_of_people() -> impl Iterator<Item = u64> {
    let steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];
    steps.into_iter().chain(decades().filter_map(|days| days.checked_mul(86_400)))
}

fn spans() -> i64 {
    i64::try_from(SPANS).unwrap_or(i64::MAX)
}

fn clock(second: i64) -> String {
    Timestamp::from_second(second).unwrap_or_default().strftime("%H:%M").to_string()
}

#[expect(clippy::cast_precision_loss, reason = "a shape need not be exact")]
const fn real(number: u64) -> f64 {
    number as f64
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

fn pixels(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests;
