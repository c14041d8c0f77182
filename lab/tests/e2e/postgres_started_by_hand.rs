//! PostgreSQL is started by hand on a node whose guard runs: it never accepts a write.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn server_started_by_hand_then_accepts_no_write() {
    assert_passed(&run_scenario(lab::scenarios::postgres_started_by_hand).await);
}
