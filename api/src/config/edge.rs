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
        trusted_proxies: environment.list(
            "TRUSTED_PROXIES",
            Vec::new(),
            "a list of networks or addresses with commas, such as `10.0.0.0/16,fd00::/8`",
            network,
        )?,
        rate_limit: environment.parsed(
            "RATE_LIMIT_RPS",
            None,
            "a number of requests from 1 to 1000000, or `0` for no limit",
            |text| {
                let limit = text.parse().ok().filter(|it| *it <= 1_000_000)?;
                Some(Some(limit).filter(|it| *it != 0))
            },
        )?,
        max_inflight: environment.number("MAX_INFLIGHT", 512, 1..=100_000, "number of requests")?,
        max_connections: environment.number(
            "MAX_CONNECTIONS",
            MAX_CONNECTIONS,
            1..=1_000_000,
            "number of connections",
        )?,
    })
}

/// Reads a network, or an address as the network of one.
fn network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(one)
}
