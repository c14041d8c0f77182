//! Whether this node takes over, and if not, why not.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observation::{
    DataDirectoryState, LeaseView, Observation, PeerView, ReplayProgress, ServerView,
};
use crate::lease::{LeaseState, SystemId};
use crate::{Epoch, Lsn, NodeId, Timeline};

/// What the operator allows without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverPolicy {
    /// How long one version of the lease must have stood.
    pub lease_duration: Duration,
    /// Whether this node may take over without a command: it stands in the primary region.
    pub automatic: bool,
    /// The nodes of this node's region: it takes over without a command only from one of them.
    pub region_nodes: BTreeSet<NodeId>,
    /// How many bytes of log may be missing in an automatic failover.
    pub max_loss_bytes: u64,
    /// How much longer than the term a node waits for one that has more log than it.
    pub peer_preference_timeout: Duration,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Leave the cluster as it is.
    NoAction(NoAction),
    /// Take the lease.
    TakeLease(Takeover),
    /// Leave the cluster as it is and call a person.
    Escalate(Escalation),
}

/// How the lease is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// The epoch of the new term.
    pub epoch: Epoch,
    /// How the server becomes primary.
    pub mode: PromotionMode,
}

/// How a server becomes primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromotionMode {
    /// It was the primary and nobody followed it: it is started again, on its own timeline.
    Resume,
    /// It is promoted, onto this timeline, which nobody else uses.
    Promote(Timeline),
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAction {
    /// No lease was ever seen; only `failover-ctl init` creates the first.
    NotInitialized,
    /// The lease was deleted, and its holder has not written it again.
    LeaseMissing,
    /// A person has asked for quiet.
    Paused,
    /// The record is retired: the cluster's lease is another.
    Retired,
    /// Another node has trusted a higher epoch than this store shows: the cluster's lease is in another
    /// store, or this one went back.
    Superseded(NodeId, Epoch),
    /// The holder may still be writing, for this long.
    LeaseInForce(Duration),
    /// This node gave the lease up, and lets others go first for this long.
    YieldingAfterRelease(Duration),
    /// This node takes over only by command.
    ManualOnly,
    /// The lease is of another cluster's database than this node's.
    OtherDatabase,
    /// Another host writes the lease under this node's name.
    OtherHost(String),
    /// The last holder is in another region, which only a person leaves.
    OtherRegion(NodeId),
    /// No primary was ever open, so the node that `init` named comes first.
    NoPrimaryYet,
    /// This node's server cannot become primary now.
    NotConsistent,
    /// This node's server would acknowledge commits before the lease says that it is open.
    CommitsNotHeldBack,
    /// This node's own server has not ended yet.
    LocalServerRunning,
    /// Another node has more of the log, and is given time to go first.
    BehindPeer(NodeId),
}

/// Why a person is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Escalation {
    /// This node follows another timeline than the last primary wrote.
    OnAnotherTimeline {
        /// This node's.
        here: Timeline,
        /// The last primary's.
        there: Timeline,
    },
    /// This node recorded the position, and its disk does not hold the WAL up to there any more.
    OwnWalMissing,
    /// More would be lost than may be lost without being asked.
    WouldLose {
        /// The bytes known to be missing here.
        bytes: u64,
        /// The bytes that may be missing.
        allowed: u64,
    },
}

