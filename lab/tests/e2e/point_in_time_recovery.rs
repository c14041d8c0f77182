//! A table is dropped, and brought back from the other region's bucket.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn table_dropped_then_recovered() {
    let result = run_scenario(async |run| {
        lab::scenarios::base_backup(run).await?;
        lab::scenarios::point_in_time_recovery(run).await
    });
    assert_passed(&result.await);
}
