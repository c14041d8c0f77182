//! Retirement of the previous lease record, which `replace-lease` could not retire because its store was unreachable.

use std::sync::Arc;
use std::time::Duration;

use causeway_core::agent::AgentEvent;
use causeway_core::lease::{LeaseState, LeaseStoreId, NonceGenerator, WritePrecondition};
use tokio::time;
use tracing::{debug, info};

use crate::agent::event_loop::AgentLoop;
use crate::clients::lease_store::{LeaseStore, LeaseStoreError};

/// Interval between attempts: well within the lease duration for which a candidate would watch the old record.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

impl AgentLoop {
    /// Starts the task that retires the old record while this node holds the lease.
    pub(super) fn retire_old_lease(&self) {
        let settings = Arc::clone(&self.settings);
        let events = self.event_sender.clone();
        let snapshot = self.connections.status.subscribe();
        self.connections
            .tasks
            .start("retire old lease", |stop| async move {
                let mut interval = time::interval(RETRY_INTERVAL);
                interval.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
                let mut nonces = NonceGenerator::new(rand::random());
                let target = settings.lease.store_id();
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = interval.tick() => {}
                    }
                    let status = snapshot.borrow().status.clone();
                    let held = status.filter(|status| status.forecast.is_none());
                    let Some(record) = held
                        .and_then(|status| status.lease.clone())
                        .map(|lease| lease.record)
                    else {
                        continue;
                    };
                    let Some(old) = record.unretired.filter(|store| !store.is_same(&target)) else {
                        continue;
                    };
                    let store = LeaseStore::open_at(&settings, &old).await;
                    match retire_record(&store, &target, &mut nonces).await {
                        Ok(()) => {
                            info!(store = %old, "old lease retired");
                            events.send(AgentEvent::OldLeaseRetired(old)).await.ok();
                        }
                        Err(error) => debug!(%error, store = %old, "old lease not retired yet"),
                    }
                }
            });
    }
}

async fn retire_record(
    store: &LeaseStore,
    target: &LeaseStoreId,
    nonces: &mut NonceGenerator,
) -> Result<(), LeaseStoreError> {
    let Some((etag, there)) = store.version().await? else {
        return Ok(());
    };
    if there.state == LeaseState::Retired {
        return Ok(());
    }
    let retired = there.retired(target, nonces.generate());
    store
        .replace_lease(&retired, &WritePrecondition::Match(etag))
        .await
}
