//! The holder of a lease that was made while the old store did not answer retires the old record once it does.

use std::time::Duration;

use causeway_core::agent::AgentEvent;
use causeway_core::lease::{LeaseState, LeaseStoreId, NonceGenerator, WritePrecondition};
use tokio::time;
use tracing::{debug, info};

use crate::agent::event_loop::AgentLoop;
use crate::clients::lease_store::{LeaseStore, LeaseStoreError};

/// How often the old store is tried: well within the lease duration for which a candidate would watch what
/// stands there.
const EVERY: Duration = Duration::from_secs(2);

impl AgentLoop {
    /// Starts what retires the old record while this node holds the lease.
    pub(super) fn retire_old_lease(&self) {
        let (settings, happened) = (std::sync::Arc::clone(&self.settings), self.happened.clone());
        let shown = self.with.shown.subscribe();
        self.with
            .tasks
            .start("retire old lease", |stop| async move {
                let mut every = time::interval(EVERY);
                every.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
                let mut nonces = NonceGenerator::new(rand::random());
                let target = settings.lease.store_id();
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = every.tick() => {}
                    }
                    let status = shown.borrow().status.clone();
                    let held = status.filter(|status| status.forecast.is_none());
                    let Some(record) = held.and_then(|status| status.lease.clone()).map(|lease| lease.record)
                    else {
                        continue;
                    };
                    let Some(old) = record.unretired.filter(|store| !store.is_same(&target)) else {
                        continue;
                    };
                    let store = LeaseStore::open_at(&settings, &old).await;
                    match retire(&store, &target, &mut nonces).await {
                        Ok(()) => {
                            info!(store = %old, "old lease retired");
                            happened.send(AgentEvent::OldLeaseRetired(old)).await.ok();
                        }
                        Err(error) => debug!(%error, store = %old, "old lease not retired yet"),
                    }
                }
            });
    }
}

async fn retire(
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
