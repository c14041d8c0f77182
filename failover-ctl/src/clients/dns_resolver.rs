//! DNS lookups as a client of the database would make them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Resolves `name` with `resolver`, or with the system's, without a cache.
///
/// # Errors
///
/// When the name does not exist, or no server responds.
pub(crate) async fn addresses(
    name: &str,
    resolver: Option<SocketAddr>,
) -> anyhow::Result<Vec<IpAddr>> {
    let builder = match resolver {
        Some(address) => {
            let mut udp = ConnectionConfig::udp();
            udp.port = address.port();
            let mut tcp = ConnectionConfig::tcp();
            tcp.port = address.port();
            let server = NameServerConfig::new(address.ip(), true, vec![udp, tcp]);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio()
            .context("could not read the system's resolver configuration")?,
    };
    let mut builder = builder;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = Duration::from_secs(1);
    options.attempts = 2;
    let resolver = builder.build().context("could not create the resolver")?;
    let absolute = format!("{}.", name.trim_end_matches('.'));
    let answer = resolver
        .lookup_ip(absolute)
        .await
        .with_context(|| format!("could not resolve `{name}`"))?;
    Ok(answer.iter().collect())
}
