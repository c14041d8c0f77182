//! SIGSTOP of PostgreSQL on the primary: it accepts connections and answers nothing. The agent is well,
//! and does not keep a primary that hangs. Its walsenders are frozen with it: a row acknowledged in that
//! moment may be on its disk alone, so the loss is what was stated beforehand.

use lab::fault::{Fault, On};

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_agent_does_not_keep_a_primary_that_hangs() {
    let verdict = on_a_stage(async |stage| {
        let begun = stage.begin("postgres_frozen").await?;
        let primary = stage.tell_primary().await?;
        let at = stage
            .break_with(&Fault::PostgresFrozen(On::node(&primary)))
            .await?;
        let rows_lost = stage.loss_at_risk().await?;
        stage.acknowledged_since(at, lab::scenarios::LONG).await?;
        stage.lab.heal().await?;
        stage.everybody_follows().await?;
        let promise = lab::workload::checker::Promise {
            rows_lost,
            ..lab::scenarios::bounds::released()
        };
        stage.end(&begun, promise).await
    });
    kept(&verdict.await);
}
