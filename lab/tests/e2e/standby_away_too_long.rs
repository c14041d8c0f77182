//! A standby returns after the primary has removed WAL that it needs.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn standby_past_wal_keep_size_then_copied() {
    kept(&on_a_stage(lab::scenarios::standby_away_too_long).await);
}
