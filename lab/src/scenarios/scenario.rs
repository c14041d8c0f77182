//! Scenarios that `lab run` runs by name.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::agent_frozen::agent_frozen;
use super::agent_restarted::agent_restarted;
use super::guard_killed::guard_killed;
use super::point_in_time_recovery::{base_backup, point_in_time_recovery};
use super::postmaster_killed::postmaster_killed;
use super::region_lost::region_lost;
use super::region_rejoined::region_rejoined;
use super::scenario_run::ScenarioRun;
use super::zone_lost::zone_lost;
use crate::workload::checker::CheckResult;

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
    RegionRejoined,
    /// A dropped table is brought back from the other region's bucket
    PointInTimeRecovery,
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
            Self::RegionRejoined => region_rejoined(run).await,
            Self::PointInTimeRecovery => {
                base_backup(run).await?;
                point_in_time_recovery(run).await
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

/// How long the agent of the demo is frozen: twice the lease's term.
const FROZEN_FOR: Duration = Duration::from_secs(20);
