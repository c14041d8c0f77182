//! The other region became primary by command, and is lost: nobody takes it back automatically.

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn left_region_then_taken_back_by_command_only() {
    kept(&on_a_stage(lab::scenarios::left_region_by_command_only).await);
}
