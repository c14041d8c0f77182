//! The whole primary region is gone, the other is promoted by command, and the lost one comes back.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn the_other_region_takes_over_and_the_lost_one_follows() {
    let (lost, rejoined) = on_a_stage(async |stage| {
        let lost = lab::scenarios::region_lost(stage).await?;
        Ok((lost, lab::scenarios::old_region_rejoined(stage).await?))
    })
    .await;
    kept(&lost);
    kept(&rejoined);
}
