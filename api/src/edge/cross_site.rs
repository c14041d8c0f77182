//! Requests that a page of another site has a browser send. A form can be sent anywhere without
//! asking first, and inside a private network the browser is the way in.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::problem::{Kind, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that changes something and comes from another site's page. Programs send neither
/// `Sec-Fetch-Site` nor `Origin`, and browsers let no page forge them.
pub(super) fn check(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if method.is_safe() || !is_cross_site(headers) {
        return Ok(());
    }
    let detail = "this service stores nothing on behalf of another site's page";
    Err(Problem::new(Kind::CrossSite, detail))
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
        schemes.into_iter().any(|(scheme, port)| {
            let named = origin.strip_prefix(scheme);
            named.zip(host).is_some_and(|(named, host)| {
                named.eq_ignore_ascii_case(host)
                    || named.eq_ignore_ascii_case(host.strip_suffix(port).unwrap_or(host))
            })
        })
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    !origins.all(|it| is_ours(it.as_bytes()))
}
