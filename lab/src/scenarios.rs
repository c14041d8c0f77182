//! The stories that a lab plays: what breaks, what is promised, and what came of it.

use std::fmt;
use std::time::Duration;

use causeway_core::NodeId;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, NodeSelector};
use crate::scenarios::bounds::{restarted, taken_over, uninterrupted};
use crate::scenarios::scenario_run::ScenarioRun;
use crate::workload::checker::{CheckResult, Expectation};

pub mod bounds;
mod freeze;
mod left_region;
mod lifecycle;
mod load;
mod node_added;
mod operation;
mod operator;
mod region;
mod restore;
pub mod scenario_run;
mod secrets;
mod standby;

pub use freeze::{agent_and_guard_frozen, frozen_with_postgres};
pub use left_region::left_region_by_command_only;
pub use lifecycle::{cluster_restored, database_upgraded, lease_moved, lease_store_lost};
pub use load::{primary_lost_under_load, region_lost_under_load};
pub use node_added::lists_of_nodes_differ;
pub use operation::{chosen_node_lost, consent_not_inherited};
pub use region::{old_region_rejoined, region_lost};
pub use restore::{PLAINTEXT, base_backup, restored_to_a_moment};
pub use secrets::key_kept_from_postgres;
pub use standby::{diverged_standby_cannot_start, diverged_wal_not_saved, standby_away_too_long};

/// How long a story waits for service that should have been back long before. What is promised is
/// judged from what was measured, so that a slow run ends with a verdict and not with a timeout.
pub const SCENARIO_TIMEOUT: Duration = Duration::from_secs(90);

/// How long the agent of the demo is frozen: twice the lease's term.
const FROZEN_FOR: Duration = Duration::from_secs(20);

/// A story that can be played by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Scenario {
    /// The postmaster is killed, and its agent is alive
    PostmasterKilled,
    /// The primary's host is gone, and another zone takes over
    ZoneLost,
    /// The primary's agent is frozen for 20 s
    AgentFrozen,
    /// The primary's guard is killed
    GuardKilled,
    /// The primary's agent is restarted
    AgentRestarted,
    /// The whole primary region is gone, and the other is promoted by command
    RegionLost,
    /// The lost region comes back and is rejoined
    OldRegionRejoined,
    /// A dropped table is brought back from the other region's bucket
    RestoredToAMoment,
}

impl Scenario {
    /// Plays the story.
    ///
    /// # Errors
    ///
    /// When it does not come to an end.
    pub async fn play(self, run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
        match self {
            Self::PostmasterKilled => postmaster_killed(run).await,
            Self::ZoneLost => zone_lost(run).await,
            Self::AgentFrozen => agent_frozen(run, FROZEN_FOR).await,
            Self::GuardKilled => guard_killed(run).await,
            Self::AgentRestarted => agent_restarted(run).await,
            Self::RegionLost => region_lost(run).await,
            Self::OldRegionRejoined => old_region_rejoined(run).await,
            Self::RestoredToAMoment => {
                base_backup(run).await?;
                restored_to_a_moment(run).await
            }
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.pad(name.as_ref().map_or("", |it| it.get_name()))
    }
}

/// The postmaster is killed, and its agent is alive: PostgreSQL starts again on the same node, or
/// another node takes over.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn postmaster_killed(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("postmaster_killed").await?;
    let primary = primary(run).await?;
    let at = run
        .inject(&Fault::PostmasterKilled(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_acknowledged_rows(at, SCENARIO_TIMEOUT).await?;
    run.wait_for_standbys().await?;
    run.finish(&start, restarted()).await
}

/// The primary's host is gone: the other zone takes over once the lease has expired, losing no more
/// than is stated before it does, and the old primary follows it once it is back.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn zone_lost(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("zone_lost").await?;
    let primary = primary(run).await?;
    let at = run
        .inject(&Fault::NodeLost(NodeSelector::node(&primary)))
        .await?;
    let rows_lost = run.planned_loss().await?;
    run.wait_for_takeover(&primary, SCENARIO_TIMEOUT).await?;
    run.wait_for_acknowledged_rows(at, SCENARIO_TIMEOUT).await?;
    run.wait_for_steady_writes(SCENARIO_TIMEOUT).await?;
    run.announce(&format!("the host of node {primary} is back"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    let expectation = Expectation {
        rows_lost,
        ..taken_over()
    };
    run.finish(&start, expectation).await
}

/// The primary's agent is frozen: guard ends PostgreSQL before the lease is over, the other zone
/// takes over, and the agent finds itself deposed when it goes on.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn agent_frozen(
    run: &mut ScenarioRun<'_>,
    frozen_for: Duration,
) -> anyhow::Result<CheckResult> {
    let start = run.begin("agent_frozen").await?;
    let primary = primary(run).await?;
    let at = run
        .inject(&Fault::AgentFrozen(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_takeover(&primary, SCENARIO_TIMEOUT).await?;
    run.announce_wait("the end of the freeze", frozen_for);
    run.run_until(at + frozen_for).await;
    run.announce(&format!("the agent of node {primary} goes on"));
    run.lab.heal().await?;
    run.wait_for_standbys().await?;
    run.finish(&start, taken_over()).await
}

/// The primary's guard is killed: PostgreSQL ends with it, guard and server come back.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn guard_killed(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("guard_killed").await?;
    let primary = primary(run).await?;
    let at = run
        .inject(&Fault::GuardKilled(NodeSelector::node(&primary)))
        .await?;
    run.wait_for_acknowledged_rows(at + Duration::from_secs(2), SCENARIO_TIMEOUT)
        .await?;
    run.wait_for_standbys().await?;
    run.finish(&start, taken_over()).await
}

/// The primary's agent is restarted, as by an upgrade: no client notices.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn agent_restarted(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("agent_restarted").await?;
    let before = run.serving_primary().await?;
    let primary = before.node.clone();
    let node = run.lab.node(&primary)?;
    let starts = node.agent.starts();
    let at = run
        .inject(&Fault::AgentRestarted(NodeSelector::node(&primary)))
        .await?;
    node.agent.started(starts + 1, SCENARIO_TIMEOUT).await?;
    // A whole term and more, so that a lease which was not renewed would have run out.
    run.announce_wait("more than a term of the lease", Duration::from_secs(15));
    run.run_until(at + Duration::from_secs(15)).await;
    run.wait_for_acknowledged_rows(at + Duration::from_secs(14), SCENARIO_TIMEOUT)
        .await?;
    let after = run.serving_primary().await?;
    let mut result = run.finish(&start, uninterrupted()).await?;
    result.require_same_server(&before, &after);
    Ok(result)
}

pub(crate) async fn primary(run: &ScenarioRun<'_>) -> anyhow::Result<NodeId> {
    run.lab.wait_for_primary(SCENARIO_TIMEOUT).await
}

/// Returns the promise that no row is lost and that writes go on within so many seconds. A scenario
/// takes one of [`bounds`] instead, which say of what the seconds are made.
pub const fn within(seconds: u64) -> Expectation {
    Expectation {
        downtime: Duration::from_secs(seconds),
        rows_lost: 0,
    }
}
