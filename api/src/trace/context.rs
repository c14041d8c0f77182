//! The headers `traceparent` and `tracestate`, as W3C Trace Context (levels 1 and 2) reads them.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, HeaderName};

use super::{SpanId, TraceId};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flags that have a meaning: the caller records its part, and the trace's number is random.
pub(super) const SAMPLED: u8 = 1;
pub(super) const RANDOM: u8 = 2;

/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;
/// What the recommendation asks everybody to carry at least; longer ones are not taken over.
const LONGEST_STATE: usize = 512;
const MOST_MEMBERS: usize = 32;

/// Where the caller stands in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) trace_id: TraceId,
    pub(super) parent: SpanId,
    pub(super) flags: u8,
    pub(super) state: Option<String>,
}

/// Reads the caller's context. A `traceparent` that is not well formed, or of which there are two,
/// is none; a `tracestate` that is not well formed is left out.
pub(super) fn read(headers: &HeaderMap) -> Option<Context> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let (line, None) = (lines.next()?, lines.next()) else {
        return None;
    };
    let context = parent(line.to_str().ok()?)?;
    Some(Context {
        state: state(headers),
        ..context
    })
}

fn parent(text: &str) -> Option<Context> {
    let known = text.get(..LENGTH)?;
    let rest = text.get(LENGTH..)?;
    let parts: Vec<&str> = known.split('-').collect();
    let [version, trace_id, parent, flags] = parts.as_slice() else {
        return None;
    };
    let version = digits(version, 2)?;
    // Later versions may add to what version 0 has, after another hyphen.
    let is_readable = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    let trace_id = digits(trace_id, 32).filter(|it| *it != 0)?;
    let parent = digits(parent, 16).filter(|it| *it != 0)?;
    let flags = digits(flags, 2)?;
    is_readable.then_some(Context {
        trace_id: TraceId(trace_id),
        parent: SpanId(u64::try_from(parent).ok()?),
        flags: u8::try_from(flags).ok()?,
        state: None,
    })
}

/// Reads exactly `length` hexadecimal digits, of which capitals are none.
fn digits(text: &str, length: usize) -> Option<u128> {
    let is_digit = |it: u8| matches!(it, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != length || !text.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

fn state(headers: &HeaderMap) -> Option<String> {
    let mut keys = BTreeSet::new();
    let mut members = Vec::new();
    for line in headers.get_all(TRACESTATE) {
        for member in line.to_str().ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) || !keys.insert(key) {
                return None;
            }
            members.push(member);
        }
    }
    let state = members.join(",");
    let fits = members.len() <= MOST_MEMBERS && (1..=LONGEST_STATE).contains(&state.len());
    fits.then_some(state)
}

fn is_key(key: &str) -> bool {
    let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let may_follow = |it: u8| is_plain(it) || matches!(it, b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= 256 && key.bytes().next().is_some_and(is_plain) && key.bytes().all(may_follow)
}

fn is_value(value: &str) -> bool {
    let is_allowed = |it: u8| matches!(it, 0x20..=0x7e) && !matches!(it, b',' | b'=');
    (1..=256).contains(&value.len()) && value.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parents: &[&str], states: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for it in parents {
            headers.append(TRACEPARENT, HeaderValue::from_str(it).unwrap());
        }
        for it in states {
            headers.append(TRACESTATE, HeaderValue::from_str(it).unwrap());
        }
        headers
    }

    fn read_parent(text: &str) -> Option<Context> {
        read(&headers(&[text], &[]))
    }

    #[test]
    fn reads_what_a_caller_says() {
        let context = read_parent(GOOD).unwrap();
        assert_eq!(
            context.trace_id.to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.parent.to_string(), "b7ad6b7169203331");
        assert_eq!(context.flags, SAMPLED);
        assert_eq!(
            read_parent(&GOOD.replace("-01", "-ff")).unwrap().flags,
            0xff
        );
    }

    #[test]
    fn believes_nothing_that_is_not_well_formed() {
        let zeros = |from: &str| GOOD.replace(from, &"0".repeat(from.len()));
        for bad in [
            "",
            "00",
            &GOOD.to_ascii_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0g", 1),
            &GOOD.replacen("00-", "0-", 1),
            &GOOD.replacen("00-", "000-", 1),
            &GOOD.replace('-', "_"),
            &zeros("0af7651916cd43dd8448eb211c80319c"),
            &zeros("b7ad6b7169203331"),
            &GOOD.replace("-01", "-1"),
            &GOOD.replace("-01", "-0x"),
            &format!("{GOOD}-"),
            &format!("{GOOD}-what"),
            &format!("{GOOD},{GOOD}"),
            &GOOD.replace("b7ad6b7169203331", "b7ad6b716920333-"),
            &GOOD.replace("0af7", "+af7"),
        ] {
            assert_eq!(read_parent(bad), None, "{bad}");
        }
        assert_eq!(read(&headers(&[GOOD, GOOD], &[])), None);
        assert_eq!(read(&headers(&[], &["a=1"])), None);
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = GOOD.replacen("00", "cc", 1);
        assert!(read_parent(&later).is_some());
        assert!(read_parent(&format!("{later}-what-the-future-brings")).is_some());
        assert_eq!(read_parent(&format!("{later}.what")), None);
    }

    #[test]
    fn the_state_is_carried_whole_or_not_at_all() {
        let state = |states: &[&str]| read(&headers(&[GOOD], states)).unwrap().state;
        assert_eq!(
            state(&["congo=t61 x,rojo=00f067", " ,\t1a@b*/_-=!"]),
            Some("congo=t61 x,rojo=00f067,1a@b*/_-=!".to_owned())
        );
        assert_eq!(state(&[]), None);
        assert_eq!(state(&[""]), None);
        for bad in ["a=1,a=2", "A=1", "a", "a=", "=1", "_a=1", "a=1=2", "a b=1"] {
            assert_eq!(state(&[bad]), None, "{bad}");
        }
        let members = |count: usize| {
            let each: Vec<String> = (0..count).map(|it| format!("k{it}=1")).collect();
            each.join(",")
        };
        assert!(state(&[&members(32)]).is_some());
        assert_eq!(state(&[&members(33)]), None);
        assert_eq!(state(&[&format!("a={}", "x".repeat(257))]), None);
        let long = format!("a={0},b={0},c={0}", "x".repeat(200));
        assert_eq!(state(&[&long]), None);
    }
}
