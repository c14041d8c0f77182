//! kill -9 of the postmaster, with its agent alive.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_starts_again_in_place() {
    kept(&on_a_stage(lab::scenarios::postmaster_killed).await);
}
