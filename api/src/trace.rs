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
        let [version, trace_id, parent, flags] = parts.as_slice() else {
            return None;
        };
        // Later versions may add to what version 0 has, after another hyphen.
        let is_readable = rest.is_empty() || (*version != "00" && rest.starts_with('-'));
        let are_digits = is_hex(version, 2) && is_hex(flags, 2);
        let are_ids = is_id(trace_id, 32) && is_id(parent, 16);
        if *version == "ff" || !is_readable || !are_digits || !are_ids {
            return None;
        }
        Some(Self {
            trace_id: (*trace_id).to_owned(),
            span_id: format!("{:016x}", rand::random_range(1..=u64::MAX)),
            flags: u8::from_str_radix(flags, 16).ok()? & KNOWN_FLAGS,
        })
    }

    /// Returns the header that names this request's part of the trace.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Returns whether this is `length` hexadecimal digits, in lower case.
fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_id(text: &str, length: usize) -> bool {
    is_hex(text, length) && text.bytes().any(|it| it != b'0')
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn continued(lines: &[&str]) -> Option<Span> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TRACEPARENT, HeaderValue::from_str(line).unwrap());
        }
        Span::continued(&headers)
    }

    #[test]
    fn well_formed_then_continued_with_a_span_of_its_own() {
        let later = GOOD.replacen("00", "cc", 1);
        for line in [GOOD, &later, &format!("{later}-what-the-future-brings")] {
            let span = continued(&[line]).unwrap();
            assert_eq!(span.trace_id, "0af7651916cd43dd8448eb211c80319c");
            assert_ne!(span.span_id, "b7ad6b7169203331");
            assert_eq!(span.flags, 1);
        }
        assert_eq!(continued(&[&GOOD.replace("-01", "-fe")]).unwrap().flags, 2);
    }

    #[test]
    fn malformed_then_no_trace() {
        for bad in [
            "",
            &GOOD.to_ascii_uppercase(),
            &GOOD.replacen("00-", "000-", 1),
            &GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            &GOOD.replace("-01", "-0x"),
            &GOOD.replace("0af7", "+af7"),
            &GOOD.replacen("00", "cc", 1).replace("-01", "-01.what"),
        ] {
            assert!(continued(&[bad]).is_none(), "{bad}");
        }
        assert!(continued(&[GOOD, GOOD]).is_none());
    }
}
