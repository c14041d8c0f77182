//! `failover-ctl init`: creates the first lease of a cluster.

use causeway_core::lease::{LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, NonceGenerator};
use causeway_core::{Epoch, NodeId, Timeline};

use crate::clients::agents::AgentClient;
use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::config::{HostSettings, Settings, SettingsError};
use crate::data_directory::{self, ControlFile};
use crate::error::Error;
use crate::highest_record;
use crate::protocol::node_status::HighestRecord;

/// Returns this host's settings and the control file of its database, if this host is `holder`.
pub(super) fn database_of<'a>(
    settings: &'a Settings,
    holder: &NodeId,
) -> Result<(&'a HostSettings, ControlFile), SettingsError> {
    let host = settings.this_host()?;
    if host.node.name != *holder {
        let why = format!(
            "is `{}`: run this on `{holder}`, whose database it is",
            host.node.name
        );
        return Err(SettingsError::setting("node", why));
    }
    let control = data_directory::control(&host.postgres.data_directory).map_err(|error| {
        SettingsError::setting(
            "postgres.data-directory",
            format!("has no control file ({error}): run initdb first, or restore a backup"),
        )
    })?;
    Ok((host, control))
}

/// Rejects a second first lease, in this bucket or another: it would use its epochs again, and a node that uses the
/// other bucket would keep its lease.
async fn refuse_second(settings: &Settings, host: &HostSettings) -> Result<(), Error> {
    let own = highest_record::read(&host.agent.state_directory)?;
    let answers = AgentClient::new(settings).statuses(settings).await;
    let others = answers.into_iter().flatten().map(|answer| answer.highest);
    let before = |record: &HighestRecord| record.sequence > 0;
    if before(&own) || others.into_iter().any(|record| before(&record)) {
        return Err(Error::LeaseExists(settings.cluster.clone()));
    }
    Ok(())
}

/// Creates the lease, released, for `holder` to take first. Runs on the holder, whose data directory identifies the
/// database.
pub(crate) async fn run(settings: &Settings, holder: &NodeId) -> Result<(), Error> {
    let (host, control) = database_of(settings, holder)?;
    if !settings.is_automatic(&host.node) {
        let why = format!(
            "is `{}`, and `{holder}` is in `{}`",
            settings.primary_region, host.node.region
        );
        return Err(SettingsError::setting("primary-region", why).into());
    }
    refuse_second(settings, host).await?;
    let store = LeaseStore::open(settings).await;
    store.probe(holder.as_str()).await?;
    let record = LeaseRecord {
        format: LEASE_FORMAT,
        cluster: settings.cluster.clone(),
        system_id: control.system_id,
        epoch: Epoch::default(),
        sequence: 0,
        nonce: NonceGenerator::new(rand::random()).generate(),
        holder: LeaseHolder {
            node: holder.clone(),
            host_id: String::new(),
            boot_id: String::new(),
        },
        state: LeaseState::Released,
        last_position: None,
        last_primary: None,
        ancestry: None,
        highest_reserved_timeline: control.timeline.unwrap_or(Timeline::FIRST),
        synchronous_standby: None,
        idle_millis: 0,
        members: settings
            .nodes
            .iter()
            .map(|node| node.name.clone())
            .collect(),
        successor: None,
        unretired: None,
    };
    match store.create_lease(&record).await {
        Err(LeaseStoreError::Conflict(_)) => Err(Error::LeaseExists(settings.cluster.clone())),
        other => Ok(other?),
    }
}
