//! Metrics of the agents while a standby is cut off, the primary is lost and the cluster is paused.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use causeway_core::NodeId;
use serde_json::{Value, json};

use super::metric_samples::{Samples, require};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::standby_recovery::wait_for_all_standbys;
use crate::cluster::node::Node;
use crate::cluster::topology::{CLUSTER, LEASE_BUCKET};
use crate::fault::{Fault, NodeSelector};
use crate::wait;

/// Upper bound of `failover_unreplicated_seconds` of a standby that streams: 5 s, and a busy machine.
const STREAMING_SECONDS: f64 = 10.0;

/// Key of the lease.
fn lease_key() -> String {
    format!("clusters/{CLUSTER}/lease")
}

/// A standby is cut off, then the primary is lost while Route 53 is silent, then the cluster is paused without a
/// primary. Each agent exports every declared metric throughout, and the values follow.
///
/// # Errors
///
/// When the scenario cannot be completed, or a metric differs from the fault's effect.
pub async fn agent_metrics(run: &mut ScenarioRun<'_>) -> anyhow::Result<()> {
    run.begin("agent_metrics").await?;
    let primary = run.primary().await?;
    let region = &run.lab.node(&primary)?.spec.region;
    let others = || {
        run.lab
            .nodes()
            .iter()
            .filter(|node| node.spec.node != primary)
    };
    let standby = others().find(|node| node.spec.region == *region);
    let standby = standby.context("the primary region has no standby")?;
    let remote = others().find(|node| node.spec.region != *region);
    let remote = remote.context("the other region has no standby")?;

    for node in run.lab.nodes() {
        Samples::of(node).await?.check_declarations()?;
    }
    check_roles(run, &primary, standby, remote).await?;
    cut_standby_off(run, standby).await?;
    lose_primary(run, &primary, standby, remote).await?;
    pause(run, standby, run.lab.node(&primary)?).await
}

/// Checks the values while every standby streams.
async fn check_roles(
    run: &ScenarioRun<'_>,
    primary: &NodeId,
    standby: &Node,
    remote: &Node,
) -> anyhow::Result<()> {
    let holder = run.lab.node(primary)?;
    wait_for(holder, "a primary's metrics", |found| {
        found.is("failover_is_primary", 1.0)?;
        found.is("failover_unreplicated_seconds", 0.0)?;
        found.is("failover_replay_lag_seconds", 0.0)?;
        found.is("failover_dns_mismatch", 0.0)?;
        found.is("failover_dns_unresolved", 0.0)?;
        found.is("failover_automatic", 1.0)?;
        found.is("failover_watchdog_unarmed", 0.0)?;
        found.obstacle(None)?;
        let since = found.value("failover_writable_since_timestamp_seconds")?;
        let verified = found.value("failover_write_verified_timestamp_seconds")?;
        let now = unix_time();
        let plausible = since > 0.0 && since <= verified + 1.0 && verified > now - 10.0;
        require(
            plausible && verified <= now,
            format!("{since}, {verified}, now {now}"),
        )
    })
    .await?;
    for (node, obstacle) in [(standby, None), (remote, Some("manual-only"))] {
        wait_for(node, "a streaming standby's metrics", |found| {
            found.is("failover_is_streaming", 1.0)?;
            found.is("failover_write_verified_timestamp_seconds", 0.0)?;
            found.is("failover_writable_since_timestamp_seconds", 0.0)?;
            found.at_most("failover_unreplicated_seconds", STREAMING_SECONDS)?;
            found.at_most("failover_replay_lag_seconds", STREAMING_SECONDS)?;
            found.obstacle(obstacle)?;
            found.holder(primary)
        })
        .await?;
    }
    for node in run.lab.nodes() {
        wait_for(node, "a healthy node's metrics", |found| {
            found.is("failover_nodes", 3.0)?;
            found.is("failover_lease_duration_seconds", 10.0)?;
            found.is("failover_lease_stop_deadline_seconds", 7.3)?;
            found.is("failover_lease_store_reachable", 1.0)?;
            found.is("failover_postgres_responding", 1.0)?;
            found.is("failover_postgres_unfenced", 0.0)?;
            found.is("failover_standby_setup", 0.0)?;
            found.is("failover_paused", 0.0)
        })
        .await?;
    }
    Ok(())
}

async fn cut_standby_off(run: &ScenarioRun<'_>, standby: &Node) -> anyhow::Result<()> {
    let name = &standby.spec.node;
    run.inject(&Fault::NodeIsolated(NodeSelector::node(name)))
        .await?;
    wait_for(
        standby,
        "metrics of a standby that does not stream",
        |found| {
            found.is("failover_is_streaming", 0.0)?;
            found.is("failover_lease_store_reachable", 1.0)?;
            found.more_than("failover_unreplicated_seconds", 2.0 * STREAMING_SECONDS)?;
            found.more_than("failover_replay_lag_seconds", STREAMING_SECONDS)
        },
    )
    .await?;
    run.lab.heal().await?;
    wait_for(standby, "the standby to catch up", |found| {
        found.is("failover_is_streaming", 1.0)?;
        found.at_most("failover_unreplicated_seconds", STREAMING_SECONDS)?;
        found.at_most("failover_replay_lag_seconds", STREAMING_SECONDS)
    })
    .await
}

