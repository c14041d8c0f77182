//! The primary's host is gone, with PostgreSQL, guard and agent.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn another_zone_takes_over_once_the_lease_has_expired() {
    assert_passed(&run_scenario(lab::scenarios::zone_lost).await);
}
