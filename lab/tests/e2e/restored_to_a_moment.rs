//! A table is dropped, and brought back from the other region's bucket.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_there_again() {
    let verdict = on_a_stage(async |stage| {
        lab::scenarios::base_backup(stage).await?;
        lab::scenarios::restored_to_a_moment(stage).await
    });
    kept(&verdict.await);
}
