//! Setup of a standby: streaming as it is, a rewind of diverged WAL, or a copy of the primary.

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

/// Setup of this node as a standby of `primary`.
#[derive(Clone, Debug)]
pub(crate) struct StandbySetup {
    pub(crate) host: HostSettings,
    pub(crate) primary: NodeSettings,
    /// System identifier in the lease: another database is neither streamed, rewound to, nor copied.
    pub(crate) system_id: SystemId,
    pub(crate) tasks: Tasks,
}

/// Error of the standby setup. The data directory is unchanged, except for [`StandbySetupError::Rebuild`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum StandbySetupError {
    /// The primary does not answer, or is still in recovery.
    #[error("could not query the primary")]
    PrimarySilent(#[source] anyhow::Error),
    /// Diverged WAL could not be saved.
    #[error("could not save the diverged WAL, so the data directory is not changed")]
    NotSaved(#[source] anyhow::Error),
    /// The copy is incomplete, and the marker file remains.
    #[error("could not copy the data directory from the primary")]
    Rebuild(#[source] anyhow::Error),
    /// An operation on this host failed.
    #[error("could not prepare this node")]
    Here(#[source] anyhow::Error),
}

/// Reason why a node whose control file cannot be read does not become a standby.
pub(crate) const UNREADABLE: &str = "the control file cannot be read: repair the file system, or replace the data directory with \
                                     `failover-ctl rejoin --rebuild`";

impl StandbySetup {
    /// Prepares the data directory of a stopped server for its start as a standby.
    pub(crate) async fn prepare(
        &self,
        directory: DataDirectoryState,
        rebuild: bool,
    ) -> Result<(), StandbySetupError> {
        match directory {
            DataDirectoryState::Standby
            | DataDirectoryState::Primary
            | DataDirectoryState::Unreadable
                if rebuild =>
            {
                self.rebuild("requested by command").await
            }
            DataDirectoryState::Unreadable => {
                Err(StandbySetupError::Here(anyhow::anyhow!(UNREADABLE)))
            }
            DataDirectoryState::Standby => Ok(()),
            DataDirectoryState::Primary => self.rewind().await,
            DataDirectoryState::Empty => self.rebuild("the data directory is empty").await,
            DataDirectoryState::Rewinding => {
                self.rebuild("an earlier attempt was interrupted").await
            }
        }
    }

    /// Returns the primary.
    pub(crate) const fn primary(&self) -> &NodeId {
        &self.primary.name
    }
}

#[cfg(test)]
mod tests;
