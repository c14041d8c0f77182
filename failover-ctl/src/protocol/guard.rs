//! Messages between agent and guard: one JSON object per datagram, so that neither blocks the other.

use causeway_core::agent::Commits;
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::guard::{DeadlineError, GuardDeadline, PostgresProcess};
use causeway_core::lease::SystemId;
use causeway_core::{Epoch, HostInstant, Timeline};
use serde::{Deserialize, Serialize};

/// Name of a synchronous standby that does not exist: the primary's commits wait for it until a reload without it
/// releases them all (`SyncRepUpdateSyncStandbysDefined` in `src/backend/replication/syncrep.c`).
pub(crate) const NO_STANDBY: &str = "failover_ctl_lease_not_held";

/// Maximum length of a message, in bytes. A report is below 1 KiB.
pub(crate) const MAX_MESSAGE_BYTES: usize = 8 << 10;

/// Message of the agent, sent several times a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GuardMessage {
    /// Sequence number.
    pub(crate) number: u64,
    /// Deadline until which PostgreSQL may accept writes, if the node holds the lease.
    pub(crate) deadline: Option<GuardDeadline>,
    /// Command to execute, if any.
    pub(crate) command: Option<SupervisorCommand>,
}

/// Command for the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SupervisorCommand {
    /// Start PostgreSQL as a primary, with commits acknowledged or held back.
    StartPrimary(Epoch, Commits),
    /// Start PostgreSQL as a standby.
    StartStandby,
    /// Promote the running standby.
    Promote {
        /// Epoch of the lease.
        epoch: Epoch,
        /// Timeline of the standby.
        own: Timeline,
        /// Reserved timeline that the promotion must begin.
        reserved: Timeline,
    },
    /// Acknowledge the commits held back.
    Acknowledge(Epoch),
    /// Stop PostgreSQL.
    Stop {
        /// Time for walsenders to drain, in milliseconds; killed at once if zero.
        drain_millis: u64,
    },
}

/// Report of the guard, its answer to a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GuardReport {
    /// Number of the message that this answers. The report shows the state after its execution.
    pub(crate) in_reply_to: u64,
    /// Generated at the guard's start, so a change means a restart.
    pub(crate) incarnation: String,
    /// Process id of the guard.
    pub(crate) guard_pid: u32,
    /// State of PostgreSQL.
    pub(crate) server: PostgresProcess,
    /// Last use of the data directory.
    pub(crate) data_directory_state: DataDirectoryState,
    /// System identifier in the control file.
    pub(crate) system_id: Option<SystemId>,
    /// Timeline of the last checkpoint.
    pub(crate) checkpoint_timeline: Option<Timeline>,
    /// Start time of the running postmaster.
    pub(crate) started_at: Option<HostInstant>,
    /// Number of attempts of this guard to start PostgreSQL.
    pub(crate) starts: u64,
    /// Setting by which PostgreSQL acknowledges or holds back commits.
    pub(crate) commits: Commits,
    /// Deadline in force.
    pub(crate) deadline: Option<GuardDeadline>,
    /// Time since which the guard waits for a renewal.
    pub(crate) wants_renewal_since: Option<HostInstant>,
    /// State of the watchdog device.
    #[serde(default)]
    pub(crate) watchdog: WatchdogState,
    /// Reason why the command was not executed.
    pub(crate) rejection: Option<GuardRejection>,
}

/// State of the watchdog device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WatchdogState {
    /// The settings name none, or the guard is of a release that does not report it.
    #[default]
    NotConfigured,
    /// It resets the machine if the guard stops feeding it.
    Armed,
    /// It cannot be opened or fed.
    Failed(String),
}

/// Reason why a command was not executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GuardRejection {
    /// The deadline does not allow it.
    #[error("the deadline does not allow the command")]
    Refused(#[source] DeadlineError),
    /// PostgreSQL is in the wrong state for the command.
    #[error("PostgreSQL is `{0:?}`")]
    WrongState(PostgresProcess),
    /// The data directory is empty or unreadable, or a rewind is incomplete.
    #[error("the data directory is `{0:?}`")]
    WrongDirectory(DataDirectoryState),
    /// PostgreSQL would begin a timeline above the reserved one.
    #[error("timeline {0} already has a history file, so a higher one must be reserved")]
    TimelineTaken(Timeline),
    /// The operating system returned an error.
    #[error("the operating system returned an error: {0}")]
    Failed(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::damage::damaged;

    const MESSAGE: &str = concat!(
        r#"{"number":7,"deadline":{"epoch":3,"requested_at":{"boottime":{"secs":100,"nanos":1},"raw":{"secs":90,"nanos":2}},"#,
        r#""stop_at":{"boottime":{"secs":107,"nanos":1},"raw":{"secs":97,"nanos":2}},"kill_at":{"boottime":{"secs":109,"nanos":1},"#,
        r#""raw":{"secs":99,"nanos":2}}},"command":{"promote":{"epoch":3,"own":1,"reserved":2}}}"#,
    );

    const REPORT: &str = concat!(
        r#"{"in_reply_to":7,"incarnation":"1","guard_pid":9,"server":"may-write","data_directory_state":"primary","#,
        r#""system_id":"7312345678901234567","checkpoint_timeline":1,"started_at":{"boottime":{"secs":100,"nanos":1},"#,
        r#""raw":{"secs":90,"nanos":2}},"starts":1,"commits":"held-back","deadline":null,"wants_renewal_since":null,"#,
        r#""watchdog":{"failed":"x"},"rejection":{"refused":{"too-late":{"secs":1,"nanos":0}}}}"#,
    );

    /// Parses a datagram and, if it is valid, checks that what is sent again is the same.
    fn reparse<T: Serialize + DeserializeOwned>(datagram: &[u8]) -> Result<bool, TestCaseError> {
        let Ok(parsed) = serde_json::from_slice::<T>(datagram) else {
            return Ok(false);
        };
        let sent = serde_json::to_vec(&parsed).unwrap();
        let again: T = serde_json::from_slice(&sent).unwrap();
        prop_assert_eq!(serde_json::to_vec(&again).unwrap(), sent);
        Ok(true)
    }

    #[test]
    fn message_and_report_then_parsed_and_short() {
        assert!(reparse::<GuardMessage>(MESSAGE.as_bytes()).unwrap());
        assert!(reparse::<GuardReport>(REPORT.as_bytes()).unwrap());
        assert!(REPORT.len().max(MESSAGE.len()) < MAX_MESSAGE_BYTES / 8);
    }

    proptest! {
        #[test]
        fn damaged_guard_message_then_no_panic(datagram in damaged(MESSAGE.as_bytes())) {
            reparse::<GuardMessage>(&datagram)?;
        }

        #[test]
        fn damaged_guard_report_then_no_panic(datagram in damaged(REPORT.as_bytes())) {
            reparse::<GuardReport>(&datagram)?;
            if let Ok(GuardReport { rejection: Some(rejection), .. }) = serde_json::from_slice(&datagram) {
                prop_assert!(!rejection.to_string().is_empty());
            }
        }
    }
}
