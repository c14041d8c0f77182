//! The primary's host is gone, with PostgreSQL, guard and agent.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn zone_lost_then_other_zone_takes_over() {
    assert_passed(&run_scenario(lab::scenarios::zone_lost).await);
}
