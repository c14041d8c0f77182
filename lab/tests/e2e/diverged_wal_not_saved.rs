//! The old primary returns with rows that no other node has, and no space to save them.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn diverged_wal_not_saved_then_directory_kept() {
    assert_passed(&run_scenario(lab::scenarios::diverged_wal_not_saved).await);
}
