//! The whole primary region is gone, the other is promoted by command, and the lost one comes back.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn region_lost_then_other_promoted_and_lost_rejoins() {
    let (lost, rejoined) = run_scenario(async |run| {
        let lost = lab::scenarios::region_lost(run).await?;
        Ok((lost, lab::scenarios::region_rejoined(run).await?))
    })
    .await;
    assert_passed(&lost);
    assert_passed(&rejoined);
}
