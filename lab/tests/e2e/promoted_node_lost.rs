//! The chosen node dies, DNS is away, only an earlier timeline is left: each operation ends.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn promoted_node_lost_then_other_node_takes_over() {
    assert_passed(&run_scenario(lab::scenarios::promoted_node_lost).await);
}
