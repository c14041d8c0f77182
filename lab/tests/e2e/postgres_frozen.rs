//! SIGSTOP of PostgreSQL on the primary: the lease is released, and another node takes over.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn primary_hangs_then_lease_released_and_replaced() {
    assert_passed(&run_scenario(lab::scenarios::postgres_frozen).await);
}
