//! The client of a request: its address, and whether it used TLS, as far as trusted proxies report it.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Whether a trusted proxy reports that the client used TLS.
    pub(crate) is_https: bool,
}

impl Client {
    /// Returns the client, where `peer` is the other end of the connection. The headers of a proxy count
    /// only if it is in `trusted`.
    pub(crate) fn behind(trusted: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> Self {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        let address = peer.to_canonical();
        if !is_trusted(&address) {
            let is_https = false;
            return Self { address, is_https };
        }
        Self {
            address: forwarded_for(headers, address, is_trusted),
            is_https: forwarded_proto(headers)
                .is_some_and(|proto| proto.eq_ignore_ascii_case(b"https")),
        }
    }
}

/// Reads `X-Forwarded-For` from right to left. Each proxy appends the address that it received the request
/// from, so an entry is as trustworthy as the proxy to its right, and the first that is no trusted proxy is
/// the client. Entries left of that, or of one that is no address, may be forged.
fn forwarded_for(
    headers: &HeaderMap,
    peer: IpAddr,
    is_trusted: impl Fn(&IpAddr) -> bool,
) -> IpAddr {
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = peer;
    for address in entries.map_while(parse) {
        client = address;
        if !is_trusted(&address) {
            break;
        }
    }
    client
}

/// Returns the value of the nearest proxy: the last one of the last line.
fn forwarded_proto(headers: &HeaderMap) -> Option<&[u8]> {
    let line = headers.get_all(FORWARDED_PROTO).iter().next_back()?;
    let last = line.as_bytes().rsplit(|byte| *byte == b',').next()?;
    Some(last.trim_ascii())
}

/// Parses an address, to which some proxies add the port.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let with_port = |_| text.parse().map(|address: SocketAddr| address.ip());
    let address: IpAddr = text.parse().or_else(with_port).ok()?;
    Some(address.to_canonical())
}
