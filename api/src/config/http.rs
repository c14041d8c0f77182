//! Settings of the HTTP server: addresses, limits and shutdown.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::values::{delay, expected, timeout, within};

/// Settings of the HTTP server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub struct Http {
    /// Addresses and ports, with commas. By default `0.0.0.0` and `PORT`.
    #[arg(long = "LISTEN", value_delimiter = ',', value_parser = address)]
    listen: Vec<SocketAddr>,
    /// Port, where `LISTEN` is not set.
    #[arg(long = "PORT", default_value = "8080", value_parser = within(1..=u16::MAX))]
    pub(super) port: u16,
    /// Address for `/metrics` alone, which the other addresses then do not serve. Must not be one of
    /// `LISTEN`.
    #[arg(long = "METRICS_LISTEN", value_parser = address)]
    pub metrics_listen: Option<SocketAddr>,
    /// Time within which a request is answered, retries included.
    #[arg(long = "REQUEST_TIMEOUT", default_value = "8s", value_parser = timeout)]
    pub request_timeout: Duration,
    /// Maximum number of requests in progress, 1 to 100000. A request counts once its body has arrived.
    /// Above the limit the answer is 503 with `Retry-After`, except for probes and `/metrics`.
    #[arg(long = "MAX_INFLIGHT", default_value = "512", value_parser = within(1..=100_000_usize))]
    pub max_inflight: usize,
    // Four connections for each request in progress, which is what a load balancer keeps open. One
    // takes 10 kB, and 23 kB after its first request, so that all of them take 47 MB at most.
    /// Maximum number of open connections, 1 to 1000000, or as many as the limit of open files allows.
    #[arg(long = "MAX_CONNECTIONS", default_value = "2048", value_parser = within(1..=1_000_000_usize))]
    pub max_connections: usize,
    /// Maximum number of requests per second of one client, up to 1000000, also in one burst. Above it
    /// the answer is 429 with `Retry-After`. An IPv6 client is its /64. 0 is no limit; probes and
    /// `/metrics` have none.
    #[arg(long = "RATE_LIMIT_RPS", default_value = "0", value_parser = within(0..=1_000_000_u32))]
    pub rate_limit: u32,
    /// Networks or addresses, with commas: `10.0.0.0/16,fd00::/8`. Their `X-Forwarded-For` names the
    /// client, read from right to left up to the first that is not trusted, and their
    /// `X-Forwarded-Proto: https` adds `Strict-Transport-Security`.
    #[arg(
        long = "TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = expected(
            "a list of networks or addresses with commas, such as `10.0.0.0/16,fd00::/8`",
            network
        )
    )]
    pub trusted_proxies: Vec<IpNet>,
    /// Time to go on serving after SIGTERM while `/readyz` answers 503; may be 0.
    #[arg(long = "SHUTDOWN_DELAY", default_value = "5s", value_parser = delay)]
    pub shutdown_delay: Duration,
    /// Time to wait after that for the requests in progress; may be 0.
    #[arg(long = "SHUTDOWN_TIMEOUT", default_value = "20s", value_parser = delay)]
    pub shutdown_timeout: Duration,
}

impl Http {
    /// Returns the addresses to serve on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        if self.listen.is_empty() {
            return vec![SocketAddr::from(([0, 0, 0, 0], self.port))];
        }
        self.listen.clone()
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.trim().parse();
    address.map_err(|_error| "an address and a port, such as `0.0.0.0:8080`")
}

/// Parses a network, or an address as the network of one.
fn network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(one)
}
