//! Every disk is lost, and the cluster comes back from its backup.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn restored_cluster_accepts_writes_and_is_followed() {
    kept(&on_a_stage(lab::scenarios::cluster_restored).await);
}
