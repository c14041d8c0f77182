//! SIGSTOP of the primary's agent for 45 s, under load: guard ends PostgreSQL in time.

use std::time::Duration;

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_beside_the_new_primary() {
    let verdict = on_a_stage(async |stage| {
        lab::scenarios::agent_frozen(stage, Duration::from_secs(45)).await
    });
    let verdict = verdict.await;
    kept(&verdict);
    assert_eq!(verdict.rows_lost, 0);
}
