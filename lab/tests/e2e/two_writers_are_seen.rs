//! The judge is judged: agent, guard and its supervisor stand still together, which nothing but a watchdog
//! device can answer, so two nodes accept writes at once. A lab that does not see that would see nothing.

use std::time::Duration;

use lab::fault::{Fault, On};
use lab::workload::history::Door;

use crate::on_a_stage;

#[tokio::test(flavor = "multi_thread")]
async fn and_the_rows_that_the_old_primary_took_are_counted_as_lost() {
    let verdict = on_a_stage(async |stage| {
        let begun = stage.begin("two_writers_are_seen").await?;
        let primary = stage.tell_primary().await?;
        let on = || On::node(&primary);
        stage.break_with(&Fault::SupervisorAsleep(on())).await?;
        let at = stage.break_with(&Fault::AgentAndGuardFrozen(on())).await?;
        stage
            .second_writer_beside(&primary, lab::scenarios::LONG)
            .await?;
        // Both go on for long enough that each has written between two writes of the other.
        stage
            .reach(stage.memory().now() + Duration::from_secs(2))
            .await;
        stage.lab.heal().await?;
        stage
            .taken_over_from(&primary, lab::scenarios::LONG)
            .await?;
        stage.acknowledged_since(at, lab::scenarios::LONG).await?;
        stage.everybody_follows().await?;
        stage
            .end(&begun, lab::scenarios::bounds::taken_over())
            .await
    })
    .await;

    assert!(!verdict.passed, "{verdict:?}");
    assert!(verdict.two_writers_seconds > 0.0, "{verdict:?}");
    assert!(verdict.rows_lost > 0, "{verdict:?}");
    assert!(
        verdict
            .seconds_without_writes_through
            .contains_key(&Door::Sql)
    );
}
