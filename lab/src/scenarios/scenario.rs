//! Scenarios that `lab run` runs by name.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::agent_frozen::{FREEZE_DURATION, agent_frozen};
use super::agent_restarted::agent_restarted;
use super::guard_killed::guard_killed;
use super::point_in_time_recovery::{base_backup, point_in_time_recovery};
use super::postmaster_killed::postmaster_killed;
use super::region_lost::region_lost;
use super::region_rejoined::region_rejoined;
use super::scenario_run::ScenarioRun;
use super::zone_lost::zone_lost;
use crate::workload::checker::CheckResult;

/// A scenario that can be run by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Scenario {
    /// The postmaster is killed; its agent and guard are alive
    PostmasterKilled,
    /// The primary's host is lost; the other zone takes over automatically
    ZoneLost,
    /// The primary's agent is frozen for 20 s; its guard stops PostgreSQL
    AgentFrozen,
    /// The primary's guard is killed; PostgreSQL ends with it and restarts
    GuardKilled,
    /// The primary's agent is restarted, as by an upgrade; no client notices
    AgentRestarted,
    /// The primary region is lost; the other one is promoted by command
    RegionLost,
    /// The lost region comes back and rejoins; run it after `region_lost`
    RegionRejoined,
    /// A table is dropped; a copy of the database is recovered to the time before
    PointInTimeRecovery,
}

impl Scenario {
    /// Runs the scenario.
    ///
    /// # Errors
    ///
    /// When it cannot be completed.
    pub async fn run(self, run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
        match self {
            Self::PostmasterKilled => postmaster_killed(run).await,
            Self::ZoneLost => zone_lost(run).await,
            Self::AgentFrozen => agent_frozen(run, FREEZE_DURATION).await,
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
        let value = self.to_possible_value().ok_or(fmt::Error)?;
        f.pad(value.get_name())
    }
}
