//! The trace that a request is a part of, continued from the caller's `traceparent` (W3C Trace
//! Context, level 2). Spans are not exported: they are in the log, and named in the answer.

use axum::http::{HeaderMap, HeaderName};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;
/// The flags that have a meaning: the caller records its part, and the trace's number is random.
const KNOWN_FLAGS: u8 = 0b11;

/// One request as a part of its caller's trace.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    flags: u8,
}

impl Span {
    /// Continues the caller's trace. A `traceparent` that is malformed, or sent twice, counts as none.
    pub(crate) fn continued(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let (line, None) = (lines.next()?, lines.next()) else {
            return None;
        };
        let (known, rest) = line.to_str().ok()?.split_at_checked(LENGTH)?;
        let parts: Vec<&str> = known.split('-').collect();
        let [version, trace_id, parent, flags] = *parts else {
            return None;
        };
        let is_digit = |it| matches!(it, b'0'..=b'9' | b'a'..=b'f');
        let is_hex = |text: &str, length| text.len() == length && text.bytes().all(is_digit);
        let is_id = |text, length| is_hex(text, length) && text.bytes().any(|it| it != b'0');
        // Later versions may add to what version 0 has, after another hyphen.
        let is_readable = rest.is_empty() || (version != "00" && rest.starts_with('-'));
        let is_known = is_hex(version, 2) && version != "ff" && is_readable;
        if !is_known || !is_hex(flags, 2) || !is_id(trace_id, 32) || !is_id(parent, 16) {
            return None;
        }
        Some(Self {
            trace_id: trace_id.to_owned(),
            span_id: format!("{:016x}", rand::random_range(1..=u64::MAX)),
            flags: u8::from_str_radix(flags, 16).ok()? & KNOWN_FLAGS,
        })
    }

    /// Returns the header that names this request's part of the trace.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}
