//! DNS name as a client uses it: resolved, and cached for its TTL.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::network::dns;

/// DNS name with its cached addresses. Clones share the cache.
#[derive(Clone, Debug)]
pub struct DnsName {
    resolver: SocketAddr,
    name: &'static str,
    found: Arc<Mutex<Option<(IpAddr, Instant)>>>,
}

impl DnsName {
    /// Returns a name that `resolver` resolves.
    pub fn new(resolver: SocketAddr, name: &'static str) -> Self {
        Self {
            resolver,
            name,
            found: Arc::default(),
        }
    }

    /// Returns an address of the name, resolving it when the cached one has expired.
    ///
    /// # Errors
    ///
    /// When the name has no address, or the server does not respond.
    pub async fn address(&self) -> anyhow::Result<IpAddr> {
        let mut found = self.found.lock().await;
        if let Some((address, good_until)) = *found
            && Instant::now() < good_until
        {
            return Ok(address);
        }
        let asked_at = Instant::now();
        let (addresses, ttl) = dns::look_up(self.resolver, self.name).await?;
        let first = *addresses.first().context("the name has no address")?;
        *found = Some((first, asked_at + ttl));
        Ok(first)
    }
}
