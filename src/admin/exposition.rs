//! The facts as Prometheus scrapes them.
//!
//! Invariant: labels have values of closed lists only. Nothing that comes from outside is one.

use super::facts::Facts;
use crate::{
    admin::health::Reason,
    datadog::Verdict,
    vitals::{Outcome, Recovery, Vitals},
};
use prometheus::{CounterVec, Encoder, GaugeVec, Opts, Registry, TextEncoder};

/// What a metric's value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A metric: how it is called, and where its values come from.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// What it tells.
    pub help: &'static str,
    /// The name of its label, if it has one.
    pub label: Option<&'static str>,
    values: fn(&Facts) -> Vec<(&'static str, f64)>,
}

const fn metric(
    kind: Kind,
    name: &'static str,
    label: Option<&'static str>,
    help: &'static str,
    values: fn(&Facts) -> Vec<(&'static str, f64)>,
) -> Metric {
    Metric { name, kind, help, label, values }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has floating-point numbers only")]
const fn number(value: u64) -> f64 {
    value as f64
}

fn one(value: u64) -> Vec<(&'static str, f64)> {
    vec![("", number(value))]
}

fn some(value: Option<u64>) -> Vec<(&'static str, f64)> {
    value.map(one).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has floating-point numbers only")]
fn signed(value: Option<i64>) -> Vec<(&'static str, f64)> {
    value.map(|value| vec![("", value as f64)]).unwrap_or_default()
}

fn flag(value: bool) -> Vec<(&'static str, f64)> {
    one(u64::from(value))
}

/// Every metric but the distributions, in the order in which they are told.
pub const METRICS: &[Metric] = &[
    metric(Kind::Gauge, "runhound_ready", None, "1 if a run could be recorded now", |facts| flag(facts.ready)),
    metric(
        Kind::Gauge,
        "runhound_degraded",
        Some("reason"),
        "1 for each reason for which the service is not well",
        |facts| {
            let is_so = |reason: Reason| facts.troubles.iter().any(|trouble| trouble.reason == reason);
            Reason::ALL.map(|reason| (reason.name(), f64::from(u8::from(is_so(reason))))).into()
        },
    ),
    metric(Kind::Gauge, "runhound_dry_run", None, "1 if nothing is pushed to Datadog", |facts| {
        flag(facts.mode == "dry_run")
    }),
    metric(
        Kind::Gauge,
        "runhound_leader",
        None,
        "1 if this replica delivers; none with files, which one process alone can have",
        |facts| facts.leadership.as_ref().map(|leadership| flag(leadership.leads)).unwrap_or_default(),
    ),
    metric(
        Kind::Gauge,
        "runhound_start_time_seconds",
        None,
        "When the service started, in seconds since 1970",
        |facts| signed(Some(facts.started_at.as_second())),
    ),
    metric(
        Kind::Counter,
        "runhound_deliveries_total",
        Some("outcome"),
        "Requests to the webhook, by what became of them",
        |facts| {
            Outcome::ALL
                .map(|outcome| (outcome.name(), number(facts.deliveries.get(outcome.name()).copied().unwrap_or(0))))
                .into()
        },
    ),
    metric(
        Kind::Gauge,
        "runhound_seconds_since_last_accepted",
        None,
        "Seconds since a run was last accepted; before the first one, since the start",
        |facts| {
            let last = facts.last_accepted_at.unwrap_or(facts.started_at);
            signed(Some((facts.now.as_second() - last.as_second()).max(0)))
        },
    ),
    metric(Kind::Gauge, "runhound_pending_runs", None, "Runs accepted and not yet settled", |facts| {
        some(facts.pending.as_ref().map(|pending| pending.runs as u64))
    }),
    metric(
        Kind::Gauge,
        "runhound_oldest_pending_age_seconds",
        None,
        "Seconds that the oldest pending run has waited; 0 if none is pending",
        |facts| signed(facts.pending.as_ref().map(|pending| pending.oldest_age_seconds.unwrap_or(0))),
    ),
    metric(Kind::Gauge, "runhound_known_ids", None, "IDs in the file of sent workflows", |facts| {
        some(facts.known_ids.map(|known| known as u64))
    }),
    metric(
        Kind::Counter,
        "runhound_pushes_total",
        Some("verdict"),
        "Pushes to Datadog, by what its answer meant",
        |facts| Verdict::NAMES.map(|verdict| (verdict, number(facts.pushes.get(verdict).copied().unwrap_or(0)))).into(),
    ),
    metric(
        Kind::Counter,
        "runhound_pushed_runs_total",
        None,
        "Runs that Datadog took, or that a dry run logged",
        |facts| one(facts.runs.pushed),
    ),
    metric(Kind::Counter, "runhound_pushed_points_total", None, "Points that Datadog took", |facts| one(facts.points)),
    metric(
        Kind::Counter,
        "runhound_restamped_runs_total",
        None,
        "Runs sealed at another second than their end",
        |facts| one(facts.runs.restamped),
    ),
    metric(
        Kind::Counter,
        "runhound_odd_times_total",
        None,
        "Times of accepted runs and jobs that cannot be: counted as 0, or left out",
        |facts| one(facts.runs.odd_times),
    ),
    metric(
        Kind::Counter,
        "runhound_in_doubt_runs_total",
        None,
        "Runs pushed again although they may have been taken",
        |facts| one(facts.runs.in_doubt),
    ),
    metric(Kind::Counter, "runhound_rejected_runs_total", None, "Runs that Datadog refused for good", |facts| {
        one(facts.runs.rejected)
    }),
    metric(
        Kind::Gauge,
        "runhound_seconds_since_last_push",
        None,
        "Seconds since Datadog last took a push; before the first one, since the start",
        |facts| {
            let last = facts.last_push_at.unwrap_or(facts.started_at);
            signed(Some((facts.now.as_second() - last.as_second()).max(0)))
        },
    ),
    metric(
        Kind::Gauge,
        "runhound_clock_apart_seconds",
        None,
        "How far Datadog's clock is ahead of this machine's",
        |facts| signed(facts.clock_apart_seconds),
    ),
    metric(
        Kind::Gauge,
        "runhound_series",
        Some("within"),
        "Distinct series (custom metrics) made within a time",
        |facts| {
            facts.series.map_or_else(Vec::new, |series| {
                vec![("1h", number(series.last_hour as u64)), ("30d", number(series.last_30_days as u64))]
            })
        },
    ),
    metric(Kind::Gauge, "runhound_series_limit", None, "The limit on distinct series, --max-series", |facts| {
        one(facts.max_series as u64)
    }),
    metric(
        Kind::Counter,
        "runhound_recovery_sweeps_total",
        Some("result"),
        "Looks at GitHub's delivery logs, by whether they were made to their end; none without --recover-every",
        |facts| {
            let counts = |recovery: &Recovery| {
                vec![("done", number(recovery.sweeps)), ("failed", number(recovery.failed_sweeps))]
            };
            facts.recovery.as_ref().map(counts).unwrap_or_default()
        },
    ),
    metric(
        Kind::Gauge,
        "runhound_seconds_since_last_recovery_sweep",
        None,
        "Seconds since a look at GitHub's delivery logs was made to its end; before the first one, since the start",
        |facts| {
            let last = facts.recovery.as_ref().map(|recovery| recovery.last_sweep_at.unwrap_or(facts.started_at));
            signed(last.map(|last| (facts.now.as_second() - last.as_second()).max(0)))
        },
    ),
    metric(
        Kind::Counter,
        "runhound_recovery_holes_found_total",
        None,
        "Deliveries that failed, and whose runs were not recorded",
        |facts| some(facts.recovery.as_ref().map(|recovery| recovery.holes_found)),
    ),
    metric(
        Kind::Counter,
        "runhound_recovery_holes_filled_total",
        None,
        "Deliveries that failed, and whose runs were taken in from GitHub's log",
        |facts| some(facts.recovery.as_ref().map(|recovery| recovery.holes_filled)),
    ),
    metric(
        Kind::Gauge,
        "runhound_github_requests_remaining",
        None,
        "Requests that are left of GitHub's primary rate limit",
        |facts| some(facts.recovery.as_ref().and_then(|recovery| recovery.requests_remaining)),
    ),
    metric(Kind::Gauge, "runhound_file_bytes", Some("file"), "Size of a file in the cache directory", |facts| {
        facts.files.iter().map(|file| (file.kind, number(file.bytes))).collect()
    }),
];

/// The facts and the distributions, in Prometheus's text format.
pub(super) fn text(facts: &Facts, vitals: &Vitals) -> prometheus::Result<Vec<u8>> {
    let registry = Registry::new();
    let build = GaugeVec::new(Opts::new("runhound_build_info", "1, with the version of runhound"), &["version"])?;
    build.with_label_values(&[facts.version]).set(1.0);
    registry.register(Box::new(build))?;
    for histogram in vitals.histograms() {
        registry.register(Box::new(histogram.clone()))?;
    }
    for Metric { name, kind, help, label, values } in METRICS {
        let labels: Vec<&str> = label.iter().copied().collect();
        let opts = Opts::new(*name, *help);
        let label_values = |label: &'static str| if labels.is_empty() { Vec::new() } else { vec![label] };
        match kind {
            Kind::Counter => {
                let counter = CounterVec::new(opts, &labels)?;
                for (label, value) in values(facts) {
                    counter.with_label_values(&label_values(label)).inc_by(value);
                }
                registry.register(Box::new(counter))?;
            }
            Kind::Gauge => {
                let gauge = GaugeVec::new(opts, &labels)?;
                for (label, value) in values(facts) {
                    gauge.with_label_values(&label_values(label)).set(value);
                }
                registry.register(Box::new(gauge))?;
            }
        }
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::facts::{FileSize, Leadership, tests::facts};

    fn exposed(facts: &Facts) -> String {
        String::from_utf8(text(facts, &Vitals::default()).unwrap()).unwrap()
    }

    #[test]
    fn each_metric_has_a_type_and_help_and_a_name_of_its_unit() {
        let file = FileSize { kind: "journal", path: "journal.jsonl".to_owned(), bytes: 1 };
        let recovery = Some(Recovery { requests_remaining: Some(1), ..Recovery::default() });
        let leadership = Some(Leadership { leads: true, leader: None, since: None });
        let all = Facts { clock_apart_seconds: Some(0), files: vec![file], recovery, leadership, ..facts() };
        let text = exposed(&all);
        for Metric { name, kind, help, .. } in METRICS {
            let kind = if *kind == Kind::Counter { "counter" } else { "gauge" };
            assert!(text.contains(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert_eq!(METRICS.iter().filter(|metric| metric.name == *name).count(), 1, "{name}");
        }
        let histograms = Vitals::default();
        for histogram in histograms.histograms() {
            assert!(text.contains(&format!("_bucket{{le=\"+Inf\"}} {}", histogram.get_sample_count())));
        }
    }

    #[test]
    fn what_is_not_known_is_left_out_and_every_label_is_there_before_its_first_event() {
        let text = exposed(&Facts { pending: None, series: None, clock_apart_seconds: None, ..facts() });
        for name in ["runhound_pending_runs", "runhound_series{", "runhound_clock_apart_seconds"] {
            assert!(!text.contains(&format!("\n{name}")), "{name}");
        }
        for verdict in Verdict::NAMES {
            assert!(text.contains(&format!("runhound_pushes_total{{verdict=\"{verdict}\"}} 0")), "{verdict}");
        }
        for outcome in Outcome::ALL.map(Outcome::name) {
            assert!(text.contains(&format!("runhound_deliveries_total{{outcome=\"{outcome}\"}} 0")), "{outcome}");
        }
    }

    #[test]
    fn before_the_first_run_the_time_since_the_last_is_the_time_since_the_start() {
        let mut facts = facts();
        facts.now = facts.started_at + jiff::SignedDuration::from_secs(90);
        assert!(exposed(&facts).contains("\nrunhound_seconds_since_last_accepted 90\n"));
        facts.last_accepted_at = Some(facts.now - jiff::SignedDuration::from_secs(5));
        facts.last_push_at = facts.last_accepted_at;
        let text = exposed(&facts);
        assert!(text.contains("\nrunhound_seconds_since_last_accepted 5\n"));
        assert!(text.contains("\nrunhound_seconds_since_last_push 5\n"));
    }
}
