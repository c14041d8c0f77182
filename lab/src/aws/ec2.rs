//! EC2, simulated by moto: an instance for each node, whose host is lost when the instance is
//! stopped.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_core::Region;
use causeway_runtime::http_client::HttpClient;
use causeway_runtime::shutdown::Tasks;
use hyper::Request;
use tokio::time;

use crate::cluster::node::Node;

/// Interval between two polls of the instance states.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Timeout of moto: it runs one request at a time, and loads its table of instance types at the
/// first one, which took longer than 10 s at a load of 13.
const TIMEOUT: Duration = Duration::from_mins(1);

/// EC2 client for every region.
#[derive(Clone, Debug)]
pub struct Ec2 {
    http: HttpClient,
    address: SocketAddr,
}

impl Ec2 {
    /// Returns a client of the moto at `address`.
    pub fn at(address: SocketAddr) -> Self {
        let http = HttpClient::new(TIMEOUT);
        Self { http, address }
    }

    /// Runs an instance, and returns its ID.
    ///
    /// # Errors
    ///
    /// When the response of EC2 has no instance ID.
    pub async fn run_instance(&self, region: &Region) -> anyhow::Result<String> {
        let answer = self
            .call(region, "RunInstances&ImageId=ami-0&MinCount=1&MaxCount=1")
            .await?;
        instances(&answer)
            .pop_first()
            .context("the response of EC2 has no instance ID")
    }

    /// Starts a stopped instance.
    ///
    /// # Errors
    ///
    /// When EC2 rejects the request.
    pub async fn start_instance(&self, region: &Region, instance: &str) -> anyhow::Result<()> {
        self.call(region, &format!("StartInstances&InstanceId.1={instance}"))
            .await
            .map(drop)
    }

    /// Returns the stopped instances of a region.
    ///
    /// # Errors
    ///
    /// When EC2 does not respond.
    pub async fn stopped(&self, region: &Region) -> anyhow::Result<BTreeSet<String>> {
        let filter = "Filter.1.Name=instance-state-name&Filter.1.Value.1=stopped";
        let answer = self
            .call(region, &format!("DescribeInstances&{filter}"))
            .await?;
        Ok(instances(&answer))
    }

    /// Ends all processes of a node while its instance is stopped, until the lab ends.
    pub fn watch(&self, nodes: &Arc<[Node]>, tasks: &Tasks) {
        let (ec2, nodes) = (self.clone(), Arc::clone(nodes));
        tasks.start("ec2", |stop| async move {
            let mut known = BTreeSet::new();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = time::sleep(POLL_INTERVAL) => {}
                }
                for node in nodes.iter() {
                    let stopped = match ec2.stopped(&node.spec.region).await {
                        Ok(stopped) => stopped,
                        // An empty set would count a stopped instance as running.
                        Err(error) => {
                            tracing::debug!(error = format!("{error:#}"), "EC2 did not respond");
                            continue;
                        }
                    };
                    let is_stopped = stopped.contains(&node.spec.instance);
                    if !is_stopped {
                        known.remove(&node.spec.node);
                    } else if known.insert(node.spec.node.clone())
                        && let Err(error) = node.end_host().await
                    {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "host of a stopped instance not ended"
                        );
                    }
                }
            }
        });
    }

    async fn call(&self, region: &Region, action: &str) -> anyhow::Result<String> {
        // moto reads region and service from the signature's scope, and does not verify the
        // signature.
        let scope = format!("Credential=LAB/20260101/{region}/ec2/aws4_request");
        let request = Request::post(format!("http://{}/", self.address))
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"),
            )
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("Version=2016-11-15&Action={action}"))?;
        let response = self.http.send(request, TIMEOUT).await;
        let response = response.context("could not query EC2")?;
        let body = String::from_utf8_lossy(response.body()).into_owned();
        if !response.status().is_success() {
            bail!("EC2 responded {}: {body}", response.status());
        }
        Ok(body)
    }
}

/// Returns the instance IDs in a response.
fn instances(answer: &str) -> BTreeSet<String> {
    let parts = answer.split("<instanceId>").skip(1);
    parts
        .filter_map(|part| part.split_once('<'))
        .map(|(id, _)| id.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_with_instances_then_ids_parsed() {
        let answer = "<item><instanceId>i-2</instanceId></item><item><instanceId>i-1</instanceId>";
        assert_eq!(
            instances(answer),
            BTreeSet::from(["i-1".to_owned(), "i-2".to_owned()])
        );
        assert!(instances("<reservationSet/>").is_empty());
    }
}
