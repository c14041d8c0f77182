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
