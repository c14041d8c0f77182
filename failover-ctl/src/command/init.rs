//! `failover-ctl init`: creates a cluster's first lease, once.

use ha_core::lease::{FORMAT, Holder, LeaseRecord, LeaseState, Nonces};
use ha_core::{Epoch, NodeId, Timeline};

use crate::config::{Settings, Wrong};
use crate::data_directory;
use crate::error::Failure;
use crate::world::lease_store::{LeaseStore, StoreError};

/// Creates the lease, released, with `holder` to take it first. Runs on the holder, whose data
/// directory says which database this is.
pub(crate) async fn run(settings: &Settings, holder: &NodeId) -> Result<(), Failure> {
    let host = settings.this_host()?;
    if host.node.name != *holder {
        let why = format!(
            "is `{}`: run `init` on `{holder}`, whose database it is",
            host.node.name
        );
        return Err(Wrong::setting("node", why).into());
    }
    if !settings.is_automatic(&host.node) {
        let why = format!(
            "is `{}`, and `{holder}` is in `{}`",
            settings.primary_region, host.node.region
        );
        return Err(Wrong::setting("primary-region", why).into());
    }
    let control = data_directory::control(&host.postgres.data_directory).map_err(|error| {
        Wrong::setting(
            "postgres.data-directory",
            format!("has no control file ({error}): run initdb first"),
        )
    })?;
    let store = LeaseStore::open(settings).await;
    store.probe(holder.as_str()).await?;
    let record = LeaseRecord {
        format: FORMAT,
        cluster: settings.cluster.clone(),
        system_id: control.system_id,
        epoch: Epoch::default(),
        sequence: 0,
        nonce: Nonces::new(rand::random()).draw(),
        holder: Holder {
            node: holder.clone(),
            host_id: String::new(),
            boot_id: String::new(),
        },
        state: LeaseState::Released,
        position: None,
        last_primary: None,
        highest_timeline: control.timeline.unwrap_or(Timeline::FIRST),
        synchronous_standby: None,
        idle_millis: 0,
        members: settings.nodes.iter().map(|it| it.name.clone()).collect(),
        successor: None,
        unretired: None,
    };
    match store.create_lease(&record).await {
        Err(StoreError::Conflict(_)) => Err(Failure::LeaseExists(settings.cluster.clone())),
        other => Ok(other?),
    }
}
