//! Metrics of the agents while a standby is cut off, the primary is lost and the cluster is paused.

use crate::run_scenario;

#[tokio::test(flavor = "multi_thread")]
async fn faults_then_metrics_of_every_agent_follow() {
    run_scenario(lab::scenarios::agent_metrics).await;
}
