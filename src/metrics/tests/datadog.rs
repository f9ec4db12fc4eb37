//! The body of `POST /api/v2/series` as Datadog describes it: every field there is, and no other is read.
//!
//! The intake of `tests/it` reads what it receives by this model, too. It is stricter than the description where that lets
//! a payload mean nothing: a series without a type or with type 0, and a point without its second or its value.
//!
//! Source: Datadog's description of its API, `SubmitMetrics`. That our payloads fit Datadog's own model as well is
//! checked by `deploy/datadog/validate.py`.

use serde::{Deserialize, Serialize};

/// `MetricPayload`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload {
    pub(crate) series: Vec<Series>,
}

/// `MetricSeries`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Series {
    pub(crate) metric: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) points: Vec<Point>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<Vec<Resource>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Metadata>,
}

/// `MetricIntakeType`, but for 0, which is unspecified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub(crate) enum Kind {
    Count = 1,
    Rate = 2,
    Gauge = 3,
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        kind as Self
    }
}

impl TryFrom<u8> for Kind {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        [Self::Count, Self::Rate, Self::Gauge]
            .into_iter()
            .find(|kind| u8::from(*kind) == number)
            .ok_or_else(|| format!("the type {number} says nothing"))
    }
}

/// `MetricPoint`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    pub(crate) timestamp: i64,
    pub(crate) value: f64,
}

/// `MetricResource`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// `MetricMetadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
}

/// `MetricOrigin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metric_type: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) product: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<i32>,
}
