//! The other region became primary by command, and is lost: no node takes over automatically.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn promoted_region_lost_then_failback_by_command_only() {
    assert_passed(&run_scenario(lab::scenarios::promoted_region_lost).await);
}
