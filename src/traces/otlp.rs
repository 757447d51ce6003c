//! The JSON encoding of OTLP: names in camel case, ids in hexadecimal digits, 64-bit integers as text.

use serde::Serialize;

/// `ExportTraceServiceRequest`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    resource_spans: [ResourceSpans; 1],
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

/// A span.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    pub(super) name: String,
    /// `SPAN_KIND_INTERNAL`.
    kind: u8,
    pub(super) start_time_unix_nano: String,
    pub(super) end_time_unix_nano: String,
    pub(super) attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<SpanEvent>,
}

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpanEvent {
    time_unix_nano: String,
    name: String,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attribute {
    key: String,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "intValue")]
    Int(String),
    #[serde(rename = "doubleValue")]
    Number(f64),
}

impl Request {
    /// Spans of a run.
    pub fn new(run: &str, spans: Vec<Span>) -> Self {
        let attributes = vec![
            Attribute::text("service.name", "everstep".into()),
            Attribute::text("service.version", env!("CARGO_PKG_VERSION").into()),
            Attribute::text("everstep.run", run.into()),
        ];
        let scope = Scope { name: "everstep", version: env!("CARGO_PKG_VERSION") };
        Self { resource_spans: [ResourceSpans { resource: Resource { attributes }, scope_spans: [ScopeSpans { scope, spans }] }] }
    }
}

impl Span {
    /// A span of a trace, from and to milliseconds since the Unix epoch.
    pub(super) fn new(trace: &str, name: &str, parent: Option<&Self>, (from_ms, to_ms): (f64, f64)) -> Self {
        Self {
            trace_id: id(&[trace], 16),
            span_id: id(&[trace, name], 8),
            parent_span_id: parent.map(|parent| parent.span_id.clone()).unwrap_or_default(),
            name: name.into(),
            kind: 1,
            start_time_unix_nano: nanoseconds(from_ms),
            end_time_unix_nano: nanoseconds(to_ms),
            attributes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl SpanEvent {
    pub(super) fn new(at_ms: u64, name: String) -> Self {
        Self { time_unix_nano: nanoseconds(at_ms as f64), name }
    }
}

impl Attribute {
    pub(super) fn text(key: &str, value: String) -> Self {
        Self { key: key.into(), value: Value::Text(value) }
    }

    pub(super) fn int(key: &str, value: u64) -> Self {
        Self { key: key.into(), value: Value::Int(value.to_string()) }
    }

    /// JSON knows no NaN: what is not finite is a word.
    pub(super) fn number(key: &str, value: f64) -> Self {
        let value = if value.is_finite() { Value::Number(value) } else { Value::Text(value.to_string()) };
        Self { key: key.into(), value }
    }
}

/// Microseconds are what a double still holds of today's date.
fn nanoseconds(ms: f64) -> String {
    ((ms * 1000.0).round() as u64 * 1000).to_string()
}

fn id(parts: &[&str], bytes: usize) -> String {
    let hash = blake3::hash(parts.join("\0").as_bytes());
    hash.as_bytes()[..bytes].iter().map(|byte| format!("{byte:02x}")).collect()
}
