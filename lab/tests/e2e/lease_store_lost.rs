//! The bucket of the lease is lost, the lease is made anew elsewhere, and the old one comes back.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn old_store_returns_then_its_lease_is_retired() {
    assert_passed(&run_scenario(lab::scenarios::lease_store_lost).await);
}
