//! The lease is moved to another bucket, while a stopped node still names the old one.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn node_on_the_old_bucket_then_holds_and_says_so() {
    let moved = on_a_stage(async |stage| {
        lab::scenarios::key_kept_from_postgres(stage).await?;
        lab::scenarios::lease_moved(stage).await
    });
    kept(&moved.await);
}
