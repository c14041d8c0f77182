//! The primary's agent is restarted, as by an upgrade.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn agent_restarted_then_no_downtime() {
    assert_passed(&run_scenario(lab::scenarios::agent_restarted).await);
}
