//! SIGKILL of agent and guard at once: PostgreSQL ends with them.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn postgres_ends_with_them_and_restarts() {
    assert_passed(&run_scenario(lab::scenarios::agent_and_guard_killed).await);
}
