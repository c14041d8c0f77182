//! SIGSTOP of the primary's agent and guard for 45 s, under load: the supervisor has guard's deadline.

use std::time::Duration;

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn supervisor_ends_postgresql_before_another_writes() {
    let frozen_for = Duration::from_secs(45);
    let verdict =
        on_a_stage(async |stage| lab::scenarios::agent_and_guard_frozen(stage, frozen_for).await);
    let verdict = verdict.await;
    kept(&verdict);
    assert_eq!(verdict.rows_lost, 0);
}
