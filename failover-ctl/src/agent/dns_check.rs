//! Check that the writer record leads to this node while it is primary.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use causeway_runtime::telemetry::chain;
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::event_loop::AgentLoop;
use crate::agent::status_snapshot::StatusSnapshot;
use crate::clients::dns_resolver;
use crate::config::DnsSettings;
use crate::protocol::node_status::NodeRole;

/// Interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Timeout of a check: the resolver tries twice for a second each, over UDP and over TCP.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

/// Check of the writer record.
struct DnsCheck {
    dns: DnsSettings,
    /// Address of this node, to which the record is moved.
    address: String,
    status: watch::Receiver<StatusSnapshot>,
    mismatch: IntGauge,
}

impl AgentLoop {
    /// Starts the task that checks the writer record, if the settings have one.
    pub(super) fn start_dns_check(&self) {
        let Some(dns) = self.settings.dns.clone() else {
            return;
        };
        let check = DnsCheck {
            dns,
            address: self.host.node.address.clone(),
            status: self.connections.status.subscribe(),
            mismatch: self.connections.metrics.dns_mismatch.clone(),
        };
        self.connections
            .tasks
            .start("check DNS record", |stop| check.run(stop));
    }
}

impl DnsCheck {
    async fn run(self, stop: CancellationToken) {
        let mut interval = time::interval(CHECK_INTERVAL);
        interval.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            let checked = stop.run_until_cancelled(self.find_mismatch()).await;
            let Some(mismatch) = checked else {
                return;
            };
            let was_mismatched = self.mismatch.get() == 1;
            match &mismatch {
                Some(found) if !was_mismatched => {
                    warn!(
                        name = self.dns.writer,
                        found, "DNS record does not lead to this primary"
                    );
                }
                None if was_mismatched => {
                    info!(name = self.dns.writer, "DNS mismatch ended");
                }
                Some(_) | None => {}
            }
            self.mismatch.set(mismatch.is_some().into());
        }
    }

    /// Returns what the resolver answered, if this node is primary and the record does not lead to it.
    async fn find_mismatch(&self) -> Option<String> {
        if !self.is_primary() {
            return None;
        }
        let found = match time::timeout(CHECK_TIMEOUT, self.resolve()).await {
            Ok(Ok((found, own))) if leads_to(&found, &own) => return None,
            Ok(Ok((found, _))) => format!("{found:?}"),
            Ok(Err(error)) => chain(&*error),
            Err(_elapsed) => "no answer".to_owned(),
        };
        // The node may have ceased to be primary meanwhile.
        self.is_primary().then_some(found)
    }

    fn is_primary(&self) -> bool {
        let snapshot = self.status.borrow();
        snapshot
            .status
            .as_ref()
            .is_some_and(|status| status.role == NodeRole::Primary)
    }

    /// Returns the addresses of the writer record, and of this node.
    async fn resolve(&self) -> anyhow::Result<(Vec<IpAddr>, Vec<IpAddr>)> {
        let resolver = self.dns.resolver;
        let found = dns_resolver::addresses(&self.dns.writer, resolver).await?;
        let own = match self.address.parse() {
            Ok(address) => vec![address],
            Err(_) => dns_resolver::addresses(&self.address, resolver)
                .await
                .context("could not resolve this node's own address")?,
        };
        Ok((found, own))
    }
}

/// Returns whether a client that uses any of `found` reaches the node at `own`.
fn leads_to(found: &[IpAddr], own: &[IpAddr]) -> bool {
    !found.is_empty() && found.iter().all(|address| own.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_the_nodes_then_record_leads_to_it() {
        let [own, own_v6, other] =
            ["10.0.0.1", "fd00::1", "10.0.0.2"].map(|address| address.parse().unwrap());
        assert!(leads_to(&[own], &[own, own_v6]));
        assert!(leads_to(&[own, own_v6], &[own, own_v6]));
        assert!(
            !leads_to(&[own, other], &[own]),
            "half of the clients go astray"
        );
        assert!(!leads_to(&[other], &[own]));
        assert!(!leads_to(&[], &[own]));
    }
}
