//! The primary's host is gone, with PostgreSQL, guard and agent.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn another_zone_takes_over_once_the_lease_has_expired() {
    kept(&on_a_stage(lab::scenarios::zone_lost).await);
}
