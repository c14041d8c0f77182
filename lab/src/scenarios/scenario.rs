//! Scenarios that `lab run` runs by name.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::agent_and_guard_frozen::agent_and_guard_frozen;
use super::agent_and_guard_killed::agent_and_guard_killed;
use super::agent_frozen::{FREEZE_DURATION, agent_frozen};
use super::agent_restarted::agent_restarted;
use super::guard_killed::guard_killed;
use super::instance_stopped::instance_stopped;
use super::lease_store_unreachable::lease_store_unreachable;
use super::operator_killed::operator_killed;
use super::point_in_time_recovery::{base_backup, point_in_time_recovery};
use super::postgres_frozen::postgres_frozen;
use super::postgres_started_by_hand::postgres_started_by_hand;
use super::postmaster_killed::postmaster_killed;
use super::region_lost::region_lost;
use super::region_rejoined::region_rejoined;
use super::scenario_run::ScenarioRun;
use super::split_brain::split_brain;
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
    /// The primary's agent and guard are killed; PostgreSQL ends with them and restarts
    AgentAndGuardKilled,
    /// The primary's agent and guard are frozen for 20 s; the supervisor stops PostgreSQL
    AgentAndGuardFrozen,
    /// The primary's PostgreSQL hangs; its agent releases the lease
    PostgresFrozen,
    /// The primary cannot reach the lease store; it stops and another node takes over
    LeaseStoreUnreachable,
    /// PostgreSQL is started by hand on a guarded node; it never accepts a write
    PostgresStartedByHand,
    /// The primary region is lost; the promotion stops the instance instead of waiting
    InstanceStopped,
    /// The operator is killed during a promotion; `failover-ctl resume` completes it
    OperatorKilled,
    /// Agent, guard and supervisor are frozen; two nodes accept writes and the check fails
    SplitBrain,
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
            Self::AgentAndGuardKilled => agent_and_guard_killed(run).await,
            Self::AgentAndGuardFrozen => agent_and_guard_frozen(run, FREEZE_DURATION).await,
            Self::PostgresFrozen => postgres_frozen(run).await,
            Self::LeaseStoreUnreachable => lease_store_unreachable(run).await,
            Self::PostgresStartedByHand => postgres_started_by_hand(run).await,
            Self::InstanceStopped => instance_stopped(run).await,
            Self::OperatorKilled => operator_killed(run).await,
            Self::SplitBrain => split_brain(run).await,
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
