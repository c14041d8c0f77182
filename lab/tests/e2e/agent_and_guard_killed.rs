//! kill -9 of agent and guard at once: nobody is left to watch PostgreSQL, so it ends with them.

use lab::fault::{Fault, On};

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_ends_with_them_and_comes_back() {
    let verdict = on_a_stage(async |stage| {
        let begun = stage.begin("agent_and_guard_killed").await?;
        let primary = stage.tell_primary().await?;
        let at = stage
            .break_with(&Fault::AgentAndGuardKilled(On::node(&primary)))
            .await?;
        let after = at + std::time::Duration::from_secs(2);
        stage
            .acknowledged_since(after, lab::scenarios::LONG)
            .await?;
        stage.everybody_follows().await?;
        stage
            .end(&begun, lab::scenarios::bounds::taken_over())
            .await
    });
    kept(&verdict.await);
}
