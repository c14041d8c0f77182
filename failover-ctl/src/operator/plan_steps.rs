//! Execution of each plan step, which returns its evidence.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_core::NodeId;
use causeway_core::agent::FencingProof;
use causeway_core::failover::plan::{FailoverPlan, FencingMethod, PlanStep};
use causeway_core::failover::plan_state::{PlanState, plan_state};
use causeway_core::{Epoch, lease::LeaseState};
use causeway_runtime::aws::AwsService;
use causeway_runtime::poll;
use tokio::time::{self, Instant};

use crate::clients::agents::AgentRejection;
use crate::clients::dns_resolver;
use crate::clients::ec2;
use crate::clients::route53::{DnsRecords, RecordMoved};
use crate::operator::operation_lock::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use crate::operator::plan_executor::{LeaseNotTaken, PlanExecutor};
use crate::output;
use crate::protocol::node_status::{NodeRole, NodeStatus};
use crate::protocol::signed_command::{CommandKind, SignedCommand};

/// Interval at which a node's status is read while a step waits.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time beyond the lease duration for the target to confirm that the lease has expired: it must read it once more.
const FENCE_SLACK: Duration = Duration::from_secs(5);

/// Time for the target to replay the WAL that it has received, before an operator should look into it.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(30);

/// Time for the target to write the lease.
const TAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Time after a rejection for the target to show that it holds the lease, because its agent was taking over automatically.
const AUTOMATIC_TAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time without an answer after which the target counts as lost: its agent may be restarting.
const SILENCE_TIMEOUT: Duration = HEARTBEAT_TIMEOUT;

/// Time for all DNS records together. The primary's agent continues afterwards, and clients list several hosts.
const ALL_RECORDS_TIMEOUT: Duration = Duration::from_secs(15);

/// Minimum time for each record.
const RECORD_TIMEOUT: Duration = Duration::from_secs(3);

/// Time beyond a record's TTL for which the resolver may return an old answer.
const RESOLVER_SLACK: Duration = Duration::from_secs(5);

