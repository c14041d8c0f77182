//! kill -9 of the postmaster, with its agent alive.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_within_three_seconds() {
    kept(&on_a_stage(lab::stories::postmaster_killed).await);
}
