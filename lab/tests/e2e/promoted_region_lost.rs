//! The other region became primary by command, and is lost: nobody takes it back automatically.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn left_region_then_taken_back_by_command_only() {
    assert_passed(&run_scenario(lab::scenarios::promoted_region_lost).await);
}
