//! `failover-ctl init`: creates the first lease of a cluster.

use causeway_core::lease::{LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, NonceGenerator};
use causeway_core::{Epoch, NodeId, Timeline};

use crate::clients::agents::{AgentClient, StatusError};
use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::config::{HostSettings, Settings, SettingsError};
use crate::data_directory::{self, ControlFile};
use crate::error::Error;
use crate::highest_record;

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
    let control =
        data_directory::read_control_file(&host.postgres.data_directory).map_err(|error| {
            SettingsError::setting(
                "postgres.data-directory",
                format!("has no control file ({error}): run initdb first, or restore a backup"),
            )
        })?;
    Ok((host, control))
}

/// Refuses to create a lease where one was seen before, in this bucket or another: its numbers would be
/// used again, and a node that still uses the other bucket would go on.
async fn reject_second_lease(settings: &Settings, host: &HostSettings) -> Result<(), Error> {
    let own = highest_record::read(&host.agent.state_directory)?;
    let mut seen = vec![own];
    for answer in AgentClient::new(settings).statuses(settings).await {
        match answer {
            Ok(status) => seen.push(status.highest),
            // Before the first lease, agents need not run.
            Err(StatusError::Unresponsive(_)) => {}
            // The intended agent did not respond, so its record is unknown.
            Err(error @ StatusError::StatusMismatch(_)) => {
                return Err(anyhow::Error::new(error).into());
            }
        }
    }
    if seen.iter().any(|record| record.sequence > 0) {
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
    reject_second_lease(settings, host).await?;
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
