//! Lists, a page at a time: `?limit=`, and a cursor that the header `Link` leads on with.

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::Invalid;

/// The most rows that a client may ask for at once.
const LIMIT_MAX: usize = 1000;

/// What is encoded within a query: all but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The page that a client asks for, of a list whose rows are in the order of their keys `K`.
#[derive(Debug)]
pub(super) struct Page<K> {
    /// The key of the row before the page.
    pub(super) after: Option<K>,
    list: &'static str,
    size: usize,
    path: String,
    others: Vec<(String, String)>,
}

impl<K: Serialize + DeserializeOwned> Page<K> {
    /// Reads which page of `list` a client asks for; one that names no limit gets `list_max` rows.
    ///
    /// # Errors
    ///
    /// Every rule that a parameter breaks.
    pub(super) fn read(
        list: &'static str,
        uri: &Uri,
        list_max: usize,
    ) -> Result<Self, Vec<Invalid>> {
        // Any query is a list of names and values.
        let parameters = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
        let mut page = Self {
            after: None,
            list,
            size: list_max,
            path: uri.path().to_owned(),
            others: Vec::new(),
        };
        let mut broken = Vec::new();
        for (name, value) in parameters.0 {
            if name == "cursor" {
                match decode(list, &value) {
                    Some(key) => page.after = Some(key),
                    None => broken.push(Invalid::new(
                        "cursor",
                        "not-a-cursor",
                        "cursor must be one that a Link of this list gave",
                    )),
                }
                continue;
            }
            if name == "limit" {
                match limit(&value) {
                    Some(limit) => page.size = limit,
                    None => broken.push(Invalid::new(
                        "limit",
                        "out-of-range",
                        format!("limit must be an integer from 1 to {LIMIT_MAX}"),
                    )),
                }
            }
            page.others.push((name, value));
        }
        if broken.is_empty() {
            Ok(page)
        } else {
            Err(broken)
        }
    }

    /// Returns whether the client asks for the list as a whole, and not for a part of it.
    pub(super) fn is_whole(&self) -> bool {
        self.after.is_none() && self.others.iter().all(|(name, _)| name != "limit")
    }

    /// Returns how many rows to fetch. The last of them only shows that there is another page.
    pub(super) fn most(&self) -> i64 {
        i64::try_from(self.size).map_or(i64::MAX, |it| it.saturating_add(1))
    }

    /// Leaves only the page's own rows, and returns the headers that lead to the next.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> K) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if rows.len() <= self.size {
            return headers;
        }
        rows.truncate(self.size);
        if let Some(last) = rows.last()
            && let Ok(link) = HeaderValue::try_from(self.link(&key(last)))
        {
            headers.insert(header::LINK, link);
        }
        headers
    }

    fn link(&self, last: &K) -> String {
        let cursor = ("cursor".to_owned(), encode(self.list, last));
        let parameters = self.others.iter().chain([&cursor]).map(|(name, value)| {
            let name = utf8_percent_encode(name, ENCODED);
            let value = utf8_percent_encode(value, ENCODED);
            format!("{name}={value}")
        });
        let query: Vec<String> = parameters.collect();
        format!("<{}?{}>; rel=\"next\"", self.path, query.join("&"))
    }
}

fn limit(text: &str) -> Option<usize> {
    let is_digits = text.bytes().all(|it| it.is_ascii_digit());
    let limit: usize = is_digits.then(|| text.parse().ok()).flatten()?;
    (1..=LIMIT_MAX).contains(&limit).then_some(limit)
}

/// A cursor names its list, so that one of another list is not mistaken for a place in this one.
fn encode<K: Serialize>(list: &str, key: &K) -> String {
    // Names, numbers and times always become JSON.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(list, key)).unwrap_or_default())
}

fn decode<K: DeserializeOwned>(list: &str, cursor: &str) -> Option<K> {
    let json = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (of, key): (String, K) = serde_json::from_slice(&json).ok()?;
    (of == list).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Result<Page<i64>, Vec<&'static str>> {
        Page::read("users", &uri.parse().unwrap(), 100)
            .map_err(|broken| broken.iter().map(|it| it.field).collect())
    }

    #[test]
    fn a_link_leads_on_and_keeps_the_other_parameters() {
        let page = read("/users?limit=2&q=%3E%26%C3%A4&cursor=WyJ1c2VycyIsN10&flag").unwrap();
        assert_eq!((page.after, page.most()), (Some(7), 3));

        let mut rows = vec![8, 9, 10];
        let headers = page.cut(&mut rows, |it| *it);
        assert_eq!(rows, [8, 9]);
        let expected = "</users?limit=2&q=%3E%26%C3%A4&flag=&cursor=WyJ1c2VycyIsOV0>; rel=\"next\"";
        assert_eq!(headers["link"], expected);

        let mut rows = vec![8, 9];
        assert!(page.cut(&mut rows, |it| *it).is_empty());
        assert_eq!(rows, [8, 9]);
    }

    #[test]
    fn without_a_limit_there_is_one_all_the_same() {
        let page = read("/users").unwrap();
        assert_eq!((page.after, page.most()), (None, 101));
    }

    #[test]
    fn what_is_no_limit_or_no_cursor_is_refused() {
        for limit in [
            "",
            "0",
            "-1",
            "1001",
            "1.5",
            "ten",
            "%2B5",
            "1e2",
            "٣",
            "99999999999999999999",
        ] {
            assert_eq!(
                read(&format!("/users?limit={limit}")).unwrap_err(),
                ["limit"],
                "{limit}"
            );
        }
        let of_beers = encode("beers", &7);
        for cursor in ["", "7", "WyJ1c2VycyIsN10=", "!!", of_beers.as_str()] {
            assert_eq!(
                read(&format!("/users?cursor={cursor}")).unwrap_err(),
                ["cursor"],
                "{cursor}"
            );
        }
        assert_eq!(
            read("/users?limit=0&cursor=x").unwrap_err(),
            ["limit", "cursor"]
        );
    }
}
