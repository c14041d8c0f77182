//! `pg_upgrade` gives the database another system identifier.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn lease_renewed_and_standbys_copied() {
    kept(&on_a_stage(lab::scenarios::database_upgraded).await);
}
