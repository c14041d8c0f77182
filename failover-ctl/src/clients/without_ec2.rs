//! EC2 client of a build without the feature `ec2`, which always fails.

use anyhow::bail;
use causeway_runtime::aws::AwsService;

/// Whether this build has an EC2 client.
pub(crate) const AVAILABLE: bool = false;

/// Fails: this build has no EC2 client.
#[expect(clippy::unused_async, reason = "the real client waits for EC2")]
pub(crate) async fn stop_instance(_: &AwsService, _: &str) -> anyhow::Result<()> {
    bail!("this build has no EC2 client: use a build with failover-ctl's feature `ec2`")
}
