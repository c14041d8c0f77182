//! Write probe of one node.

use std::net::SocketAddr;
use std::time::Duration;

use causeway_core::NodeId;
use causeway_runtime::shutdown::Tasks;
use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::workload::database_endpoints::DatabaseEndpoints;
use crate::workload::history::History;

/// Interval of the probe.
const PROBE_INTERVAL: Duration = Duration::from_millis(75);

/// Timeout of a probe. A node that is frozen or cut off is not writable.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Probes a node until stopped.
pub(super) struct WriteProbe {
    pub(super) node: NodeId,
    pub(super) address: SocketAddr,
    pub(super) database: DatabaseEndpoints,
    pub(super) history: History,
    pub(super) tasks: Tasks,
}

impl WriteProbe {
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pace = interval(PROBE_INTERVAL);
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            let probed = stop.run_until_cancelled(self.probe(&mut pace)).await;
            if let Some(Err(error)) = probed {
                debug!(node = %self.node, error = format!("{error:#}"), "not reached");
            }
        }
    }

    /// Probes over one connection while it works. A rejected write leaves it open.
    async fn probe(&self, pace: &mut time::Interval) -> anyhow::Result<()> {
        let client = self
            .database
            .connect(self.address, PROBE_TIMEOUT, &self.tasks)
            .await?;
        let node = self.node.as_str();
        let probe = "insert into lab_probe (node, n) values ($1, 1)
                     on conflict (node) do update set n = lab_probe.n + 1";
        let probe = time::timeout(PROBE_TIMEOUT, client.prepare(probe)).await??;
        loop {
            match time::timeout(PROBE_TIMEOUT, client.execute(&probe, &[&node])).await? {
                Ok(_) => self.history.record_write(&self.node),
                Err(error) if client.is_closed() => return Err(error.into()),
                Err(_refused) => {}
            }
            pace.tick().await;
        }
    }
}

/// Returns an interval that skips missed ticks.
pub(super) fn interval(every: Duration) -> time::Interval {
    let mut interval = time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
