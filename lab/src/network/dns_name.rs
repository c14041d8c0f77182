//! DNS name as a client uses it: resolved, and cached for its TTL.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// DNS name. Clones share the resolver's cache.
#[derive(Clone)]
pub(crate) struct DnsName {
    resolver: TokioResolver,
    name: &'static str,
}

impl DnsName {
    /// Returns a name that the DNS server at `server` resolves.
    pub(crate) fn new(server: SocketAddr, name: &'static str) -> Self {
        let resolver = resolver(server);
        Self { resolver, name }
    }

    /// Returns an address of the name, resolving it when the cached one has expired.
    ///
    /// # Errors
    ///
    /// When the name has no address, or the server does not respond within a second.
    pub(crate) async fn address(&self) -> anyhow::Result<IpAddr> {
        let found = self.resolver.lookup_ip(format!("{}.", self.name)).await;
        let found = found.with_context(|| format!("could not resolve `{}`", self.name))?;
        found.iter().next().context("the name has no address")
    }
}

/// Returns a caching resolver that sends a query once to `server`, over UDP.
pub(super) fn resolver(server: SocketAddr) -> TokioResolver {
    let mut udp = ConnectionConfig::udp();
    udp.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![udp]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(1);
    options.attempts = 0;
    builder
        .build()
        .expect("neither trust anchor nor TLS is configured")
}
