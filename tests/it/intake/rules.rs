//! Datadog's rules for `POST /api/v2/series`: what it refuses, what it takes, and what it keeps of it.
//!
//! Invariant: no clock and no connection; what is judged here depends on the request alone.
//!
//! Sources: Datadog's description of its API (`SubmitMetrics`), of which `described` is a model; "Custom metrics" (names,
//! and the last value of a second); "Getting started with tags" (the form of tags).

use super::described::{Kind, Payload, Series};
use crate::http::Request;
use flate2::read::{GzDecoder, ZlibDecoder};
use serde_json::Value;
use std::{collections::BTreeMap, io::Read};

/// The most that Datadog takes in one request, in bytes as sent.
pub(crate) const WIRE_MAX_BYTES: usize = 512_000;

/// The most that Datadog takes in one request, in bytes as unpacked.
pub(crate) const UNPACKED_MAX_BYTES: usize = 5_242_880;

/// A point further behind the intake's clock is dropped.
const BEHIND_MAX_S: i64 = 3600;

/// A point further ahead of the intake's clock is dropped.
const AHEAD_MAX_S: i64 = 600;

/// The longest name of a metric and the longest tag, in characters.
const TEXT_MAX_CHARS: usize = 200;

/// Of Datadog's units, those that workflow runs can have.
const UNITS: [&str; 1] = ["second"];

/// What a value is stored under: metric, sorted tags, second.
pub(crate) type PointKey = (String, Vec<String>, i64);

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) error: String,
}

/// What a request turned out to be.
#[derive(Debug)]
pub(super) struct Judged {
    /// The JSON text; empty if it could not be had.
    pub(super) unpacked: String,
    /// The payload; without series if it could not be read.
    pub(super) payload: Payload,
    /// Why it is refused, if it is.
    pub(super) refusal: Option<Refusal>,
    /// All that is wrong with it.
    pub(super) violations: Vec<String>,
}

/// Judges a request in all but its key, which can be wrong at one time and right at another.
pub(super) fn judge(request: &Request) -> Judged {
    let mut judged =
        Judged { unpacked: String::new(), payload: Payload::default(), refusal: None, violations: Vec::new() };
    if request.header("dd-api-key").is_none() {
        judged.violations.push("no DD-API-KEY".to_owned());
    }
    if let Err(refusal) = judged.read(request) {
        judged.violations.push(refusal.error.clone());
        judged.refusal = Some(refusal);
    }
    judged
}

impl Judged {
    fn read(&mut self, request: &Request) -> Result<(), Refusal> {
        let content_type = request.header("content-type").unwrap_or_default();
        if content_type.split(';').next().map(str::trim) != Some("application/json") {
            return Err(bad(format!("Content-Type is {content_type:?} and not application/json")));
        }
        let unpacked = unpack(request)?;
        self.unpacked = String::from_utf8(unpacked).map_err(|error| bad(format!("not UTF-8: {error}")))?;
        let json: Value = serde_json::from_str(&self.unpacked).map_err(|error| bad(format!("not JSON: {error}")))?;
        if json.is_object() && json.get("series").is_none() {
            // Source: documentation#1998 of Datadog: taken, to no effect.
            self.violations.push("no series".to_owned());
            return Ok(());
        }
        self.payload = serde_json::from_value(json).map_err(|error| bad(format!("not a MetricPayload: {error}")))?;
        self.violations.extend(self.payload.series.iter().flat_map(faults_of_form));
        Ok(())
    }
}

fn bad(error: String) -> Refusal {
    Refusal { status: 400, error }
}

fn unpack(request: &Request) -> Result<Vec<u8>, Refusal> {
    let too_large = |what| Refusal { status: 413, error: format!("Payload too large: {what}") };
    let wire = request.body.as_slice();
    if wire.len() > WIRE_MAX_BYTES {
        return Err(too_large("as sent"));
    }
    let reader: Box<dyn Read + '_> = match request.header("content-encoding") {
        None | Some("identity") => Box::new(wire),
        Some("gzip") => Box::new(GzDecoder::new(wire)),
        Some("deflate") => Box::new(ZlibDecoder::new(wire)),
        Some(other) => return Err(bad(format!("Content-Encoding {other:?} is not known here"))),
    };
    let mut unpacked = Vec::new();
    let limit = u64::try_from(UNPACKED_MAX_BYTES).unwrap_or(u64::MAX);
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(|error| bad(format!("the body cannot be unpacked: {error}")))?;
    if unpacked.len() > UNPACKED_MAX_BYTES { Err(too_large("unpacked")) } else { Ok(unpacked) }
}

