//! SIGSTOP of the primary's agent for 45 s, under load: guard ends PostgreSQL in time.

use std::time::Duration;

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn agent_frozen_then_guard_stops_postgres_in_time() {
    let result =
        run_scenario(async |run| lab::scenarios::agent_frozen(run, Duration::from_secs(45)).await);
    let result = result.await;
    assert_passed(&result);
    assert_eq!(result.rows_lost, 0);
}
