//! A host's list of nodes lacks one, which becomes primary.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn difference_reported_until_lists_match() {
    assert_passed(&run_scenario(lab::scenarios::node_lists_differ).await);
}
