//! kill -9 of the primary's guard: PostgreSQL ends with it, and both come back.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn guard_killed_then_postgres_restarted() {
    assert_passed(&run_scenario(lab::scenarios::guard_killed).await);
}
