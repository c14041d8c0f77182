//! The operator's process is killed during a promotion, and `resume` completes it.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn operator_killed_then_operation_resumed() {
    assert_passed(&run_scenario(lab::scenarios::operator_killed).await);
}
