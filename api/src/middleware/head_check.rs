//! Limits of a request's head, and the host that it names.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{Version, header};

use crate::problem::{Kind, Problem};

/// The maximum number of headers, and of their bytes together.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The maximum length of path and query. The longest with a meaning here has about 300 bytes.
const MAX_URI_BYTES: usize = 8 * 1024;

/// Rejects a request whose head is too large, or names no host.
pub(super) fn check(request: &Request) -> Result<(), Problem> {
    check_length(request)?;
    check_host(request)
}

fn check_length(request: &Request) -> Result<(), Problem> {
    let (uri, headers) = (request.uri(), request.headers());
    if uri.path().len() + uri.query().map_or(0, str::len) > MAX_URI_BYTES {
        return Err(uri_too_long());
    }
    let lengths = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if headers.len() > MAX_HEADERS || lengths.sum::<usize>() > MAX_HEADER_BYTES {
        return Err(header_fields_too_large());
    }
    Ok(())
}

/// Rejects a request that names two hosts, or none that is valid: a proxy may understand it differently
/// (RFC 9112, 3.2).
fn check_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_valid = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) => {
            let host = host.as_bytes();
            host.is_empty() || (Authority::try_from(host).is_ok() && !host.contains(&b'@'))
        }
        (Some(_), Some(_)) => false,
    };
    if is_valid {
        return Ok(());
    }
    let detail = "an HTTP/1.1 request must have exactly one `Host` header";
    Err(Problem::new(Kind::BadRequest, detail))
}

pub(crate) fn slow_head() -> Problem {
    let detail = "the head of the request did not arrive in time";
    Problem::new(Kind::RequestTimeout, detail)
}

pub(crate) fn uri_too_long() -> Problem {
    let detail = format!("path and query must not be longer than {MAX_URI_BYTES} bytes");
    Problem::new(Kind::UriTooLong, detail)
}

pub(crate) fn header_fields_too_large() -> Problem {
    let detail = format!(
        "there must not be more than {MAX_HEADERS} headers, nor more than {MAX_HEADER_BYTES} bytes \
         of them"
    );
    Problem::new(Kind::HeaderFieldsTooLarge, detail)
}
