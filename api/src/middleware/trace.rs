//! The trace of a request, continued from the caller's `traceparent` (W3C Trace Context, level 2). Spans
//! are not exported: their ids are in the log and in the answer.

use axum::http::{HeaderMap, HeaderName};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;
/// The known flags: sampled, and random trace id.
const KNOWN_FLAGS: u8 = 0b11;

/// The span of a request in its caller's trace.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    flags: u8,
}

impl Span {
    /// Continues the caller's trace. A `traceparent` that is malformed, or sent twice, is ignored.
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
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_hex = |text: &str, length| text.len() == length && text.bytes().all(is_digit);
        let is_id = |text, length| is_hex(text, length) && text.bytes().any(|byte| byte != b'0');
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

    /// Returns the header that names this span.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}
