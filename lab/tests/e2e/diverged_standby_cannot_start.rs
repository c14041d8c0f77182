//! A standby that has more than the new primary, and cannot start.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn standby_ahead_of_new_primary_then_saved_and_rewound() {
    assert_passed(&run_scenario(lab::scenarios::diverged_standby_cannot_start).await);
}
