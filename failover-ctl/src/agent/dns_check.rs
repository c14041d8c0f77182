//! Check that the writer record leads to this node while it is primary.

use std::net::IpAddr;
use std::time::Duration;

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
    gauges: RecordGauges,
}

/// State of the writer record.
enum RecordState {
    /// The node is not primary, so the record leads to another.
    NotPrimary,
    LeadsHere,
    /// The resolver returned other addresses, or none.
    LeadsElsewhere(Vec<IpAddr>),
    /// The resolver did not answer, which says nothing about the record.
    Unresolved(String),
}

/// Metrics of the writer record.
struct RecordGauges {
    mismatch: IntGauge,
    unresolved: IntGauge,
}

impl AgentLoop {
    /// Starts the task that checks the writer record, if the settings have one.
    pub(super) fn start_dns_check(&self) {
        let Some(dns) = self.settings.dns.clone() else {
            return;
        };
        let metrics = &self.connections.metrics;
        let check = DnsCheck {
            dns,
            address: self.host.node.address.clone(),
            status: self.connections.status.subscribe(),
            gauges: RecordGauges {
                mismatch: metrics.dns_mismatch.clone(),
                unresolved: metrics.dns_unresolved.clone(),
            },
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
            let Some(state) = stop.run_until_cancelled(self.record_state()).await else {
                return;
            };
            self.gauges.set(&self.dns.writer, &state);
        }
    }

    async fn record_state(&self) -> RecordState {
        if !self.is_primary() {
            return RecordState::NotPrimary;
        }
        let state = match time::timeout(CHECK_TIMEOUT, self.resolve()).await {
            Ok(Ok((found, own))) if leads_to(&found, &own) => RecordState::LeadsHere,
            Ok(Ok((found, _))) => RecordState::LeadsElsewhere(found),
            Ok(Err(error)) => RecordState::Unresolved(chain(&*error)),
            Err(_elapsed) => RecordState::Unresolved("no answer".to_owned()),
        };
        // The node may have ceased to be primary meanwhile.
        if self.is_primary() {
            state
        } else {
            RecordState::NotPrimary
        }
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
            Err(_) => dns_resolver::addresses(&self.address, resolver).await?,
        };
        anyhow::ensure!(
            !own.is_empty(),
            "`{}` of this node has no address",
            self.address
        );
        Ok((found, own))
    }
}

impl RecordGauges {
    /// Sets the gauges, and logs what changed. Without an answer, the last one stands.
    fn set(&self, name: &str, state: &RecordState) {
        let was_unresolved = self.unresolved.get() == 1;
        if let RecordState::Unresolved(error) = state {
            if !was_unresolved {
                warn!(name, error, "DNS record not resolved");
            }
            self.unresolved.set(1);
            return;
        }
        if was_unresolved {
            info!(name, "DNS record resolved again");
        }
        self.unresolved.set(0);
        let was_mismatched = self.mismatch.get() == 1;
        if let RecordState::LeadsElsewhere(found) = state {
            if !was_mismatched {
                warn!(name, ?found, "DNS record does not lead to this primary");
            }
            self.mismatch.set(1);
            return;
        }
        if was_mismatched {
            info!(name, "DNS mismatch ended");
        }
        self.mismatch.set(0);
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

    #[test]
    fn resolver_silent_then_last_answer_stands() {
        let gauge = |name| IntGauge::new(name, name).unwrap();
        let gauges = RecordGauges {
            mismatch: gauge("mismatch"),
            unresolved: gauge("unresolved"),
        };
        let elsewhere = || RecordState::LeadsElsewhere(Vec::new());
        let silent = || RecordState::Unresolved("no answer".to_owned());
        for (state, mismatch, unresolved) in [
            (silent(), 0, 1),
            (elsewhere(), 1, 0),
            (silent(), 1, 1),
            (RecordState::LeadsHere, 0, 0),
            (elsewhere(), 1, 0),
            (RecordState::NotPrimary, 0, 0),
        ] {
            gauges.set("writer.example", &state);
            assert_eq!(
                (gauges.mismatch.get(), gauges.unresolved.get()),
                (mismatch, unresolved)
            );
        }
    }
}
