//! A host's list of nodes lacks one, which becomes primary.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn lists_differ_then_named_and_followed_once_the_same() {
    kept(&on_a_stage(lab::scenarios::lists_of_nodes_differ).await);
}