/// What Datadog would take and silently make something else of.
fn faults_of_form(series: &Series) -> Vec<String> {
    let mut faults = Vec::new();
    if !is_metric_name(&series.metric) {
        faults.push(format!("{:?} is no name for a metric", series.metric));
    }
    for tag in series.tags.iter().flatten().filter(|tag| !is_tag(tag)) {
        faults.push(format!("{tag:?} is no tag in Datadog's form"));
    }
    if let Some(unit) = series.unit.as_deref().filter(|unit| !UNITS.contains(unit)) {
        faults.push(format!("{unit:?} is no unit"));
    }
    if series.kind == Kind::Rate && series.interval.is_none() {
        faults.push(format!("{} is a rate without an interval", series.metric));
    }
    faults
}

fn is_metric_name(name: &str) -> bool {
    name.len() <= TEXT_MAX_CHARS
        && name.starts_with(|char: char| char.is_ascii_alphabetic())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "_.".contains(char))
}

fn is_tag(tag: &str) -> bool {
    let is_kept = |char: char| (char.is_alphanumeric() && char.to_lowercase().eq([char])) || "_-:./".contains(char);
    tag.chars().count() <= TEXT_MAX_CHARS
        && tag.starts_with(char::is_alphabetic)
        && tag.chars().all(is_kept)
        && !tag.contains("__")
        && !tag.ends_with(['_', ':'])
}

/// A point that was taken and thrown away, because it was too old or too far ahead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dropped {
    /// Where it would have been stored.
    pub(crate) key: PointKey,
    /// Its value.
    pub(crate) value: f64,
    /// The second of the intake's clock at that moment.
    pub(crate) clock: i64,
}

/// A stored value that gave way to a different one: what it counted is lost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Overwritten {
    /// Where it was stored.
    pub(crate) key: PointKey,
    /// The value before.
    pub(crate) old: f64,
    /// The value since.
    pub(crate) new: f64,
}

/// What Datadog keeps: of one metric, tag set and second the last value.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Whether points of any age are kept, as where Historical Metrics Ingestion is enabled.
    pub(super) keeps_history: bool,
    pub(super) points: BTreeMap<PointKey, f64>,
    pub(super) dropped: Vec<Dropped>,
    pub(super) overwritten: Vec<Overwritten>,
}

impl Store {
    /// Takes every point of a payload at the second `clock`.
    pub(super) fn take(&mut self, payload: &Payload, clock: i64) {
        for series in &payload.series {
            let tags = sorted_tags(series);
            for point in &series.points {
                self.put((series.metric.clone(), tags.clone(), point.timestamp), point.value, clock);
            }
        }
    }

    fn put(&mut self, key: PointKey, value: f64, clock: i64) {
        let second = key.2;
        let is_too_old = !self.keeps_history && second < clock.saturating_sub(BEHIND_MAX_S);
        if is_too_old || second > clock.saturating_add(AHEAD_MAX_S) {
            self.dropped.push(Dropped { key, value, clock });
        } else if let Some(old) = self.points.insert(key.clone(), value)
            && old.to_bits() != value.to_bits()
        {
            self.overwritten.push(Overwritten { key, old, new: value });
        }
    }
}

/// The tags in an order of their own, with the host, which tells time series apart as a tag does.
fn sorted_tags(series: &Series) -> Vec<String> {
    let mut tags = series.tags.clone().unwrap_or_default();
    for resource in series.resources.iter().flatten() {
        if let (Some(kind), Some(name)) = (&resource.kind, &resource.name) {
            tags.push(format!("{kind}:{name}"));
        }
    }
    tags.sort_unstable();
    tags.dedup();
    tags
}
