//! What one operator accepted is not accepted for another, nor for a loss that has grown.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn operation_resumed_then_consent_requested_again() {
    assert_passed(&run_scenario(lab::scenarios::consent_not_inherited).await);
}
