//! A standby returns after the primary has removed WAL that it needs.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn wal_removed_then_standby_rebuilt() {
    assert_passed(&run_scenario(lab::scenarios::wal_removed).await);
}
