//! SIGSTOP of the primary's agent for 45 s, under load: guard ends PostgreSQL in time.

use std::time::Duration;

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_beside_the_new_primary() {
    let result =
        run_scenario(async |run| lab::scenarios::agent_frozen(run, Duration::from_secs(45)).await);
    let result = result.await;
    assert_passed(&result);
    assert_eq!(result.rows_lost, 0);
}
