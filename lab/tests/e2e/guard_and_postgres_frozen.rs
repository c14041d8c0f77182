//! SIGSTOP of guard and PostgreSQL, then of the agent too: neither comes back as a second primary.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn guard_and_postgres_frozen_then_killed_and_replaced() {
    assert_passed(
        &run_scenario(async |run| lab::scenarios::guard_and_postgres_frozen(run).await).await,
    );
}
