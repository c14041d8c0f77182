//! SIGKILL of agent and guard at once: PostgreSQL ends with them.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn agent_and_guard_killed_then_postgres_restarted() {
    assert_passed(&run_scenario(lab::scenarios::agent_and_guard_killed).await);
}
