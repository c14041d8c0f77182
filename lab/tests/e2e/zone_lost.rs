//! The primary's host is gone, with PostgreSQL, guard and agent.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn other_zone_takes_over_after_lease_expiry() {
    assert_passed(&run_scenario(lab::scenarios::zone_lost).await);
}
