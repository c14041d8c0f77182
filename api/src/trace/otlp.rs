//! Ended spans, as OTLP writes them in JSON: numbers of 64 bits as text, ids in hexadecimal.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::{SpanId, TraceId};

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) is_parent_remote: bool,
    pub(super) state: Option<String>,
    pub(super) flags: u8,
    pub(super) name: Cow<'static, str>,
    pub(super) role: Role,
    /// From 1970.
    pub(super) began: Duration,
    pub(super) took: Duration,
    pub(super) attributes: Vec<Attribute>,
    pub(super) is_error: bool,
}

/// Which side of a call a span is, as OTLP numbers them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Server = 2,
    Client = 3,
}

/// What a span, or the service, says about itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Attribute {
    key: Cow<'static, str>,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Number(i64),
}

impl Attribute {
    pub(crate) fn text(key: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: Value::Text(value.into()),
        }
    }

    pub(crate) fn number(key: &'static str, value: i64) -> Self {
        Self {
            key: key.into(),
            value: Value::Number(value),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Text(text) => map.serialize_entry("stringValue", text)?,
            Self::Number(number) => map.serialize_entry("intValue", &number.to_string())?,
        }
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: &'a [Attribute],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    flags: u32,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: &'a [Attribute],
    status: Status,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

/// Returns the body of one request to a collector.
pub(super) fn encode(resource: &[Attribute], spans: &[Ended]) -> Vec<u8> {
    let request = Request {
        resource_spans: [ResourceSpans {
            resource: Resource {
                attributes: resource,
            },
            scope_spans: [ScopeSpans {
                scope: Scope {
                    name: env!("CARGO_PKG_NAME"),
                    version: env!("CARGO_PKG_VERSION"),
                },
                spans: spans.iter().map(span).collect(),
            }],
        }],
    };
    // Text and numbers always become JSON.
    serde_json::to_vec(&request).unwrap_or_default()
}

fn span(ended: &Ended) -> Span<'_> {
    /// Bit 8 says that bit 9 says whether the parent is in another process.
    const KNOWS_PARENT: u32 = 0x100;
    const PARENT_IS_REMOTE: u32 = 0x200;
    let remote = if ended.is_parent_remote && ended.parent.is_some() {
        PARENT_IS_REMOTE
    } else {
        0
    };
    Span {
        trace_id: ended.trace_id.to_string(),
        span_id: ended.span_id.to_string(),
        parent_span_id: ended.parent.map(|it| it.to_string()),
        trace_state: ended.state.as_deref(),
        flags: u32::from(ended.flags) | KNOWS_PARENT | remote,
        name: &ended.name,
        kind: ended.role as u8,
        start_time_unix_nano: ended.began.as_nanos().to_string(),
        end_time_unix_nano: (ended.began + ended.took).as_nanos().to_string(),
        attributes: &ended.attributes,
        // 0 leaves it open, which is right for a server's span below 500.
        status: Status {
            code: if ended.is_error { 2 } else { 0 },
        },
    }
}
