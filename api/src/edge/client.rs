//! Who asks: the address that a request came from, and whether it came over TLS, as far as that can
//! be known.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Whether the proxy before us says that it was asked over TLS.
    pub(crate) is_https: bool,
}

impl Client {
    /// Returns who asks, where `peer` is at the other end of the connection. What anybody could have
    /// written is believed of a proxy in `trusted` alone.
    pub(crate) fn behind(trusted: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> Self {
        let is_trusted = |it: &IpAddr| trusted.iter().any(|net| net.contains(it));
        let address = peer.to_canonical();
        if !is_trusted(&address) {
            let is_https = false;
            return Self { address, is_https };
        }
        Self {
            address: forwarded_for(headers, address, is_trusted),
            is_https: forwarded_proto(headers).is_some_and(|it| it.eq_ignore_ascii_case(b"https")),
        }
    }
}

/// Reads `X-Forwarded-For` from right to left. Each proxy adds whom it was asked by, so an entry is
/// as good as the proxy to its right, and the first that is no trusted proxy is the client. What
/// stands left of that, or of an entry that is no address, may be anybody's invention.
fn forwarded_for(
    headers: &HeaderMap,
    peer: IpAddr,
    is_trusted: impl Fn(&IpAddr) -> bool,
) -> IpAddr {
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|it| *it == b','));
    let mut client = peer;
    for address in entries.map_while(parse) {
        client = address;
        if !is_trusted(&address) {
            break;
        }
    }
    client
}

/// Returns what the nearest proxy says: the last value of the last line.
fn forwarded_proto(headers: &HeaderMap) -> Option<&[u8]> {
    let line = headers.get_all(FORWARDED_PROTO).iter().next_back()?;
    let last = line.as_bytes().rsplit(|it| *it == b',').next()?;
    Some(last.trim_ascii())
}

/// Reads an address, which some proxies write with its port.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse()
        .or_else(|_| text.parse().map(|it: SocketAddr| it.ip()));
    Some(address.ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(peer: &str, forwarded: &[&str], proto: &str) -> (String, bool) {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|it| it.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        headers.append(FORWARDED_PROTO, HeaderValue::from_str(proto).unwrap());
        let client = Client::behind(&trusted, peer.parse().unwrap(), &headers);
        (client.address.to_string(), client.is_https)
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_no_trusted_proxy() {
        let found = |forwarded: &[&str]| client("::ffff:10.0.0.1", forwarded, "http").0;
        for (forwarded, expected) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            (&["198.51.100.7, 10.0.0.2,10.9.9.9"], "198.51.100.7"),
            (&["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
            (&["10.0.0.7, 10.0.0.2"], "10.0.0.7"),
            (&[], "10.0.0.1"),
            // What is no address ends the chain.
            (&["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["198.51.100.7,"], "10.0.0.1"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["2001:db8::1, fd00::2"], "2001:db8::1"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
        ] {
            assert_eq!(found(forwarded), expected, "{forwarded:?}");
        }
        let stranger = client("192.0.2.1", &["198.51.100.7"], "https");
        assert_eq!(stranger, ("192.0.2.1".to_owned(), false));
    }

    #[test]
    fn the_nearest_proxy_knows_the_scheme() {
        let is_https = |proto| client("10.0.0.1", &[], proto).1;
        assert!(is_https("https"));
        assert!(is_https("http, HTTPS"));
        assert!(!is_https("https, http"));
        assert!(!is_https("wss"));
    }
}
