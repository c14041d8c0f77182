//! Fencing by stopping a node's EC2 instance.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{InstanceStateName, Reservation};
use causeway_runtime::aws::{self, AwsService, AwsTimeouts, SdkRetries};
use causeway_runtime::poll;
use tokio::time::Instant;

/// Whether this build has an EC2 client.
pub(crate) const AVAILABLE: bool = true;

/// Timeouts of a request.
const TIMEOUTS: AwsTimeouts = AwsTimeouts {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(10),
};

/// Interval at which the state of the instance is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Time for a forced stop of an instance.
const STOP_TIMEOUT: Duration = Duration::from_mins(5);

/// Forces an instance to stop, and waits until EC2 reports it as stopped.
///
/// # Errors
///
/// When EC2 returns an error or does not respond, or the instance is not stopped within five minutes.
pub(crate) async fn stop_instance(service: &AwsService, instance: &str) -> anyhow::Result<()> {
    let config = aws::config(service, SdkRetries::Standard, TIMEOUTS).await;
    let client = Client::new(&config);
    let stopping = client
        .stop_instances()
        .instance_ids(instance)
        .force(true)
        .send()
        .await;
    stopping
        .map_err(|error| anyhow::anyhow!("{}", aws_sdk_ec2::error::DisplayErrorContext(&error)))
        .with_context(|| format!("could not stop the EC2 instance `{instance}`"))?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    let polled = poll::until(deadline, POLL_INTERVAL, async || {
        match states(&client, instance).await {
            Ok(states) if are_stopped(&states) => Break(Ok(())),
            Ok(states) => Continue(states),
            Err(error) => Break(Err(error)),
        }
    });
    match polled.await {
        Break(stopped) => stopped,
        Continue(states) => bail!(
            "the EC2 instance `{instance}` is not stopped after {STOP_TIMEOUT:?}; last state: {states:?}"
        ),
    }
}

async fn states(client: &Client, instance: &str) -> anyhow::Result<Vec<InstanceStateName>> {
    let answer = client
        .describe_instances()
        .instance_ids(instance)
        .send()
        .await
        .map_err(|error| anyhow::anyhow!("{}", aws_sdk_ec2::error::DisplayErrorContext(&error)))
        .with_context(|| format!("could not read the state of the EC2 instance `{instance}`"))?;
    let reservations = answer.reservations().iter();
    let instances = reservations.flat_map(Reservation::instances);
    Ok(instances
        .filter_map(|instance| instance.state()?.name().cloned())
        .collect())
}

fn are_stopped(states: &[InstanceStateName]) -> bool {
    let is_stopped = |state: &InstanceStateName| {
        matches!(
            state,
            InstanceStateName::Stopped | InstanceStateName::Terminated
        )
    };
    !states.is_empty() && states.iter().all(is_stopped)
}
