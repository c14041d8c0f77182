//! The checker detects split-brain: agent, guard and supervisor are frozen together, which only a watchdog
//! device can fence, so two nodes accept writes. A checker that misses this would prove nothing.

use std::time::Duration;

use lab::fault::{Fault, NodeSelector};
use lab::workload::history::WritePath;

use crate::run_scenario;

#[tokio::test(flavor = "multi_thread")]
async fn old_primary_rows_counted_as_lost() {
    let result = run_scenario(async |run| {
        let start = run.begin("split_brain_detected").await?;
        let primary = run.announce_primary().await?;
        let on = || NodeSelector::node(&primary);
        run.inject(&Fault::SupervisorAsleep(on())).await?;
        let at = run.inject(&Fault::AgentAndGuardFrozen(on())).await?;
        run.wait_for_split_brain(&primary, lab::scenarios::scenario_run::SCENARIO_TIMEOUT)
            .await?;
        // Both go on for long enough that each has written between two writes of the other.
        run.run_until(run.history().now() + Duration::from_secs(2))
            .await;
        run.lab.heal().await?;
        run.wait_for_takeover(&primary, lab::scenarios::scenario_run::SCENARIO_TIMEOUT)
            .await?;
        run.wait_for_acknowledged_rows(at, lab::scenarios::scenario_run::SCENARIO_TIMEOUT)
            .await?;
        run.wait_for_standbys().await?;
        run.finish(&start, lab::scenarios::bounds::taken_over())
            .await
    })
    .await;

    assert!(!result.passed, "{result:?}");
    assert!(result.split_brain_seconds > 0.0, "{result:?}");
    assert!(result.rows_lost > 0, "{result:?}");
    assert!(
        result
            .downtime_seconds_by_path
            .contains_key(&WritePath::Sql)
    );
}
