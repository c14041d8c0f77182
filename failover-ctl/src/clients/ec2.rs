//! The way of making sure that needs nothing from the node: stopping its instance.

use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{InstanceStateName, Reservation};
use causeway_runtime::aws::{self, AwsService, AwsTimeouts, SdkRetries};
use tokio::time::{self, Instant};

/// Whether this build can stop an instance.
pub(crate) const AVAILABLE: bool = true;

/// How long one call may take.
const PATIENCE: AwsTimeouts = AwsTimeouts {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(10),
};

/// How often EC2 is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long an instance may take to stop when it is forced to.
const STOPS_WITHIN: Duration = Duration::from_mins(5);

/// Stops an instance without waiting for its operating system, and waits until EC2 says that it is
/// stopped.
///
/// # Errors
///
/// When EC2 refuses, does not answer, or the instance is not stopped within five minutes.
pub(crate) async fn stop_instance(service: &AwsService, instance: &str) -> anyhow::Result<()> {
    let config = aws::config(service, SdkRetries::Standard, PATIENCE).await;
    let client = Client::new(&config);
    let stopping = client
        .stop_instances()
        .instance_ids(instance)
        .force(true)
        .send()
        .await;
    stopping
        .map_err(|error| anyhow::anyhow!("{}", aws_sdk_ec2::error::DisplayErrorContext(&error)))
        .context("EC2 did not stop it")?;
    let deadline = Instant::now() + STOPS_WITHIN;
    loop {
        let answer = client
            .describe_instances()
            .instance_ids(instance)
            .send()
            .await;
        let answer = answer
            .map_err(|error| anyhow::anyhow!("{}", aws_sdk_ec2::error::DisplayErrorContext(&error)))
            .context("EC2 did not say whether it is stopped")?;
        let instances = answer
            .reservations()
            .iter()
            .flat_map(Reservation::instances);
        let states: Vec<_> = instances
            .filter_map(|instance| instance.state()?.name().cloned())
            .collect();
        let ended = |state: &InstanceStateName| {
            matches!(
                state,
                InstanceStateName::Stopped | InstanceStateName::Terminated
            )
        };
        if !states.is_empty() && states.iter().all(ended) {
            return Ok(());
        }
        if Instant::now() + ASK_EVERY >= deadline {
            bail!("`{instance}` is not stopped after {STOPS_WITHIN:?}");
        }
        time::sleep(ASK_EVERY).await;
    }
}
