//! A host's list of nodes lacks one, which becomes primary.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn lists_differ_then_named_and_followed_once_the_same() {
    assert_passed(&run_scenario(lab::scenarios::node_lists_differ).await);
}
