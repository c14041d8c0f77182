//! `pg_upgrade` gives the database another system identifier.

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn lease_renewed_and_standbys_copied() {
    assert_passed(&run_scenario(lab::scenarios::database_upgraded).await);
}
