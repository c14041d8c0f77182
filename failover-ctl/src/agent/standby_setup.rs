//! How a node becomes a standby of the primary: by following, by rewinding what it has too much of,
//! or by a new copy.

pub(super) mod comparison;
mod conninfo;
mod copied_wal;
pub(super) mod diverged_wal;
mod layout;
mod primary;
mod rebuild;
pub(super) mod replication_settings;
mod tools;
mod wal_cleanup;
mod wal_presence;

use causeway_core::NodeId;
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::lease::SystemId;
use causeway_runtime::shutdown::Tasks;

use crate::config::{HostSettings, NodeSettings};

/// This node's way to follow `primary`.
#[derive(Clone, Debug)]
pub(crate) struct StandbySetup {
    pub(crate) host: HostSettings,
    pub(crate) primary: NodeSettings,
    /// The database that the lease is of: nothing else is followed, rewound to, or copied.
    pub(crate) system_id: SystemId,
    pub(crate) tasks: Tasks,
}

/// Why this node does not follow yet. The data directory is as it was, but for [`StandbySetupError::Rebuild`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum StandbySetupError {
    /// The primary does not answer, or is none yet.
    #[error("the primary could not be asked")]
    PrimarySilent(#[source] anyhow::Error),
    /// What only this node has could not be kept.
    #[error("the diverged WAL is not saved, so the data directory stays as it was")]
    NotSaved(#[source] anyhow::Error),
    /// The copy was not finished. The marker stands.
    #[error("the data directory could not be copied from the primary")]
    Rebuild(#[source] anyhow::Error),
    /// Something of this host's.
    #[error("this node could not be prepared")]
    Here(#[source] anyhow::Error),
}

impl StandbySetup {
    /// Prepares a directory whose server has ended, so that it can be started as a standby.
    pub(crate) async fn prepare(
        &self,
        directory: DataDirectoryState,
        rebuild: bool,
    ) -> Result<(), StandbySetupError> {
        match directory {
            DataDirectoryState::Standby | DataDirectoryState::Primary if rebuild => {
                self.rebuild("it was asked for").await
            }
            DataDirectoryState::Standby => Ok(()),
            DataDirectoryState::Primary => self.rewind().await,
            DataDirectoryState::Empty => self.rebuild("the data directory is empty").await,
            DataDirectoryState::Rewinding => self.rebuild("an earlier attempt was cut off").await,
        }
    }

    /// Returns the node that is followed.
    pub(crate) const fn primary(&self) -> &NodeId {
        &self.primary.name
    }
}

#[cfg(test)]
mod tests;
