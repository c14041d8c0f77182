//! kill -9 of the primary's guard: PostgreSQL ends with it, and both come back.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn guard_and_postgresql_come_back() {
    kept(&on_a_stage(lab::scenarios::guard_killed).await);
}
