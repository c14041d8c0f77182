//! SIGSTOP of PostgreSQL on the primary: it accepts connections and answers nothing. The agent is well,
//! and does not keep a primary that hangs. Its walsenders are frozen with it: a row acknowledged in that
//! moment may be on its disk alone, so the loss is what was stated beforehand.

use lab::fault::{Fault, NodeSelector};

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn hung_primary_released_and_replaced() {
    let result = run_scenario(async |run| {
        let start = run.begin("postgres_frozen").await?;
        let primary = run.announce_primary().await?;
        let at = run
            .inject(&Fault::PostgresFrozen(NodeSelector::node(&primary)))
            .await?;
        let rows_lost = run.forecast_loss().await?;
        run.wait_for_acknowledged_rows(at, lab::scenarios::scenario_run::SCENARIO_TIMEOUT)
            .await?;
        run.lab.heal().await?;
        run.wait_for_standbys().await?;
        let expectation = lab::workload::checker::Expectation {
            rows_lost,
            ..lab::scenarios::bounds::released()
        };
        run.finish(&start, expectation).await
    });
    assert_passed(&result.await);
}
