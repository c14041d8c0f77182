//! The primary's agent is restarted, as by an upgrade.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn no_client_notices() {
    kept(&on_a_stage(lab::scenarios::agent_restarted).await);
}
