//! The primary cannot reach the lease, and everybody else can: it stops before another takes over.

use std::time::Duration;

use lab::fault::{Fault, NodeSelector};

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn primary_stops_before_takeover() {
    let result = run_scenario(async |run| {
        let start = run.begin("lease_store_unreachable").await?;
        let primary = run.announce_primary().await?;
        let at = run
            .inject(&Fault::LeaseCut(NodeSelector::node(&primary)))
            .await?;
        run.wait_for_takeover(&primary, lab::scenarios::scenario_run::SCENARIO_TIMEOUT)
            .await?;
        run.wait_for_acknowledged_rows(
            at + Duration::from_secs(9),
            lab::scenarios::scenario_run::SCENARIO_TIMEOUT,
        )
        .await?;
        run.lab.heal().await?;
        run.wait_for_standbys().await?;
        run.finish(&start, lab::scenarios::bounds::taken_over())
            .await
    });
    assert_passed(&result.await);
}
