//! A server is started by hand on the data directory of a node whose guard is at work: it is refused,
//! or killed on sight, and never accepts a write.

use std::time::Duration;

use lab::fault::{Fault, NodeSelector};

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn unmanaged_server_never_accepts_a_write() {
    let result = run_scenario(async |run| {
        let start = run.begin("postgres_started_by_hand").await?;
        let primary = run.announce_primary().await?;
        let at = run
            .inject(&Fault::PostgresStartedByHand(NodeSelector::node(&primary)))
            .await?;
        run.run_until(at + Duration::from_secs(2)).await;
        run.lab.heal().await?;

        // Now where it would do harm: guard has ended the old primary, another has taken over, and
        // somebody thinks that the old one should be up.
        run.inject(&Fault::AgentFrozen(NodeSelector::node(&primary)))
            .await?;
        run.wait_for_takeover(&primary, lab::scenarios::scenario_run::SCENARIO_TIMEOUT)
            .await?;
        let at = run.history().now();
        run.inject(&Fault::PostgresStartedByHand(NodeSelector::node(&primary)))
            .await?;
        run.run_until(at + Duration::from_secs(3)).await;
        run.lab.heal().await?;
        run.wait_for_standbys().await?;
        run.finish(&start, lab::scenarios::bounds::taken_over())
            .await
    });
    assert_passed(&result.await);
}
