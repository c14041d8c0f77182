//! `failover-ctl rejoin`: makes a node a standby again, and waits until it streams.

use std::time::Duration;

use causeway_core::NodeId;
use tokio::time::{self, Instant};

use crate::cli;
use crate::clients::agents::AgentClient;
use crate::clients::lease_store::LeaseStore;
use crate::config::{NodeSettings, Settings};
use crate::error::Error;
use crate::operator::cluster_view;
use crate::output;
use crate::protocol::node_status::{NodeRole, NodeStatus};
use crate::protocol::signed_command::{CommandKind, CommandSigningKey, SignedCommand};

/// Interval at which the node's status is read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Time for which the node's agent may fail to respond: it may be restarting.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// Time for the agent to report a command that it has accepted: it does so in its next turn.
const ACCEPTED_COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for which the same failure may persist: an unresponsive primary may recover.
const MAX_FAILURE_DURATION: Duration = Duration::from_secs(30);

/// Sends the command to the node's agent, and waits until the node streams.
pub(crate) async fn run(settings: &Settings, asked: &cli::RejoinArgs) -> Result<(), Error> {
    let node = &asked.node;
    let key = CommandSigningKey::read(&settings.command_signing_key_file)?;
    let store = LeaseStore::open(settings).await;
    let agents = AgentClient::new(settings);
    let cluster = cluster_view::read(settings, &store, &agents).await;
    let target = settings
        .node(node)
        .ok_or_else(|| Error::UnknownTarget(node.to_string()))?;
    let record = cluster
        .record()
        .ok_or_else(|| Error::NoLease(settings.cluster.clone()))?;
    if record.holder.node == *node {
        return Err(Error::AlreadyPrimary(node.to_string()));
    }
    let Some(status) = cluster.status(node) else {
        return Err(not_rejoined(node, &cluster.unknown_reason(node)));
    };
    if !asked.rebuild && streams(status) {
        print_streaming(node, &record.holder.node);
        return Ok(());
    }
    let what = CommandKind::Rejoin {
        rebuild: asked.rebuild,
    };
    let order = SignedCommand::new(&settings.cluster, node, record.epoch, what);
    if let Err(error) = agents.send_command(target, &order, &key).await {
        let now = agents.status(target).await;
        if !asked.rebuild && now.is_ok_and(|status| streams(&status)) {
            print_streaming(node, &record.holder.node);
            return Ok(());
        }
        return Err(not_rejoined(node, &format!("{error:#}")));
    }
    if asked.no_wait {
        output::print_progress(&format!(
            "accepted by the agent of `{node}`; `failover-ctl status` shows the result"
        ));
        return Ok(());
    }
    let waiting = RejoinWait {
        agents: &agents,
        target,
        order: &order.id,
    };
    waiting
        .wait(Duration::from_secs(asked.timeout_secs))
        .await?;
    output::print_progress(&format!(
        "`{node}` is a standby of `{}` and streams from it",
        record.holder.node
    ));
    Ok(())
}

fn print_streaming(node: &NodeId, primary: &NodeId) {
    output::print_progress(&format!(
        "`{node}` is a standby of `{primary}` and streams from it already: there is nothing to do"
    ));
}

fn streams(status: &NodeStatus) -> bool {
    status.role == NodeRole::Standby && status.streaming
}

fn not_rejoined(node: &NodeId, why: &str) -> Error {
    Error::NotRejoined {
        node: node.to_string(),
        why: why.to_owned(),
    }
}

/// Wait for a node that rejoins.
struct RejoinWait<'a> {
    agents: &'a AgentClient,
    target: &'a NodeSettings,
    order: &'a str,
}

impl RejoinWait<'_> {
    /// Waits until the command is executed and the node streams, and prints each change meanwhile.
    async fn wait(&self, timeout: Duration) -> Result<(), Error> {
        let node = &self.target.name;
        let deadline = Instant::now() + timeout;
        let (mut answered, mut shown) = (Instant::now(), Instant::now());
        let mut failing: Option<Instant> = None;
        let mut told = String::new();
        // Not `poll::until`: silence, a lost command and a lasting failure end the wait before the deadline.
        loop {
            let now = Instant::now();
            match self.agents.status(self.target).await {
                Ok(status) => {
                    answered = now;
                    let rejoin = status
                        .rejoin
                        .as_ref()
                        .filter(|rejoin| rejoin.command == self.order);
                    if let Some(rejoin) = rejoin {
                        shown = now;
                        if rejoin.completed && streams(&status) {
                            return Ok(());
                        }
                        failing = rejoin.failure.as_ref().map(|_| failing.unwrap_or(now));
                        if let (Some(why), Some(since)) = (&rejoin.failure, failing)
                            && now.duration_since(since) >= MAX_FAILURE_DURATION
                        {
                            return Err(not_rejoined(node, why));
                        }
                        print_progress(&mut told, &status);
                    }
                }
                Err(error) if now.duration_since(answered) >= MAX_SILENCE => {
                    return Err(not_rejoined(node, &format!("{error:#}")));
                }
                Err(_) => shown = now,
            }
            if now.duration_since(shown) >= ACCEPTED_COMMAND_TIMEOUT {
                let why = "its agent has dropped the command, because it was restarted or the primary has \
                           changed: run it again";
                return Err(not_rejoined(node, why));
            }
            if now >= deadline {
                let secs = timeout.as_secs();
                let why = format!("it does not stream after {secs} s; last seen: {told}");
                return Err(not_rejoined(node, &why));
            }
            time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Prints the progress of the node if it has changed.
fn print_progress(told: &mut String, status: &NodeStatus) {
    let how = progress(status);
    if how != *told {
        output::print_progress(&how);
        *told = how;
    }
}

/// Describes the progress of the node.
fn progress(status: &NodeStatus) -> String {
    let failure = status
        .rejoin
        .as_ref()
        .and_then(|rejoin| rejoin.failure.as_ref());
    match (failure, &status.standby_setup) {
        (Some(why), _) => format!("{}: tried again after: {why}", status.node),
        (None, Some(busy)) => format!("{}: {busy}", status.node),
        (None, None) => format!("{}: {}, not streaming yet", status.node, status.role),
    }
}
