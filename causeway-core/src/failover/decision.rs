//! The decision of a node: take the lease, do nothing, or alert the operator.

mod obstacle;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use super::collation::CollationDifference;
use super::observation::{
    DataDirectoryState, LeaseView, Observation, PeerView, ReplayProgress, ServerView,
};
use crate::lease::{LeaseState, SystemId};
use crate::{Epoch, Lsn, NodeId, Timeline};

/// Conditions of an automatic takeover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverPolicy {
    /// Time for which one version of the lease must have been unchanged.
    pub lease_duration: Duration,
    /// Whether this node may take over automatically: it is in the primary region.
    pub automatic: bool,
    /// Nodes of this node's region: it takes over automatically only from one of them.
    pub region_nodes: BTreeSet<NodeId>,
    /// Bytes of WAL that may be missing in an automatic failover.
    pub max_loss_bytes: u64,
    /// Time after the lease duration for which a node waits for one that has received more WAL.
    pub peer_preference_timeout: Duration,
}

/// The decision of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Leave the cluster as it is.
    NoAction(NoAction),
    /// Take the lease.
    TakeLease(Takeover),
    /// Leave the cluster as it is and alert the operator.
    Escalate(Escalation),
}

/// The takeover of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// New epoch.
    pub epoch: Epoch,
    /// Way in which the server becomes primary.
    pub mode: PromotionMode,
}

/// Way in which a server becomes primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromotionMode {
    /// It was the primary and no node took over: it is restarted on its own timeline.
    Resume,
    /// It is promoted onto this timeline, which no other node uses.
    Promote(Timeline),
}

/// Reason for no action. Its name in metrics and in `/status` is that of the variant.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum NoAction {
    /// No lease has been read; only `failover-ctl init` creates the first.
    NotInitialized,
    /// The lease object was deleted, and its holder has not written it again.
    LeaseMissing,
    /// The operator paused the cluster.
    Paused,
    /// The lease in this store is retired: another lease replaces it.
    Retired,
    /// Another node has trusted a higher epoch than that of this store: the cluster's lease is in another
    /// store, or this one was rolled back.
    Superseded(NodeId, Epoch),
    /// The holder may still be writing for this long.
    LeaseInForce(Duration),
    /// This node released the lease, and lets other nodes go first for this long.
    YieldingAfterRelease(Duration),
    /// This node takes over only manually.
    ManualOnly,
    /// The lease belongs to another database than this node's.
    OtherDatabase,
    /// Another host holds the lease under this node's name.
    OtherHost(String),
    /// The last holder is in another region: failover between regions is manual.
    OtherRegion(NodeId),
    /// No primary has accepted writes yet, so the node that `init` named goes first.
    NoPrimaryYet,
    /// This node's server cannot become primary.
    NotConsistent,
    /// This node's server would acknowledge commits before the lease is stored as `held`.
    CommitsNotHeldBack,
    /// This node's server has not stopped yet.
    LocalServerRunning,
    /// Another node has received more WAL, and has time to go first.
    BehindPeer(NodeId),
}

/// Reason why the operator is needed. Its name in metrics and in `/status` is that of the variant.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Escalation {
    /// This node is on another timeline than the last primary.
    OnAnotherTimeline {
        /// Timeline of this node.
        here: Timeline,
        /// Timeline of the last primary.
        there: Timeline,
    },
    /// This node was the last primary, and its disk lacks WAL up to the recorded position.
    OwnWalMissing,
    /// This node orders text by another version than the last primary, so its indexes would return wrong rows.
    CollationDiffers(CollationDifference),
    /// The data loss is above the limit of an automatic failover.
    WouldLose {
        /// Bytes of WAL known to be missing.
        bytes: u64,
        /// Bytes that may be missing.
        allowed: u64,
    },
}

/// Decides whether this node takes over.
///
/// The checks are ordered from data safety to availability. A lease in force outranks every failed probe: an
/// unreachable primary may still be writing.
pub fn decide(seen: &Observation, policy: &FailoverPolicy) -> Decision {
    let Some(lease) = &seen.lease else {
        return Decision::NoAction(NoAction::NotInitialized);
    };
    if let Some(reason) = unusable_lease(lease, seen) {
        return Decision::NoAction(reason);
    }
    // Only the agent of this node's host writes this node's name. Once its server has stopped, no server
    // writes in that epoch, and the compare-and-swap decides who comes next. Another host with this name
    // (a clone of its disk, a new instance) has no such proof, and waits.
    let own_name = lease.holder == seen.node;
    let own_host = lease.host_id == seen.host_id;
    let is_released = lease.state == LeaseState::Released;
    if own_name && own_host && !is_released {
        return resume_or_promote(lease, seen);
    }
    let remaining = policy.lease_duration.saturating_sub(lease.age);
    if !is_released && !remaining.is_zero() {
        return Decision::NoAction(if own_name {
            NoAction::OtherHost(lease.host_id.clone())
        } else {
            NoAction::LeaseInForce(remaining)
        });
    }
    if own_name {
        // It released the lease because its server hung or kept crashing: the other nodes go first.
        if lease.last_position.is_some() && !remaining.is_zero() {
            return Decision::NoAction(NoAction::YieldingAfterRelease(remaining));
        }
        // A standby that never accepted writes is a candidate like any other: the operator's consent when
        // it took the lease was for that epoch only.
        let is_standby = matches!(seen.server, ServerView::Standby(_));
        let never_primary = lease.last_primary.as_ref() != Some(&seen.node);
        if !(is_standby && never_primary && lease.last_position.is_some()) {
            return resume_or_promote(lease, seen);
        }
    }
    decide_as_candidate(lease, seen, policy)
}

