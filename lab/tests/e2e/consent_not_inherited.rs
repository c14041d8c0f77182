//! What one operator accepted is not accepted for another, nor for a loss that has grown.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn resume_asks_again_and_the_loss_is_stated_again() {
    kept(&on_a_stage(lab::scenarios::consent_not_inherited).await);
}
