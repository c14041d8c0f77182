//! A name as a client knows it: looked up, and believed for as long as the answer says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::network::dns;

/// A name, and where it pointed when it was last looked up. A clone is the same memory.
#[derive(Clone, Debug)]
pub struct DnsName {
    resolver: SocketAddr,
    name: &'static str,
    found: Arc<Mutex<Option<(IpAddr, Instant)>>>,
}

impl DnsName {
    /// Returns a name that `resolver` knows.
    pub fn new(resolver: SocketAddr, name: &'static str) -> Self {
        Self {
            resolver,
            name,
            found: Arc::default(),
        }
    }

    /// Returns where the name points, asking again only when the last answer is too old.
    ///
    /// # Errors
    ///
    /// When it has no address, or nobody says.
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
