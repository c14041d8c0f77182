//! kill -9 of agent and guard at once: nobody is left to watch PostgreSQL, so it ends with them.

use lab::fault::{Fault, NodeSelector};

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn postgres_ends_with_them_and_restarts() {
    let result = run_scenario(async |run| {
        let start = run.begin("agent_and_guard_killed").await?;
        let primary = run.announce_primary().await?;
        let at = run
            .inject(&Fault::AgentAndGuardKilled(NodeSelector::node(&primary)))
            .await?;
        let after = at + std::time::Duration::from_secs(2);
        run.wait_for_acknowledged_rows(after, lab::scenarios::scenario_run::SCENARIO_TIMEOUT)
            .await?;
        run.wait_for_standbys().await?;
        run.finish(&start, lab::scenarios::bounds::taken_over())
            .await
    });
    assert_passed(&result.await);
}
