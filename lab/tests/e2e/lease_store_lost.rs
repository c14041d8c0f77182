//! The bucket of the lease is lost, the lease is made anew elsewhere, and the old one comes back.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn old_lease_retired_when_its_store_returns() {
    kept(&on_a_stage(lab::scenarios::lease_store_lost).await);
}