impl PlanExecutor<'_> {
    /// Executes a step, or detects that it is complete, and returns the evidence.
    pub(super) async fn perform(
        &self,
        plan: &FailoverPlan,
        step: &PlanStep,
    ) -> anyhow::Result<String> {
        match step {
            PlanStep::Fence { node, method: by } => self.fence(plan, node, *by).await,
            PlanStep::CatchUp { node } => self.catch_up(plan, node).await,
            PlanStep::TakeLease { node, epoch } => self.take_lease(plan, node, *epoch).await,
            PlanStep::Promote { node, .. } => self.promote(plan, node).await,
            PlanStep::PointRecord {
                name,
                target,
                epoch,
            } => self.move_record(name, target, *epoch).await,
            PlanStep::VerifyWrite { host } => self.confirm(plan, host).await,
        }
    }

    async fn fence(
        &self,
        plan: &FailoverPlan,
        node: &NodeId,
        by: FencingMethod,
    ) -> anyhow::Result<String> {
        match by {
            FencingMethod::Unfenced => Ok(format!(
                "`{node}` is NOT proved to be fenced; the operator accepted that"
            )),
            FencingMethod::InstanceStopped => {
                let instance = self
                    .node(node)?
                    .instance_id
                    .as_ref()
                    .context("no `instance-id`")?;
                let ec2 = self.settings.ec2.as_ref().context("no `[ec2]`")?;
                let region = self.node(node)?.region.to_string();
                let service = AwsService {
                    region,
                    endpoint: ec2.endpoint.clone(),
                    ca_certificate: None,
                };
                ec2::stop_instance(&service, instance).await?;
                Ok(format!("EC2 reports `{instance}` as stopped"))
            }
            FencingMethod::LeaseExpired => self.watch_expiry(plan, node).await,
        }
    }

    /// Waits until the target has confirmed that the lease has stood for the whole lease duration.
    async fn watch_expiry(&self, plan: &FailoverPlan, node: &NodeId) -> anyhow::Result<String> {
        let within = self.settings.timing.lease_duration + FENCE_SLACK;
        let what = format!(
            "`{}` to confirm that the lease of `{node}` has expired",
            plan.to
        );
        self.wait(&plan.to, within, &what, |status| {
            if is_taken(status, plan) {
                return Ok(Some("the target already holds the lease".to_owned()));
            }
            let Some(lease) = &status.lease else {
                return Ok(None);
            };
            let record = &lease.record;
            if is_behind(status, plan) {
                return Ok(None);
            }
            if record.epoch != plan.planned_epoch {
                bail!(
                    "the lease is at epoch {}, and the plan at {}: plan again",
                    record.epoch,
                    plan.planned_epoch
                );
            }
            if record.state == LeaseState::Released {
                let evidence = format!("`{}` has read epoch {} as released", plan.to, record.epoch);
                return Ok(lease.expired.then_some(evidence));
            }
            let evidence = format!(
                "`{}` has observed epoch {}, sequence {} unchanged for {:.1} s (lease duration {:.1} s), \
                 until its last read {:.1} s ago",
                plan.to,
                record.epoch,
                record.sequence,
                lease.stood_secs,
                self.settings.timing.lease_duration.as_secs_f64(),
                (lease.age_secs - lease.stood_secs).max(0.0)
            );
            Ok(lease.expired.then_some(evidence))
        })
        .await
    }

    async fn catch_up(&self, plan: &FailoverPlan, node: &NodeId) -> anyhow::Result<String> {
        let mut last = None;
        self.wait(
            node,
            CATCH_UP_TIMEOUT,
            &format!("`{node}` to replay all received WAL"),
            |status| {
                if is_taken(status, plan) {
                    return Ok(Some("the target already holds the lease".to_owned()));
                }
                let Some(own) = status.progress else {
                    return Ok(None);
                };
                // Equal twice: no more WAL arrived from the stream or the archive.
                let settled = last == Some(own) && own.replayed_lsn >= own.received_lsn;
                last = Some(own);
                Ok(settled.then(|| {
                    format!(
                        "received and replayed up to {} on timeline {}",
                        own.replayed_lsn, own.timeline
                    )
                }))
            },
        )
        .await
    }

    async fn take_lease(
        &self,
        plan: &FailoverPlan,
        node: &NodeId,
        epoch: Epoch,
    ) -> anyhow::Result<String> {
        let target = self.node(node)?;
        // A target that cannot read the store rejects the command with the reason.
        let what = format!("`{node}` to read the lease again");
        let current = |status: &NodeStatus| Ok((!is_behind(status, plan)).then(String::new));
        self.wait(node, FENCE_SLACK, &what, current).await.ok();
        let silent = |error| LeaseNotTaken(format!("its agent does not respond: {error:#}"));
        let status = self.agents.status(target).await.map_err(silent)?;
        if !is_taken(&status, plan) {
            let fencing_proof = match plan.fence() {
                FencingMethod::LeaseExpired => FencingProof::LeaseExpired,
                FencingMethod::InstanceStopped | FencingMethod::Unfenced => {
                    FencingProof::OperatorAsserted
                }
            };
            let take_lease = CommandKind::TakeLease {
                fencing_proof,
                timeline: plan.accept_timeline,
            };
            let cluster = &self.settings.cluster;
            let command = SignedCommand::new(cluster, node, plan.planned_epoch, take_lease);
            match self.agents.send_command(target, &command, &self.key).await {
                Ok(()) => {}
                Err(error) if error.is::<AgentRejection>() => {
                    return self.check_automatic_takeover(plan, node, error).await;
                }
                // The command may have arrived, so its effect is awaited.
                Err(error) => output::print_progress(&format!("   {error:#}")),
            }
        }
        let taken = self.wait_until_lease_taken(plan, node, TAKE_TIMEOUT).await;
        match taken {
            Ok(()) => Ok(format!("`{node}` holds epoch {epoch}")),
            // The command's lease write has succeeded or failed by now: the store has the result.
            Err(error) => match self.store.lease().await {
                Ok(Some(record)) if plan_state(plan, &record) != PlanState::LeaseTaken => {
                    Err(LeaseNotTaken(format!("{error:#}")).into())
                }
                Ok(_) | Err(_) => Err(error),
            },
        }
    }

    async fn check_automatic_takeover(
        &self,
        plan: &FailoverPlan,
        node: &NodeId,
        refused: anyhow::Error,
    ) -> anyhow::Result<String> {
        match self
            .wait_until_lease_taken(plan, node, AUTOMATIC_TAKE_TIMEOUT)
            .await
        {
            Ok(()) => Ok(format!("`{node}` has taken the lease automatically")),
            Err(_) => Err(LeaseNotTaken(format!("{refused:#}")).into()),
        }
    }

    async fn wait_until_lease_taken(
        &self,
        plan: &FailoverPlan,
        node: &NodeId,
        within: Duration,
    ) -> anyhow::Result<()> {
        let what = format!("`{node}` to take the lease");
        let taken = |status: &NodeStatus| Ok(is_taken(status, plan).then(String::new));
        self.wait(node, within, &what, taken).await?;
        Ok(())
    }

    /// Waits until the target accepts writes, as long as its agent responds and holds the lease: the agent releases it when
    /// the promotion makes no progress.
    async fn promote(&self, plan: &FailoverPlan, node: &NodeId) -> anyhow::Result<String> {
        let start_timeout = Duration::from_secs(self.settings.policy.start_timeout_secs.into());
        let mut held_at = Instant::now();
        let what = format!("`{node}` to accept writes");
        self.wait(node, CATCH_UP_TIMEOUT, &what, |status| {
            if let Some(lease) = &status.lease
                && plan_state(plan, &lease.record) == PlanState::Overtaken
            {
                let (epoch, holder) = (lease.record.epoch, &lease.record.holder.node);
                bail!("`{holder}` has since taken the lease, at epoch {epoch}");
            }
            match (status.role, status.wal_position) {
                (NodeRole::Primary, Some(written)) => Ok(Some(format!(
                    "`{node}` writes on timeline {} from {}",
                    written.timeline, written.flush_lsn
                ))),
                (NodeRole::Primary | NodeRole::Promoting, _) => {
                    held_at = Instant::now();
                    Ok(None)
                }
                (NodeRole::Standby | NodeRole::Stopped, _) if held_at.elapsed() < start_timeout => {
                    Ok(None)
                }
                (role @ (NodeRole::Standby | NodeRole::Stopped), _) => {
                    let decision = status.decision.as_deref().unwrap_or("no decision reported");
                    bail!("`{node}` is {role} and no longer holds the lease: {decision}");
                }
            }
        })
        .await
    }

    async fn move_record(&self, name: &str, target: &str, epoch: Epoch) -> anyhow::Result<String> {
        let dns = self
            .settings
            .dns
            .as_ref()
            .context("the settings have no `[dns]`")?;
        let records = DnsRecords::open(dns).await;
        let now = Instant::now();
        let until = *self.records_until.get_or_init(|| now + ALL_RECORDS_TIMEOUT);
        let until = until.max(now + RECORD_TIMEOUT);
        let moved = records
            .move_record_until(until, name, target, epoch)
            .await?;
        let stands = match &moved {
            RecordMoved::Changed(change) => {
                records
                    .wait_until_insync(change)
                    .await
                    .context("Route 53 accepted the change, but it is not INSYNC")?;
                "INSYNC"
            }
            RecordMoved::Already => "already there",
        };
        let said = self.describe_resolution(name, target).await;
        Ok(format!("{stands}, and {said}"))
    }

    /// Returns the evidence of the local resolver for a moved record. The resolver is queried until it returns the new
    /// target or its cached answer must have expired.
    async fn describe_resolution(&self, name: &str, target: &str) -> String {
        let (Some(dns), Ok(wanted)) = (self.settings.dns.as_ref(), target.parse::<IpAddr>()) else {
            return format!("the record is an alias of {target}");
        };
        let within = Duration::from_secs(dns.ttl_secs.into()) + RESOLVER_SLACK;
        let resolved = poll::until(Instant::now() + within, POLL_INTERVAL, async || {
            let found = dns_resolver::addresses(name, dns.resolver).await;
            match found {
                Ok(found) if found.contains(&wanted) => Break(()),
                Ok(_) | Err(_) => Continue(found),
            }
        });
        match resolved.await {
            Break(()) => format!("the resolver returns {target}"),
            Continue(Ok(found)) => format!("the local resolver still returns {found:?}"),
            Continue(Err(error)) => format!("the local resolver does not respond: {error:#}"),
        }
    }

    /// Reads a node's status until `found` returns evidence, the timeout expires, or the node stops responding.
    async fn wait(
        &self,
        node: &NodeId,
        within: Duration,
        what: &str,
        mut found: impl FnMut(&NodeStatus) -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<String> {
        let node = self.node(node)?;
        let deadline = Instant::now() + within;
        let mut said_at = Instant::now();
        let mut heard_at = Instant::now();
        // Not `poll::until`: a silent agent ends the wait before the deadline.
        loop {
            let answer = self.agents.status(node).await;
            let now = Instant::now();
            match &answer {
                Ok(status) => {
                    heard_at = now;
                    if let Some(evidence) = found(status)? {
                        return Ok(evidence);
                    }
                }
                Err(error) if now - heard_at >= SILENCE_TIMEOUT => bail!(
                    "the agent of `{}` has not answered for {SILENCE_TIMEOUT:?}, while waiting for {what}: {error:#}",
                    node.name
                ),
                Err(_) => {}
            }
            if now >= deadline {
                let last = match answer {
                    Ok(status) => serde_json::to_string(&status)?,
                    Err(error) => format!("{error:#}"),
                };
                bail!("timed out after {within:?} waiting for {what}; last status: {last}");
            }
            if now - said_at >= HEARTBEAT_INTERVAL {
                output::print_progress(&format!(
                    "   waiting for {what}, at most {:?} more",
                    deadline - now
                ));
                said_at = now;
            }
            time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Returns whether the target has not read the lease again since it was as planned: it may have been cut off from
/// the store until a moment ago.
fn is_behind(status: &NodeStatus, plan: &FailoverPlan) -> bool {
    let lease = status.lease.as_ref();
    lease.is_some_and(|lease| lease.record.epoch < plan.planned_epoch)
}

/// Returns whether the target holds the lease by the plan, or has taken it again since. The record alone does
/// not show that: a node that cannot read the store shows an old one.
fn is_taken(status: &NodeStatus, plan: &FailoverPlan) -> bool {
    let holds = matches!(status.role, NodeRole::Primary | NodeRole::Promoting);
    let lease = status.lease.as_ref();
    holds && lease.is_some_and(|lease| plan_state(plan, &lease.record) == PlanState::LeaseTaken)
}
