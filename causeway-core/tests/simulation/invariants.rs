//! Invariants, checked after every event.

use std::collections::BTreeMap;
use std::fmt;

use causeway_core::lease::{LeaseHolder, LeaseRecord};
use causeway_core::{Epoch, NodeId, Timeline};

use crate::cluster::seconds;
use crate::host::Host;
use crate::seeded_rng::{Micros, SECOND};

/// Maximum requests of one node to the store in a second: more are a loop without a pause.
const REQUESTS_PER_SECOND: u32 = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Two nodes could acknowledge a write at one instant.
    TwoWriters(Vec<NodeId>),
    /// Two promotions began one timeline.
    TimelineTwice(Timeline, NodeId, NodeId),
    /// A promotion began another timeline than the one reserved for it.
    TimelineNotReserved(Timeline, Timeline, NodeId),
    /// Two nodes, or one in two boots, held one epoch.
    EpochTwice(Epoch, Box<(LeaseHolder, LeaseHolder)>),
    /// Two hosts wrote on one timeline.
    TimelineShared(Timeline, usize, usize),
    /// More acknowledged commits were lost, in bytes, than were stated.
    LostUnstated(NodeId, u64, u64),
    /// A node took the lease automatically with a known loss above the limit.
    LostKnowingly(NodeId, u64, u64),
    /// A node took the lease automatically from a node of another region.
    LeftRegion(NodeId),
    /// A node sends requests to the store without a pause.
    Hammers(NodeId),
    /// A node has renewed the lease for this long without a proven write and without progress.
    HoldsWithoutServing(NodeId, Micros),
    /// A node has renewed the lease after so many starts without a proven write.
    StartsForEver(NodeId, u32),
    /// A node released the lease although its server replayed WAL.
    GaveUpWhileReplaying(NodeId),
    /// No node acknowledges commits, and no agent reports a problem.
    NothingReported,
    /// Long after the last fault, no node accepts and acknowledges writes.
    NoService,
    /// Long after the last fault, a node is not a standby of the primary.
    DoesNotFollow(NodeId),
}

#[derive(Debug, Default)]
pub(crate) struct Invariants {
    began: BTreeMap<Timeline, NodeId>,
    holders: BTreeMap<Epoch, LeaseHolder>,
    writers: BTreeMap<Timeline, usize>,
    /// Violation found since the last check, which the next one reports.
    found: Option<Violation>,
}

impl Invariants {
    pub(crate) fn check(&mut self, hosts: &[Host]) -> Result<(), Violation> {
        if let Some(found) = self.found.take() {
            return Err(found);
        }
        let writes = |host: &&Host| host.server.acknowledges();
        if hosts.iter().filter(writes).count() > 1 {
            let names = hosts.iter().filter(writes).map(|host| host.node.clone());
            return Err(Violation::TwoWriters(names.collect()));
        }
        Ok(())
    }

    pub(crate) fn violated(&mut self, violation: Violation) {
        self.found.get_or_insert(violation);
    }

    /// Records that a host writes on a timeline.
    pub(crate) fn wrote(&mut self, timeline: Timeline, host: usize) {
        let first = *self.writers.entry(timeline).or_insert(host);
        if first != host {
            self.violated(Violation::TimelineShared(timeline, first, host));
        }
    }

    pub(crate) fn began(&mut self, timeline: Timeline, reserved: Timeline, node: &NodeId) {
        let node = node.clone();
        if let Some(before) = self.began.insert(timeline, node.clone()) {
            self.found = Some(Violation::TimelineTwice(timeline, before, node));
        } else if timeline != reserved {
            self.found = Some(Violation::TimelineNotReserved(timeline, reserved, node));
        }
    }

    pub(crate) fn stored(&mut self, record: &LeaseRecord) {
        let (epoch, holder) = (record.epoch, &record.holder);
        let before = self.holders.entry(epoch).or_insert_with(|| holder.clone());
        if before != holder {
            let before = before.clone();
            self.found = Some(Violation::EpochTwice(
                epoch,
                Box::new((before, holder.clone())),
            ));
        }
    }

    pub(crate) fn requested(&mut self, host: &mut Host, now: Micros) {
        let second = now / SECOND;
        if host.requests.0 != second {
            host.requests = (second, 0);
        }
        host.requests.1 += 1;
        if host.requests.1 > REQUESTS_PER_SECOND {
            self.found = Some(Violation::Hammers(host.node.clone()));
        }
    }
}

impl Violation {
    pub(crate) fn endangers_data(&self) -> bool {
        match self {
            Self::TwoWriters(_)
            | Self::TimelineTwice(..)
            | Self::TimelineNotReserved(..)
            | Self::TimelineShared(..)
            | Self::LostUnstated(..)
            | Self::LostKnowingly(..)
            | Self::EpochTwice(..) => true,
            Self::LeftRegion(_)
            | Self::Hammers(_)
            | Self::HoldsWithoutServing(..)
            | Self::StartsForEver(..)
            | Self::GaveUpWhileReplaying(_)
            | Self::NothingReported
            | Self::NoService
            | Self::DoesNotFollow(_) => false,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoWriters(nodes) => {
                let names: Vec<_> = nodes.iter().map(NodeId::as_str).collect();
                write!(f, "{} accept writes at once", names.join(" and "))
            }
            Self::TimelineTwice(timeline, one, other) => {
                write!(
                    f,
                    "timeline {timeline} was begun by `{one}`, and by `{other}`"
                )
            }
            Self::TimelineNotReserved(timeline, reserved, node) => {
                write!(
                    f,
                    "`{node}` began timeline {timeline}, and {reserved} was reserved"
                )
            }
            Self::EpochTwice(epoch, holders) => {
                let (one, other) = (&holders.0.boot_id, &holders.1.boot_id);
                write!(f, "epoch {epoch} was held by `{one}`, and by `{other}`")
            }
            Self::Hammers(node) => write!(
                f,
                "`{node}` asked the store more than {REQUESTS_PER_SECOND} times in a second"
            ),
            Self::TimelineShared(timeline, one, other) => {
                write!(f, "hosts {one} and {other} wrote on timeline {timeline}")
            }
            Self::LostUnstated(node, lost, stated) => write!(
                f,
                "`{node}` acknowledges commits, {lost} acknowledged bytes are lost, and {stated} were stated"
            ),
            Self::LostKnowingly(node, known, allowed) => write!(
                f,
                "`{node}` took the lease automatically, {known} bytes are missing on it, and {allowed} may be"
            ),
            Self::LeftRegion(node) => {
                write!(f, "`{node}` took the lease of another region automatically")
            }
            Self::HoldsWithoutServing(node, micros) => write!(
                f,
                "`{node}` renews, and for {:.1} s has neither proved a write nor advanced",
                seconds(*micros)
            ),
            Self::StartsForEver(node, starts) => {
                write!(f, "`{node}` renews after {starts} starts without a write")
            }
            Self::GaveUpWhileReplaying(node) => {
                write!(f, "`{node}` released the lease while its server replayed")
            }
            Self::NothingReported => {
                f.write_str("no node acknowledges commits, and no agent reports a problem")
            }
            Self::NoService => f.write_str("nothing is wrong, and no node acknowledges commits"),
            Self::DoesNotFollow(node) => {
                write!(
                    f,
                    "nothing is wrong, and `{node}` does not follow the primary"
                )
            }
        }
    }
}
