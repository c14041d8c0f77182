//! Requests that a page of another site has a browser send. A form can be sent anywhere without
//! asking first, and inside a private network the browser is the way in.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::problem::{Kind, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that changes something and comes from another site's page. Programs send neither
/// `Sec-Fetch-Site` nor `Origin`, and browsers let no page forge them.
pub(super) fn refuse(method: &Method, headers: &HeaderMap) -> Option<Problem> {
    (!method.is_safe() && is_cross_site(headers)).then(|| {
        Problem::new(
            Kind::CrossSite,
            "this service stores nothing on behalf of another site's page",
        )
    })
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    if headers.contains_key(SEC_FETCH_SITE) {
        let is_ours = |it: &[u8]| matches!(it, b"same-origin" | b"same-site" | b"none");
        let mut values = headers.get_all(SEC_FETCH_SITE).iter();
        return !values.all(|it| is_ours(it.as_bytes()));
    }
    // Browsers from before 2023, and those that were asked over plain HTTP, name the origin alone.
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let is_ours = |origin: &[u8]| {
        // An origin leaves out its scheme's port, which a proxy may have added to the host.
        let schemes: [(&[u8], &[u8]); 2] = [(b"http://", b":80"), (b"https://", b":443")];
        schemes.iter().any(|(scheme, port)| {
            let named = origin.strip_prefix(*scheme);
            named.zip(host).is_some_and(|(named, host)| {
                let without_port = host.strip_suffix(*port).unwrap_or(host);
                [host, without_port]
                    .iter()
                    .any(|host| named.eq_ignore_ascii_case(host))
            })
        })
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    !origins.all(|it| is_ours(it.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(method: &Method, given: &[(HeaderName, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("api.example:8080"));
        for (name, value) in given {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        refuse(method, &headers).is_some()
    }

    #[test]
    fn port_of_the_scheme_in_the_host_then_ours() {
        for (host, origin, is_ours) in [
            ("api.example:80", "http://api.example", true),
            ("api.example:443", "https://api.example", true),
            ("api.example:443", "http://api.example", false),
            ("api.example:8080", "http://api.example", false),
            ("api.example", "http://api.example.evil", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            let is_refused = refuse(&Method::POST, &headers).is_some();
            assert_eq!(is_refused, !is_ours, "{host} {origin}");
        }
    }

    #[test]
    fn other_sites_page_then_nothing_is_changed() {
        let site = |value| (SEC_FETCH_SITE, value);
        let origin = |value| (header::ORIGIN, value);
        for given in [
            &[site("cross-site")][..],
            &[site("cross-site"), origin("http://api.example:8080")],
            &[site("same-origin"), site("cross-site")],
            &[site("")],
            &[origin("https://evil.example")],
            &[origin("http://api.example:8081")],
            &[origin("http://api.example:8080.evil.example")],
            &[
                origin("http://api.example:8080"),
                origin("http://evil.example"),
            ],
            &[origin("null")],
            &[origin("")],
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE] {
                assert!(is_refused(&method, given), "{method} {given:?}");
            }
            assert!(!is_refused(&Method::GET, given));
            assert!(!is_refused(&Method::OPTIONS, given));
        }
        for given in [
            &[][..],
            &[site("same-origin")],
            &[site("same-site"), origin("https://www.example")],
            &[site("none")],
            &[origin("http://api.example:8080")],
            &[origin("https://API.example:8080")],
        ] {
            assert!(!is_refused(&Method::POST, given), "{given:?}");
        }
    }
}
