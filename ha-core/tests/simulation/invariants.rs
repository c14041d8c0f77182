//! What must hold after every event, whatever happened before it.

use std::collections::BTreeMap;
use std::fmt;

use ha_core::lease::{Holder, LeaseRecord};
use ha_core::{Epoch, NodeId, Timeline};

use crate::chance::{Micros, SECOND};
use crate::host::Host;

/// More requests to the store than this in one second are a loop that never waits.
const REQUESTS_PER_SECOND: u32 = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Two nodes could acknowledge a write at one instant.
    TwoWriters(Vec<NodeId>),
    /// Two promotions led to one timeline.
    TimelineTwice(Timeline, NodeId, NodeId),
    /// A promotion led to another timeline than the one reserved for it.
    TimelineNotReserved(Timeline, Timeline, NodeId),
    /// Two nodes, or one in two boots, held one epoch.
    EpochTwice(Epoch, Box<(Holder, Holder)>),
    /// A node asks the store without a pause.
    Hammers(NodeId),
    /// Long after the last fault, no node accepts writes.
    NoService,
}

#[derive(Debug, Default)]
pub(crate) struct Invariants {
    began: BTreeMap<Timeline, NodeId>,
    holders: BTreeMap<Epoch, Holder>,
    /// What was found where it happened, and is reported by the next check.
    found: Option<Violation>,
}

impl Invariants {
    pub(crate) fn check(&mut self, hosts: &[Host]) -> Result<(), Violation> {
        if let Some(found) = self.found.take() {
            return Err(found);
        }
        let writes = |it: &&Host| it.server.acknowledges();
        if hosts.iter().filter(writes).count() > 1 {
            let names = hosts.iter().filter(writes).map(|it| it.node.clone());
            return Err(Violation::TwoWriters(names.collect()));
        }
        Ok(())
    }

    /// Checks that, with nothing wrong for a minute, the database can be written to.
    pub(crate) fn check_service(hosts: &[Host]) -> Result<(), Violation> {
        let writes = |it: &Host| it.server.acknowledges() && it.server.answers();
        if hosts.iter().any(writes) {
            return Ok(());
        }
        Err(Violation::NoService)
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
            | Self::EpochTwice(..) => true,
            Self::Hammers(_) | Self::NoService => false,
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
            Self::NoService => f.write_str("nothing is wrong, and no node accepts writes"),
        }
    }
}
