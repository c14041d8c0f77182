//! The operator's process is killed during a promotion, and `resume` completes it.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn second_operator_rejected_and_resume_finishes() {
    assert_passed(&run_scenario(lab::scenarios::operator_killed).await);
}
