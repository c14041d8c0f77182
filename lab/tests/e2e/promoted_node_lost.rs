//! The chosen node dies, DNS is away, only an earlier timeline is left: each operation ends.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn another_node_is_promoted_and_an_earlier_timeline_accepted() {
    assert_passed(&run_scenario(lab::scenarios::promoted_node_lost).await);
}
