//! End-to-end tests: each runs a scenario on a lab of its own and checks the clients' history.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a scenario that cannot be completed fails the test, and prints its progress"
)]

mod agent_and_guard_frozen;
mod agent_and_guard_killed;
mod agent_frozen;
mod agent_metrics;
mod agent_restarted;
mod api_under_load;
mod cluster_restored;
mod consent_not_inherited;
mod database_upgraded;
mod diverged_standby_cannot_start;
mod diverged_wal_not_saved;
mod exec;
mod guard_and_postgres_frozen;
mod guard_killed;
mod instance_stopped;
mod lease_moved;
mod lease_store_lost;
mod lease_store_unreachable;
mod node_lists_differ;
mod operator_killed;
mod point_in_time_recovery;
mod postgres_frozen;
mod postgres_started_by_hand;
mod postmaster_killed;
mod promoted_node_lost;
mod promoted_region_lost;
mod region_lost;
mod split_brain_detected;
mod wal_removed;
mod zone_lost;

use lab::Lab;
use lab::cluster::lab_lock::LabLock;
use lab::progress::ProgressReporter;
use lab::scenarios::scenario_run::ScenarioRun;
use lab::workload::checker::CheckResult;

/// Runs a scenario on a lab of its own, and stops the lab whatever the outcome.
async fn run_scenario<T>(
    scenario: impl AsyncFnOnce(&mut ScenarioRun<'_>) -> anyhow::Result<T>,
) -> T {
    let progress = ProgressReporter::new(|line| println!("{line}"));
    let lab = Lab::start(LabLock::acquire_any().unwrap(), &progress)
        .await
        .unwrap();
    let outcome = match ScenarioRun::start(&lab, progress).await {
        Ok(mut run) => {
            let outcome = scenario(&mut run).await;
            run.stop().await;
            outcome
        }
        Err(error) => Err(error),
    };
    lab.stop().await.unwrap();
    outcome.unwrap_or_else(|error| panic!("the scenario could not be completed: {error:#}"))
}

/// Asserts that a scenario met its expectation.
#[track_caller]
fn assert_passed(result: &CheckResult) {
    println!(
        "measured: {}: {:.1} s of downtime, {} rows acknowledged, {} lost, {:.1} s of split-brain",
        result.name,
        result.downtime_seconds,
        result.rows_acknowledged,
        result.rows_lost,
        result.split_brain_seconds
    );
    assert!(
        result.passed,
        "{}",
        serde_json::to_string_pretty(result).unwrap()
    );
    assert!(result.rows_acknowledged > 100, "too few writes: {result:?}");
}
