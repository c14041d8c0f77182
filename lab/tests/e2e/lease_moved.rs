//! The lease is moved to another bucket, while a stopped node still names the old one.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn lease_moved_then_node_on_old_bucket_reports_it() {
    let moved = run_scenario(async |run| {
        lab::scenarios::signing_key_unreadable_through_postgres(run).await?;
        lab::scenarios::lease_moved(run).await
    });
    assert_passed(&moved.await);
}
