//! A server is started by hand on the data directory of a node whose guard is at work: it is refused,
//! or killed on sight, and never accepts a write.

use std::time::Duration;

use lab::fault::{Fault, On};

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn it_never_accepts_a_write() {
    let verdict = on_a_stage(async |stage| {
        let begun = stage.begin("postgres_started_by_hand").await?;
        let primary = stage.tell_primary().await?;
        let at = stage
            .break_with(&Fault::PostgresStartedByHand(On::node(&primary)))
            .await?;
        stage.reach(at + Duration::from_secs(2)).await;
        stage.lab.heal().await?;

        // Now where it would do harm: guard has ended the old primary, another has taken over, and
        // somebody thinks that the old one should be up.
        stage
            .break_with(&Fault::AgentFrozen(On::node(&primary)))
            .await?;
        stage
            .taken_over_from(&primary, lab::scenarios::LONG)
            .await?;
        let at = stage.memory().now();
        stage
            .break_with(&Fault::PostgresStartedByHand(On::node(&primary)))
            .await?;
        stage.reach(at + Duration::from_secs(3)).await;
        stage.lab.heal().await?;
        stage.everybody_follows().await?;
        stage
            .end(&begun, lab::scenarios::bounds::taken_over())
            .await
    });
    kept(&verdict.await);
}