/// Decides whether the node that sees this takes over.
///
/// The checks run from those that protect the data to those that restore service. What a lease in
/// force says outweighs every witness: a primary that cannot be reached can still be writing.
pub fn decide(seen: &Observation, policy: &FailoverPolicy) -> Decision {
    let Some(lease) = &seen.lease else {
        return Decision::NoAction(NoAction::NotInitialized);
    };
    if lease.state == LeaseState::Paused {
        return Decision::NoAction(NoAction::Paused);
    }
    if lease.state == LeaseState::Retired {
        return Decision::NoAction(NoAction::Retired);
    }
    if let Some(peer) = find_peer_ahead(lease.epoch, &seen.peers) {
        return Decision::NoAction(NoAction::Superseded(peer.node.clone(), peer.highest));
    }
    if seen.system_id.is_some_and(|system_id| system_id != lease.system_id) {
        return Decision::NoAction(NoAction::OtherDatabase);
    }
    // Only the agent of this node's host writes this node's name, so once its own server has ended
    // nobody writes in its term, and the compare-and-swap settles who comes next. Another host with
    // this name (a clone of its disk, an instance made anew) has proved nothing, and waits.
    let own_name = lease.holder == seen.node;
    let own_host = lease.host_id == seen.host_id;
    if own_name && own_host && lease.state != LeaseState::Released {
        return resume_or_promote(lease, seen);
    }
    if own_name
        && !own_host
        && lease.state != LeaseState::Released
        && lease.age < policy.lease_duration
    {
        return Decision::NoAction(NoAction::OtherHost(lease.host_id.clone()));
    }
    if lease.state != LeaseState::Released && lease.age < policy.lease_duration {
        return Decision::NoAction(NoAction::LeaseInForce(
            policy.lease_duration.saturating_sub(lease.age),
        ));
    }
    if own_name {
        // It gave the lease up because its server hung or kept crashing: the others go first.
        if lease.last_position.is_some() && lease.age < policy.lease_duration {
            return Decision::NoAction(NoAction::YieldingAfterRelease(
                policy.lease_duration.saturating_sub(lease.age),
            ));
        }
        // A standby that never opened is a candidate like any other: what a person accepted when it took
        // the lease was for that term.
        let follows = matches!(seen.server, ServerView::Standby(_));
        let never_opened = lease.last_primary.as_ref() != Some(&seen.node);
        if !(follows && never_opened && lease.last_position.is_some()) {
            return resume_or_promote(lease, seen);
        }
    }
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

/// Decides as [`decide`] would if the holder were lost now and its lease had expired: what `status`
/// forecasts is what this answers, and nothing else.
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

/// Returns the peer that has trusted the highest epoch, if that is above `epoch`.
pub(crate) fn find_peer_ahead(epoch: Epoch, peers: &[PeerView]) -> Option<&PeerView> {
    let highest = peers.iter().max_by_key(|peer| peer.highest);
    highest.filter(|peer| peer.highest > epoch)
}

/// Decides about a lease that this node held before its agent, its guard or its host restarted.
fn resume_or_promote(lease: &LeaseView, seen: &Observation) -> Decision {
    match seen.server {
        // What it wrote as primary is on its disk, unless that is another disk or an older copy.
        ServerView::Stopped(DataDirectoryState::Primary)
            if lease.last_primary.as_ref() == Some(&seen.node) && !seen.holds_position =>
        {
            Decision::Escalate(Escalation::OwnWalMissing)
        }
        // The host that held it may have written on this timeline after this disk was copied from its
        // own, and a standby may have received that: the copy becomes a standby of nobody, and is promoted
        // onto a timeline of its own. The record that `init` writes names no host.
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
            DataDirectoryState::Empty | DataDirectoryState::Standby | DataDirectoryState::Rewinding,
        )
        | ServerView::Unguarded
        | ServerView::Silent => Decision::NoAction(NoAction::NotConsistent),
        ServerView::MayWrite => Decision::NoAction(NoAction::LocalServerRunning),
    }
}

/// Returns whether this node recorded the position, and its standby does not reach it: the disk is an older
/// copy, or another.
fn lacks_own_wal(own: ReplayProgress, lease: &LeaseView, seen: &Observation) -> bool {
    let recorded = lease.last_primary.as_ref() == Some(&seen.node);
    let Some(last) = lease.last_position.filter(|_| recorded) else {
        return false;
    };
    // A promotion that was cut off leaves a standby on a newer timeline, with all that is before it.
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

/// Returns the node that has the most of the log, if that is not this one. Positions compare only
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
                "the server here would acknowledge commits too early: `synchronous_standby_names` is not what \
                 guard has set; remove it from postgresql.conf below guard's include",
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
                "this node was the last primary, and its disk does not hold the WAL up to the recorded position",
            ),
            Self::WouldLose { bytes, allowed } => {
                write!(f, "{bytes} bytes of WAL would be lost, and `max-loss-bytes` is {allowed}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
