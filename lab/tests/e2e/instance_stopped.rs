//! The region is cut off and its instance stopped: the promotion does not wait for the lease.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn instance_stopped_then_promoted_before_lease_expiry() {
    assert_passed(&run_scenario(lab::scenarios::instance_stopped).await);
}
