//! What agent and guard say to each other: one JSON object a datagram, so that neither can be made to
//! wait by the other, however it was stopped.

use causeway_core::agent::Commits;
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::guard::{DeadlineError, GuardDeadline, PostgresProcess};
use causeway_core::lease::SystemId;
use causeway_core::{Epoch, HostInstant, Timeline};
use serde::{Deserialize, Serialize};

/// A synchronous standby that no standby is: the commits of a primary wait for it, until a reload without
/// it acknowledges them all (`SyncRepUpdateSyncStandbysDefined` in
/// `src/backend/replication/syncrep.c`).
pub(crate) const NO_STANDBY: &str = "failover_ctl_lease_not_held";

/// The longest message: a report is below 1 KiB.
pub(crate) const MAX_MESSAGE_BYTES: usize = 8 << 10;

/// What the agent sends, several times a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GuardMessage {
    /// Its number: each is one above the one before.
    pub(crate) number: u64,
    /// Until when PostgreSQL may accept writes, if the node holds the lease.
    pub(crate) deadline: Option<GuardDeadline>,
    /// What is to be done, if anything is.
    pub(crate) command: Option<SupervisorCommand>,
}

/// What guard can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SupervisorCommand {
    /// Start PostgreSQL as a primary, whose commits are acknowledged or held back.
    StartPrimary(Epoch, Commits),
    /// Start it as a standby.
    StartStandby,
    /// Promote the standby that runs.
    Promote {
        /// The epoch of the lease.
        epoch: Epoch,
        /// The timeline that the standby follows.
        own: Timeline,
        /// The timeline to begin.
        reserved: Timeline,
    },
    /// Acknowledge the commits that were held back.
    Acknowledge(Epoch),
    /// End it, leaving walsenders this many milliseconds to drain.
    Stop { drain_millis: u64 },
}

/// What guard answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GuardReport {
    /// The number of the request that this answers. What it shows is how things are after that.
    pub(crate) in_reply_to: u64,
    /// Drawn when guard started: another one means that it was restarted.
    pub(crate) incarnation: String,
    /// Guard's own process.
    pub(crate) guard_pid: u32,
    /// The server.
    pub(crate) server: PostgresProcess,
    /// What its directory was last used for.
    pub(crate) data_directory_state: DataDirectoryState,
    /// The identifier in its control file.
    pub(crate) system_id: Option<SystemId>,
    /// The timeline of its last checkpoint.
    pub(crate) checkpoint_timeline: Option<Timeline>,
    /// When the server that runs was started.
    pub(crate) started_at: Option<HostInstant>,
    /// How many postmasters this guard has started.
    pub(crate) starts: u64,
    /// Whether PostgreSQL acknowledges commits, as guard has set it.
    pub(crate) commits: Commits,
    /// The deadline in force.
    pub(crate) deadline: Option<GuardDeadline>,
    /// Since when a renewal is wanted.
    pub(crate) wants_renewal_since: Option<HostInstant>,
    /// Why the order of the request was not carried out.
    pub(crate) rejection: Option<GuardRejection>,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GuardRejection {
    /// The deadline does not allow it.
    #[error("the deadline does not allow it")]
    Refused(#[source] DeadlineError),
    /// A server runs already, or none runs.
    #[error("the server is `{0:?}`")]
    WrongState(PostgresProcess),
    /// The directory is empty, or half rewound.
    #[error("the data directory is `{0:?}`")]
    WrongDirectory(DataDirectoryState),
    /// PostgreSQL would begin a timeline above the one that is reserved.
    #[error("a history file for timeline {0} is there already, so that number is not free")]
    TimelineTaken(Timeline),
    /// The operating system refused.
    #[error("the operating system refused: {0}")]
    Failed(String),
}
