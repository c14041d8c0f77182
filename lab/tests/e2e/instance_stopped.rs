//! The region's nodes are cut off and their instances can still be stopped: the fence does not wait for
//! the lease.

use anyhow::{Context as _, ensure};
use lab::fault::{Fault, RegionSelector};
use lab::scenarios::bounds::commanded;
use lab::scenarios::scenario_run::SCENARIO_TIMEOUT;
use lab::workload::checker::Expectation;
use serde_json::Value;

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn region_promoted_without_waiting_for_the_lease() {
    let result = run_scenario(async |run| {
        let start = run.begin("instance_stopped").await?;
        let primary = run.announce_primary().await?;
        run.inject(&Fault::RegionLost(RegionSelector::default()))
            .await?;
        let rows_lost = run.planned_loss().await?;
        let arguments = [
            "promote",
            "--to",
            "c",
            "--stop-instance",
            "--yes",
            "--accept-loss",
            "1GiB",
            "--json",
        ];
        let promote = run.lab.programs().failover_ctl(&arguments);
        let journal: Value = serde_json::from_str(&promote.run(None, SCENARIO_TIMEOUT).await?)?;
        let evidence = journal
            .pointer("/entries/0/evidence")
            .and_then(Value::as_str);
        let evidence = evidence.context("the journal has no evidence for the fence")?;
        ensure!(
            evidence.contains("is stopped"),
            "the fence rests on something else: {evidence}"
        );
        let done_at = run.history().now();
        run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
            .await?;

        let spec = run.lab.topology().node_spec(&primary)?;
        run.announce(&format!(
            "the instance of node {} is started again",
            spec.node
        ));
        run.lab.heal().await?;
        run.wait_for_standbys().await?;
        let expectation = Expectation {
            rows_lost,
            ..commanded()
        };
        run.finish(&start, expectation).await
    });
    assert_passed(&result.await);
}
