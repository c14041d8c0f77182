//! A host's list of nodes lacks one, which becomes primary.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn node_lists_differ_then_reported_until_they_match() {
    assert_passed(&run_scenario(lab::scenarios::node_lists_differ).await);
}
