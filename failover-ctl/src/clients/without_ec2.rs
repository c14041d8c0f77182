//! Stands in for the EC2 client in a build without the feature `ec2`.

use anyhow::bail;
use causeway_runtime::aws::AwsService;

/// Whether this build can stop an instance.
pub(crate) const AVAILABLE: bool = false;

/// Fails: this build has no EC2 client.
#[expect(clippy::unused_async, reason = "the real client waits for EC2")]
pub(crate) async fn stop_instance(_: &AwsService, _: &str) -> anyhow::Result<()> {
    bail!("this build has no EC2 client: use a build with failover-ctl's feature `ec2`")
}
