//! The region's nodes are cut off and their instances can still be stopped: the fence does not wait for
//! the lease.

use anyhow::{Context as _, ensure};
use lab::fault::{Fault, In};
use lab::scenarios::LONG;
use lab::scenarios::bounds::commanded;
use lab::workload::checker::Promise;
use serde_json::Value;

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_is_a_fence_that_need_not_wait() {
    let verdict = on_a_stage(async |stage| {
        let begun = stage.begin("instance_stopped").await?;
        let primary = stage.tell_primary().await?;
        stage.break_with(&Fault::RegionLost(In::default())).await?;
        let rows_lost = stage.stated_loss().await?;
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
        let promote = stage.lab.programs().failover_ctl(&arguments);
        let journal: Value = serde_json::from_str(&promote.run(None, LONG).await?)?;
        let evidence = journal
            .pointer("/entries/0/evidence")
            .and_then(Value::as_str);
        let evidence = evidence.context("the journal has no evidence for the fence")?;
        ensure!(
            evidence.contains("is stopped"),
            "the fence rests on something else: {evidence}"
        );
        let done_at = stage.memory().now();
        stage.acknowledged_since(done_at, LONG).await?;

        let place = stage.lab.topology().place(&primary)?;
        stage.say(&format!(
            "the instance of node {} is started again",
            place.node
        ));
        stage.lab.heal().await?;
        stage.everybody_follows().await?;
        let promise = Promise {
            rows_lost,
            ..commanded()
        };
        stage.end(&begun, promise).await
    });
    kept(&verdict.await);
}
