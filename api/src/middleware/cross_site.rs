//! Protection against cross-site requests. A browser sends a form to any host without a preflight, and so
//! reaches services in a private network.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::problem::{Kind, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Rejects a request that changes something and comes from another site's page. Programs send neither
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
        let is_ours = |site: &[u8]| matches!(site, b"same-origin" | b"same-site" | b"none");
        let mut values = headers.get_all(SEC_FETCH_SITE).iter();
        return !values.all(|site| is_ours(site.as_bytes()));
    }
    // Browsers from before 2023, and all of them over plain HTTP, send only the origin.
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
    !origins.all(|origin| is_ours(origin.as_bytes()))
}
