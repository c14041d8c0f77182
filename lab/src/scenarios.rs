//! The stories that a lab plays: what breaks, what is promised, and what came of it.

use std::fmt;
use std::time::Duration;

use causeway_core::NodeId;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, On};
use crate::scenarios::bounds::{restarted, taken_over, uninterrupted};
use crate::scenarios::scenario_run::Stage;
use crate::workload::checker::{Promise, Verdict};

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
pub const LONG: Duration = Duration::from_secs(90);

/// How long the agent of the demo is frozen: twice the lease's term.
const FROZEN_FOR: Duration = Duration::from_secs(20);

/// A story that can be played by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Story {
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

impl Story {
    /// Plays the story.
    ///
    /// # Errors
    ///
    /// When it does not come to an end.
    pub async fn play(self, stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
        match self {
            Self::PostmasterKilled => postmaster_killed(stage).await,
            Self::ZoneLost => zone_lost(stage).await,
            Self::AgentFrozen => agent_frozen(stage, FROZEN_FOR).await,
            Self::GuardKilled => guard_killed(stage).await,
            Self::AgentRestarted => agent_restarted(stage).await,
            Self::RegionLost => region_lost(stage).await,
            Self::OldRegionRejoined => old_region_rejoined(stage).await,
            Self::RestoredToAMoment => {
                base_backup(stage).await?;
                restored_to_a_moment(stage).await
            }
        }
    }
}

impl fmt::Display for Story {
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
pub async fn postmaster_killed(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("postmaster_killed").await?;
    let primary = primary(stage).await?;
    let at = stage
        .break_with(&Fault::PostmasterKilled(On::node(&primary)))
        .await?;
    stage.acknowledged_since(at, LONG).await?;
    stage.everybody_follows().await?;
    stage.end(&begun, restarted()).await
}

/// The primary's host is gone: the other zone takes over once the lease has expired, losing no more
/// than is stated before it does, and the old primary follows it once it is back.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn zone_lost(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("zone_lost").await?;
    let primary = primary(stage).await?;
    let at = stage
        .break_with(&Fault::NodeLost(On::node(&primary)))
        .await?;
    let rows_lost = stage.stated_loss().await?;
    stage.taken_over_from(&primary, LONG).await?;
    stage.acknowledged_since(at, LONG).await?;
    stage.undisturbed(LONG).await?;
    stage.say(&format!("the host of node {primary} is back"));
    stage.lab.heal().await?;
    stage.everybody_follows().await?;
    let promise = Promise {
        rows_lost,
        ..taken_over()
    };
    stage.end(&begun, promise).await
}

/// The primary's agent is frozen: guard ends PostgreSQL before the lease is over, the other zone
/// takes over, and the agent finds itself deposed when it goes on.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn agent_frozen(stage: &mut Stage<'_>, frozen_for: Duration) -> anyhow::Result<Verdict> {
    let begun = stage.begin("agent_frozen").await?;
    let primary = primary(stage).await?;
    let at = stage
        .break_with(&Fault::AgentFrozen(On::node(&primary)))
        .await?;
    stage.taken_over_from(&primary, LONG).await?;
    stage.waiting("the end of the freeze", frozen_for);
    stage.reach(at + frozen_for).await;
    stage.say(&format!("the agent of node {primary} goes on"));
    stage.lab.heal().await?;
    stage.everybody_follows().await?;
    stage.end(&begun, taken_over()).await
}

/// The primary's guard is killed: PostgreSQL ends with it, guard and server come back.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn guard_killed(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("guard_killed").await?;
    let primary = primary(stage).await?;
    let at = stage
        .break_with(&Fault::GuardKilled(On::node(&primary)))
        .await?;
    stage
        .acknowledged_since(at + Duration::from_secs(2), LONG)
        .await?;
    stage.everybody_follows().await?;
    stage.end(&begun, taken_over()).await
}

/// The primary's agent is restarted, as by an upgrade: no client notices.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn agent_restarted(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("agent_restarted").await?;
    let before = stage.serving().await?;
    let primary = before.node.clone();
    let node = stage.lab.node(&primary)?;
    let starts = node.agent.starts();
    let at = stage
        .break_with(&Fault::AgentRestarted(On::node(&primary)))
        .await?;
    node.agent.started(starts + 1, LONG).await?;
    // A whole term and more, so that a lease which was not renewed would have run out.
    stage.waiting("more than a term of the lease", Duration::from_secs(15));
    stage.reach(at + Duration::from_secs(15)).await;
    stage
        .acknowledged_since(at + Duration::from_secs(14), LONG)
        .await?;
    let after = stage.serving().await?;
    let mut verdict = stage.end(&begun, uninterrupted()).await?;
    verdict.require_same_server(&before, &after);
    Ok(verdict)
}

pub(crate) async fn primary(stage: &Stage<'_>) -> anyhow::Result<NodeId> {
    stage.lab.wait_for_primary(LONG).await
}

/// Returns the promise that no row is lost and that writes go on within so many seconds. A scenario
/// takes one of [`bounds`] instead, which say of what the seconds are made.
pub const fn within(seconds: u64) -> Promise {
    Promise {
        without_writes: Duration::from_secs(seconds),
        rows_lost: 0,
    }
}
