//! Response to a request for the rest of an object: whether it has the same version, and its
//! offset. Not every service or proxy supports `Range`, `If-Match` or `Content-Length`.

/// Version of an object that is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectVersion {
    /// Strong `ETag`.
    pub(super) etag: Option<String>,
    /// Length: a chunked response does not name it.
    pub(super) total_bytes: Option<u64>,
}

/// Headers of a response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnsweredRest<'a> {
    /// `ETag`.
    pub(super) etag: Option<&'a str>,
    /// `Content-Range`. A response without it begins with the first byte of the object.
    pub(super) content_range: Option<&'a str>,
    /// `Content-Length`.
    pub(super) content_length: Option<u64>,
}

/// Position of a response's body in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// Number of its bytes that precede the requested ones.
    pub(super) repeated_bytes: u64,
    /// Length of the object.
    pub(super) total_bytes: Option<u64>,
}

impl ObjectVersion {
    /// Returns the version that the headers of a whole response name.
    pub(super) fn new(etag: Option<&str>, content_length: Option<u64>) -> Self {
        Self {
            etag: etag.map(strong_etag),
            total_bytes: content_length,
        }
    }

    /// Returns the position of a response to a request from byte `from` on, or why it is no
    /// continuation of this version: two versions of an object are never mixed.
    pub(super) fn rest(&self, from: u64, answer: &AnsweredRest<'_>) -> Result<Rest, &'static str> {
        if answer.etag.map(strong_etag) != self.etag {
            return Err("the rest is of another version");
        }
        let (first, total) = match answer.content_range {
            None => (0, answer.content_length),
            Some(range) => parse(range).ok_or("the rest has an invalid `Content-Range`")?,
        };
        if total.is_some() && self.total_bytes.is_some() && total != self.total_bytes {
            return Err("the rest is of an object of another length");
        }
        let repeated = from.checked_sub(first);
        Ok(Rest {
            repeated_bytes: repeated
                .ok_or("the rest begins after the position where it was cut")?,
            total_bytes: self.total_bytes.or(total),
        })
    }
}

/// Returns the strong `ETag` that S3 sent: a proxy that encodes a body makes it weak.
fn strong_etag(etag: &str) -> String {
    etag.strip_prefix("W/").unwrap_or(etag).to_owned()
}

/// Parses `bytes FIRST-LAST/TOTAL`, where the total may be `*`.
fn parse(range: &str) -> Option<(u64, Option<u64>)> {
    let (bounds, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = bounds.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((first.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;

    proptest! {
        /// The bytes before the requested position are never more than the position.
        #[test]
        fn damaged_content_range_then_no_panic(
            range in damaged_text("bytes 100-199/200"), etag in damaged_text("W/\"1\""), from: u64, length: u64,
        ) {
            let version = ObjectVersion::new(Some("\"1\""), Some(200));
            let answer = AnsweredRest {
                etag: Some(&etag),
                content_range: Some(&range),
                content_length: Some(length),
            };
            if let Ok(rest) = version.rest(from, &answer) {
                prop_assert!(rest.repeated_bytes <= from, "{rest:?}");
                prop_assert_eq!(rest.total_bytes, Some(200));
            }
        }
    }

    #[test]
    fn content_range_of_any_service_then_offset_parsed() {
        let range = |value: &'static str| AnsweredRest {
            etag: Some("\"a\""),
            content_range: Some(value),
            content_length: Some(40),
        };
        let whole = AnsweredRest {
            etag: Some("W/\"a\""),
            content_range: None,
            content_length: Some(100),
        };
        let later = "the rest begins after the position where it was cut";
        let longer = "the rest is of an object of another length";
        let none = "the rest has an invalid `Content-Range`";
        for (answer, repeated) in [
            (range("bytes 60-99/100"), Ok(0)),
            (range("bytes 60-99/*"), Ok(0)),
            (range("bytes 50-99/100"), Ok(10)),
            (range("bytes 61-99/100"), Err(later)),
            (range("bytes 60-109/110"), Err(longer)),
            (range("60-99"), Err(none)),
            (whole, Ok(60)),
            (chunked(), Ok(60)),
        ] {
            let rest = version(Some(100)).rest(60, &answer);
            let expected = repeated.map(|repeated_bytes| Rest {
                repeated_bytes,
                total_bytes: Some(100),
            });
            assert_eq!(rest, expected, "{answer:?}");
        }
    }

    #[test]
    fn total_length_unknown_then_taken_from_content_range() {
        let named = AnsweredRest {
            content_range: Some("bytes 60-99/100"),
            ..chunked()
        };
        let total =
            |answer: &AnsweredRest<'_>| version(None).rest(60, answer).map(|rest| rest.total_bytes);

        assert_eq!(total(&named), Ok(Some(100)));
        assert_eq!(total(&chunked()), Ok(None));
    }

    #[test]
    fn another_etag_or_none_then_no_rest() {
        for etag in [Some("\"b\""), None] {
            let answer = AnsweredRest { etag, ..chunked() };
            let rest = version(Some(100)).rest(60, &answer);
            assert_eq!(rest, Err("the rest is of another version"), "{etag:?}");
        }
    }

    fn version(total_bytes: Option<u64>) -> ObjectVersion {
        ObjectVersion {
            total_bytes,
            ..ObjectVersion::new(Some("\"a\""), None)
        }
    }

    fn chunked() -> AnsweredRest<'static> {
        AnsweredRest {
            etag: Some("\"a\""),
            ..AnsweredRest::default()
        }
    }
}
