//! Polling of the other nodes' status.

use std::sync::Arc;
use std::time::Duration;

use causeway_core::agent::AgentEvent;
use causeway_core::failover::observation::PeerView;
use tokio::time;

use crate::agent::event_loop::AgentLoop;
use crate::clients::agents::{AgentClient, StatusError};
use crate::protocol::node_status::NodeRole;

/// Interval between two polls of every peer.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl AgentLoop {
    /// Starts the task that reads the status of the other nodes once a second.
    pub(super) fn start_peer_polling(&self) {
        let settings = Arc::clone(&self.settings);
        let events = self.event_sender.clone();
        let own = self.host.node.name.clone();
        let mismatches = self.mismatches.clone();
        self.connections.tasks.start("peers", |stop| async move {
            let agents = AgentClient::new(&settings);
            let mut interval = time::interval(POLL_INTERVAL);
            interval.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = interval.tick() => {}
                }
                let mut peers = Vec::new();
                let mut found = Vec::new();
                for status in agents.statuses(&settings).await {
                    match status {
                        Ok(status) if status.node == own => {}
                        Ok(status) => peers.push(PeerView {
                            node: status.node,
                            automatic: status.automatic_failover,
                            system_id: status.system_id,
                            highest: status.highest.epoch,
                            progress: status.progress,
                            primary_collations: status
                                .collations
                                .filter(|_| status.role == NodeRole::Primary)
                                .map(|collations| collations.node.actual),
                        }),
                        Err(StatusError::StatusMismatch(mismatch)) => found.push(mismatch),
                        Err(StatusError::Unresponsive(_)) => {}
                    }
                }
                mismatches.send_replace(found);
                events.send(AgentEvent::PeersObserved(peers)).await.ok();
            }
        });
    }
}
