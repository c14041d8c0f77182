//! The chosen node dies, DNS is away, only an earlier timeline is left: each operation ends.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn another_node_is_promoted_and_an_earlier_timeline_accepted() {
    kept(&on_a_stage(lab::scenarios::chosen_node_lost).await);
}