async fn lose_primary(
    run: &ScenarioRun<'_>,
    primary: &NodeId,
    standby: &Node,
    remote: &Node,
) -> anyhow::Result<()> {
    let before = unix_time();
    run.inject(&Fault::DnsThrottled).await?;
    run.inject(&Fault::NodeLost(NodeSelector::node(primary)))
        .await?;
    wait_for(standby, "the new primary's metrics", |found| {
        found.is("failover_is_primary", 1.0)?;
        found.is("failover_unreplicated_seconds", 0.0)?;
        found.is("failover_dns_mismatch", 1.0)?;
        found.is("failover_dns_unresolved", 0.0)?;
        found.obstacle(None)?;
        found.holder(&standby.spec.node)?;
        found.more_than("failover_writable_since_timestamp_seconds", before)?;
        found.more_than("failover_write_verified_timestamp_seconds", before)
    })
    .await?;
    wait_for(remote, "the new holder", |found| {
        found.holder(&standby.spec.node)?;
        found.obstacle(Some("manual-only"))
    })
    .await?;
    // The lab's resolver reads the records from Route 53, and does not answer then.
    run.inject(&Fault::DnsSilent).await?;
    wait_for(standby, "the silent resolver", |found| {
        found.is("failover_dns_unresolved", 1.0)?;
        found.is("failover_dns_mismatch", 1.0)
    })
    .await?;
    run.lab.heal().await?;
    wait_for(standby, "the record to lead to the new primary", |found| {
        found.is("failover_dns_unresolved", 0.0)?;
        found.is("failover_dns_mismatch", 0.0)
    })
    .await?;
    wait_for_all_standbys(run).await?;
    let old = run.lab.node(primary)?;
    wait_for(old, "the old primary's metrics", |found| {
        found.is("failover_is_standby", 1.0)?;
        found.is("failover_write_verified_timestamp_seconds", 0.0)?;
        found.holder(&standby.spec.node)?;
        found
            .check_declarations()
            .map_err(|error| format!("{error:#}"))
    })
    .await
}

/// Pauses the cluster while its primary is lost and the candidate cannot reach the lease store.
async fn pause(run: &ScenarioRun<'_>, primary: &Node, candidate: &Node) -> anyhow::Result<()> {
    let on = |node: &Node| NodeSelector::node(&node.spec.node);
    run.inject(&Fault::LeaseCut(on(candidate))).await?;
    run.inject(&Fault::NodeLost(on(primary))).await?;
    replace_state(run, "paused").await?;
    wait_for(candidate, "metrics without the lease store", |found| {
        found.is("failover_lease_store_reachable", 0.0)?;
        found.is("failover_paused", 0.0)
    })
    .await?;
    run.lab.heal().await?;
    for node in run.lab.nodes() {
        wait_for(node, "a paused node's metrics", |found| {
            found.is("failover_paused", 1.0)?;
            found.is("failover_is_primary", 0.0)?;
            found.is("failover_is_candidate", 0.0)?;
            found.is("failover_lease_store_reachable", 1.0)?;
            found.obstacle(Some("paused"))
        })
        .await?;
    }
    replace_state(run, "held").await?;
    for node in run.lab.nodes() {
        wait_for(node, "metrics after the pause", |found| {
            found.is("failover_paused", 0.0)?;
            found.holder(&primary.spec.node)
        })
        .await?;
    }
    run.wait_for_standbys().await
}

/// Replaces the state in the lease, while no holder renews it.
async fn replace_state(run: &ScenarioRun<'_>, state: &str) -> anyhow::Result<()> {
    let store = run.lab.programs().lease_store();
    let read = store.get_object().bucket(LEASE_BUCKET).key(lease_key());
    let body = read.send().await?.body.collect().await?.into_bytes();
    let mut record: Value = serde_json::from_slice(&body)?;
    let sequence = record.get("sequence").and_then(Value::as_u64);
    let fields = record.as_object_mut().context("the lease is no object")?;
    fields.insert("state".to_owned(), json!(state));
    fields.insert("nonce".to_owned(), json!(format!("agent-metrics-{state}")));
    fields.insert(
        "sequence".to_owned(),
        json!(sequence.context("no sequence")? + 1),
    );
    let write = store.put_object().bucket(LEASE_BUCKET).key(lease_key());
    write
        .body(record.to_string().into_bytes().into())
        .send()
        .await?;
    run.announce(&format!("the lease is {state}"));
    Ok(())
}

/// Waits until a node's metrics pass a check.
async fn wait_for(
    node: &Node,
    what: &str,
    check: impl Fn(&Samples) -> Result<(), String>,
) -> anyhow::Result<()> {
    let what = format!("{what} at `{}`", node.spec.node);
    let passed = wait::until(&what, SCENARIO_TIMEOUT, || async {
        let found = Samples::of(node).await;
        check(&found.map_err(|error| format!("{error:#}"))?)
    });
    Ok(passed.await?)
}

fn unix_time() -> f64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.expect("a clock after 1970").as_secs_f64()
}
