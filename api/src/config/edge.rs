//! What is asked of every request and every connection, whatever it is for.

use std::net::IpAddr;

use ipnet::IpNet;

use super::environment::{Environment, Unusable};

/// Four connections for each request that is worked on, by default: a load balancer keeps about as
/// many. One takes 10 kB, and 23 kB once it has been used, so all of them take 47 MB at most.
const MAX_CONNECTIONS: usize = 2048;

/// What is asked of every request and every connection.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The proxies that are believed when they say who asked them, and how.
    pub trusted_proxies: Vec<IpNet>,
    /// The most requests of one client in a second, if there is a limit.
    pub rate_limit: Option<u32>,
    /// The most requests that are worked on at once.
    pub max_inflight: usize,
    /// The most connections that are open at once.
    pub max_connections: usize,
}

pub(super) fn read(environment: &Environment) -> Result<Edge, Unusable> {
    Ok(Edge {
        trusted_proxies: environment.parsed(
            &["TRUSTED_PROXIES"],
            Vec::new(),
            "a list of networks or addresses with commas, such as `10.0.0.0/16,fd00::/8`",
            |text| text.split(',').map(|it| network(it.trim())).collect(),
        )?,
        rate_limit: environment.parsed(
            &["RATE_LIMIT_RPS"],
            None,
            "a number of requests from 1 to 1000000, or `0` for no limit",
            |text| {
                let limit = text.parse().ok().filter(|it| *it <= 1_000_000)?;
                Some(Some(limit).filter(|it| *it != 0))
            },
        )?,
        max_inflight: environment.parsed(
            &["MAX_INFLIGHT"],
            512,
            "a number of requests from 1 to 100000",
            |text| text.parse().ok().filter(|it| (1..=100_000).contains(it)),
        )?,
        max_connections: environment.parsed(
            &["MAX_CONNECTIONS"],
            MAX_CONNECTIONS,
            "a number of connections from 1 to 1000000",
            |text| text.parse().ok().filter(|it| (1..=1_000_000).contains(it)),
        )?,
    })
}

/// Reads a network, or an address as the network of one.
fn network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(one)
}
