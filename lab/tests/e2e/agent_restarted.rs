//! The primary's agent is restarted, as by an upgrade.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn no_client_notices() {
    assert_passed(&run_scenario(lab::scenarios::agent_restarted).await);
}
