//! `pg_upgrade` gives the database another system identifier.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn database_upgraded_then_lease_replaced() {
    assert_passed(&run_scenario(lab::scenarios::database_upgraded).await);
}
