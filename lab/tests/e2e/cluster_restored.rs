//! Every disk is lost, and the cluster comes back from its backup.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn cluster_restored_then_accepts_writes() {
    assert_passed(&run_scenario(lab::scenarios::cluster_restored).await);
}
