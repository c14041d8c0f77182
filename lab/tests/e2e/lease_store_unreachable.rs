//! The primary cannot reach the lease store: it stops before another node takes over.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn store_unreachable_then_primary_stops_before_takeover() {
    assert_passed(&run_scenario(lab::scenarios::lease_store_unreachable).await);
}
