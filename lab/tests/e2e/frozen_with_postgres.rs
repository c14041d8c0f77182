//! SIGSTOP of guard and PostgreSQL, then of the agent too: neither comes back as a second primary.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn frozen_primary_is_ended_and_another_writes() {
    kept(&on_a_stage(async |stage| lab::scenarios::frozen_with_postgres(stage).await).await);
}
