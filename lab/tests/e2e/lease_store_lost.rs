//! The bucket of the lease is lost, the lease is made anew elsewhere, and the old one comes back.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn old_lease_retired_when_its_store_returns() {
    assert_passed(&run_scenario(lab::scenarios::lease_store_lost).await);
}
