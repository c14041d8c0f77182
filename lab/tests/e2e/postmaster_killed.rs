//! kill -9 of the postmaster, with its agent alive.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn postmaster_killed_then_restarted_in_place() {
    assert_passed(&run_scenario(lab::scenarios::postmaster_killed).await);
}
