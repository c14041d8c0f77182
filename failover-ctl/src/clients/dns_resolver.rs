//! What a client would be told that a name is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Asks `resolver`, or the system's, for the addresses of `name`. Nothing is kept between questions.
///
/// # Errors
///
/// When the name is not there, or nobody answers.
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
        None => {
            TokioResolver::builder_tokio().context("the system's resolver is not configured")?
        }
    };
    let mut builder = builder;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = Duration::from_secs(1);
    options.attempts = 2;
    let resolver = builder.build().context("the resolver could not be made")?;
    let absolute = format!("{}.", name.trim_end_matches('.'));
    let answer = resolver
        .lookup_ip(absolute)
        .await
        .with_context(|| format!("`{name}` was not resolved"))?;
    Ok(answer.iter().collect())
}