/// Returns why no node may take this lease, or this node may not.
fn unusable_lease(lease: &LeaseView, seen: &Observation) -> Option<NoAction> {
    if lease.state == LeaseState::Paused {
        return Some(NoAction::Paused);
    }
    if lease.state == LeaseState::Retired {
        return Some(NoAction::Retired);
    }
    if let Some(peer) = find_peer_ahead(lease.epoch, &seen.peers) {
        return Some(NoAction::Superseded(peer.node.clone(), peer.highest));
    }
    seen.system_id
        .is_some_and(|system_id| system_id != lease.system_id)
        .then_some(NoAction::OtherDatabase)
}

/// Decides about a lease that has expired or was released, and that any node may take.
fn decide_as_candidate(lease: &LeaseView, seen: &Observation, policy: &FailoverPolicy) -> Decision {
    if !policy.automatic {
        return Decision::NoAction(NoAction::ManualOnly);
    }
    if !policy.region_nodes.contains(&lease.holder) {
        return Decision::NoAction(NoAction::OtherRegion(lease.holder.clone()));
    }
    let Some(last) = lease.last_position else {
        return Decision::NoAction(NoAction::NoPrimaryYet);
    };
    let ServerView::Standby(own) = seen.server else {
        return Decision::NoAction(NoAction::NotConsistent);
    };
    if lacks_own_wal(own, lease, seen) {
        return Decision::Escalate(Escalation::OwnWalMissing);
    }
    if own.timeline != last.timeline && !own.descends_from(&last, &seen.ancestors) {
        let (here, there) = (own.timeline, last.timeline);
        return Decision::Escalate(Escalation::OnAnotherTimeline { here, there });
    }
    let bytes = last.flush_lsn.bytes_since(own.received_lsn);
    if bytes > policy.max_loss_bytes {
        let allowed = policy.max_loss_bytes;
        return Decision::Escalate(Escalation::WouldLose { bytes, allowed });
    }
    if let Some(difference) = &seen.collation_difference {
        return Decision::Escalate(Escalation::CollationDiffers(difference.clone()));
    }
    let due = match lease.state {
        LeaseState::Released => Duration::ZERO,
        LeaseState::Acquiring | LeaseState::Held | LeaseState::Paused | LeaseState::Retired => {
            policy.lease_duration
        }
    };
    let waited = lease.age >= due + policy.peer_preference_timeout;
    if let Some(better) = find_better_peer(own, lease.system_id, seen).filter(|_| !waited) {
        return Decision::NoAction(NoAction::BehindPeer(better));
    }
    promote(lease, seen)
}

/// Decides as [`decide`] would if the holder were lost now and its lease had expired: the forecast of
/// `status`.
pub fn forecast_primary_loss(seen: &Observation, policy: &FailoverPolicy) -> Decision {
    let mut seen = seen.clone();
    if let Some(lease) = &mut seen.lease {
        lease.age = lease
            .age
            .max(policy.lease_duration + policy.peer_preference_timeout);
        let holder = lease.holder.clone();
        seen.peers.retain(|peer| peer.node != holder);
    }
    decide(&seen, policy)
}

/// Returns the peer that trusted the highest epoch, if that is above `epoch`.
pub(crate) fn find_peer_ahead(epoch: Epoch, peers: &[PeerView]) -> Option<&PeerView> {
    let highest = peers.iter().max_by_key(|peer| peer.highest);
    highest.filter(|peer| peer.highest > epoch)
}

