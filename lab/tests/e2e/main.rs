//! The stories: each breaks something on a platform of its own and judges what its clients saw.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a story that cannot be told should stop where it is, and tells what happens"
)]

mod agent_and_guard_frozen;
mod agent_and_guard_killed;
mod agent_frozen;
mod agent_restarted;
mod api_under_load;
mod chosen_node_lost;
mod cluster_restored;
mod consent_not_inherited;
mod database_upgraded;
mod diverged_standby_cannot_start;
mod diverged_wal_not_saved;
mod frozen_with_postgres;
mod guard_killed;
mod instance_stopped;
mod lease_cut;
mod lease_moved;
mod lease_store_lost;
mod left_region;
mod node_added;
mod node_lost;
mod operator_killed;
mod postgres_frozen;
mod postgres_started_by_hand;
mod postmaster_killed;
mod region_lost;
mod restored_to_a_moment;
mod standby_away_too_long;
mod two_writers_are_seen;

use lab::Lab;
use lab::cluster::topology::Claim;
use lab::progress::Voice;
use lab::scenarios::scenario_run::Stage;
use lab::workload::checker::Verdict;

/// Plays a story on a platform of its own, and ends the platform whatever came of it.
async fn on_a_stage<T>(story: impl AsyncFnOnce(&mut Stage<'_>) -> anyhow::Result<T>) -> T {
    let voice = Voice::new(|line| println!("{line}"));
    let lab = Lab::start(Claim::any().unwrap(), &voice).await.unwrap();
    let told = match Stage::set(&lab, voice).await {
        Ok(mut stage) => {
            let told = story(&mut stage).await;
            stage.clear().await;
            told
        }
        Err(error) => Err(error),
    };
    lab.stop().await.unwrap();
    told.unwrap_or_else(|error| panic!("the story did not come to its end: {error:#}"))
}

/// Checks that every promise of a story was kept.
#[track_caller]
fn kept(verdict: &Verdict) {
    println!(
        "measured: {}: {:.1} s without writes, {} rows acknowledged, {} lost, {:.1} s with two writers",
        verdict.name,
        verdict.seconds_without_writes,
        verdict.rows_acknowledged,
        verdict.rows_lost,
        verdict.two_writers_seconds
    );
    assert!(
        verdict.passed,
        "{}",
        serde_json::to_string_pretty(verdict).unwrap()
    );
    assert!(
        verdict.rows_acknowledged > 100,
        "hardly anything was written: {verdict:?}"
    );
}
