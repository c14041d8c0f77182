//! The old primary returns with rows that nobody else has, and nowhere to save them.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn directory_kept_until_rows_are_saved() {
    kept(&on_a_stage(lab::scenarios::diverged_wal_not_saved).await);
}