/// Decides about a lease that this node held before its agent, guard or host restarted.
fn resume_or_promote(lease: &LeaseView, seen: &Observation) -> Decision {
    match seen.server {
        // Its disk has all that it wrote as primary, unless it is another disk or an older copy.
        ServerView::Stopped(DataDirectoryState::Primary)
            if lease.last_primary.as_ref() == Some(&seen.node) && !seen.holds_position =>
        {
            Decision::Escalate(Escalation::OwnWalMissing)
        }
        // The host that held the lease may have written on this timeline after its disk was copied, and
        // a standby may have received that WAL: the copy starts as a standby without a primary, and is
        // promoted onto a timeline of its own. The record of `init` names no host.
        ServerView::Stopped(DataDirectoryState::Primary)
            if !lease.host_id.is_empty() && lease.host_id != seen.host_id =>
        {
            Decision::NoAction(NoAction::NotConsistent)
        }
        ServerView::Stopped(DataDirectoryState::Primary) => Decision::TakeLease(Takeover {
            epoch: lease.epoch.next(),
            mode: PromotionMode::Resume,
        }),
        ServerView::Standby(own) if lacks_own_wal(own, lease, seen) => {
            Decision::Escalate(Escalation::OwnWalMissing)
        }
        ServerView::Standby(_) => promote(lease, seen),
        ServerView::Stopped(
            DataDirectoryState::Empty
            | DataDirectoryState::Standby
            | DataDirectoryState::Rewinding
            | DataDirectoryState::Unreadable,
        )
        | ServerView::Unguarded
        | ServerView::Unresponsive => Decision::NoAction(NoAction::NotConsistent),
        ServerView::MayWrite => Decision::NoAction(NoAction::LocalServerRunning),
    }
}

/// Returns whether this node recorded the position and its standby does not reach it: the disk is another one
/// or an older copy.
fn lacks_own_wal(own: ReplayProgress, lease: &LeaseView, seen: &Observation) -> bool {
    let recorded = lease.last_primary.as_ref() == Some(&seen.node);
    let Some(last) = lease.last_position.filter(|_| recorded) else {
        return false;
    };
    // An interrupted promotion leaves a standby on a newer timeline, with all WAL before it.
    own.timeline < last.timeline
        || (own.timeline == last.timeline && own.received_lsn < last.flush_lsn)
}

fn promote(lease: &LeaseView, seen: &Observation) -> Decision {
    if !seen.holds_back {
        return Decision::NoAction(NoAction::CommitsNotHeldBack);
    }
    let mode = PromotionMode::Promote(lease.highest_reserved_timeline.next());
    Decision::TakeLease(Takeover {
        epoch: lease.epoch.next(),
        mode,
    })
}

/// Returns the peer that has received the most WAL, if it is more than this node has. Positions compare only
/// within one timeline of one database.
fn find_better_peer(own: ReplayProgress, database: SystemId, seen: &Observation) -> Option<NodeId> {
    let received = |peer: &&PeerView| -> Option<Lsn> {
        let same = peer.system_id.is_none_or(|system_id| system_id == database);
        let progress = peer.progress.filter(|_| peer.automatic && same)?;
        (progress.timeline == own.timeline).then_some(progress.received_lsn)
    };
    let best = seen.peers.iter().max_by_key(received)?;
    received(&best)
        .filter(|received_lsn| *received_lsn > own.received_lsn)
        .map(|_| best.node.clone())
}

impl fmt::Display for NoAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialized => {
                f.write_str("this node has not read a lease; `failover-ctl init` creates the first")
            }
            Self::LeaseMissing => f.write_str(
                "the lease object was deleted: remove its delete marker",
            ),
            Self::Paused => f.write_str("the cluster is paused"),
            Self::Retired => f.write_str(
                "the lease in this node's `[lease]` bucket is retired: set `[lease]` as on the other nodes",
            ),
            Self::Superseded(node, epoch) => write!(
                f,
                "`{node}` reports epoch {epoch}, newer than the lease in this node's bucket: compare `[lease]`"
            ),
            Self::LeaseInForce(left) => {
                write!(f, "the lease is in force for {:.1} s", left.as_secs_f64())
            }
            Self::YieldingAfterRelease(left) => {
                write!(
                    f,
                    "this node released the lease and yields to the other nodes for {:.1} s",
                    left.as_secs_f64()
                )
            }
            Self::ManualOnly => f.write_str("this node takes over only by command"),
            Self::OtherDatabase => f.write_str("the lease belongs to another database"),
            Self::OtherHost(host) => {
                write!(f, "host `{host}` holds the lease under this node's name")
            }
            Self::OtherRegion(holder) => {
                write!(f, "`{holder}` is in another region: failover between regions needs a command")
            }
            Self::NoPrimaryYet => f.write_str("no primary has accepted writes yet"),
            Self::CommitsNotHeldBack => f.write_str(
                "the server here would acknowledge commits too early: remove `synchronous_standby_names` from \
                 postgresql.conf below guard's include",
            ),
            Self::NotConsistent => f.write_str("the local server cannot become primary now"),
            Self::LocalServerRunning => f.write_str("the local server has not stopped yet"),
            Self::BehindPeer(node) => write!(f, "`{node}` has received more WAL"),
        }
    }
}

impl fmt::Display for Escalation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnAnotherTimeline { here, there } => {
                write!(
                    f,
                    "this node is on timeline {here}, the last primary wrote on {there}"
                )
            }
            Self::OwnWalMissing => f.write_str(
                "this node was the last primary, and its disk lacks WAL up to the recorded position",
            ),
            Self::CollationDiffers(difference) => {
                write!(f, "{difference}: as primary it would return wrong rows")
            }
            Self::WouldLose { bytes, allowed } => {
                write!(f, "{bytes} bytes of WAL would be lost, and `max-loss-bytes` is {allowed}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
