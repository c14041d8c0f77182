//! SIGSTOP of the primary's agent and guard for 45 s, under load: the supervisor has guard's deadline.

use std::time::Duration;

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn agent_and_guard_frozen_then_postgres_killed_in_time() {
    let frozen_for = Duration::from_secs(45);
    let result =
        run_scenario(async |run| lab::scenarios::agent_and_guard_frozen(run, frozen_for).await);
    assert_passed(&result.await);
}
