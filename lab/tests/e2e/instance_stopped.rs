//! The region is cut off and its instance stopped: the promotion does not wait for the lease.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn region_promoted_without_waiting_for_the_lease() {
    assert_passed(&run_scenario(lab::scenarios::instance_stopped).await);
}
