//! Replacement of a lease: in another bucket, for another database, or after a restore.
//!
//! Two leases of one cluster can lead to split-brain, so no node may continue with the old one. It is retired
//! by a conditional write if its store responds. If not, every node must report that it uses the new store,
//! or be named by the operator as stopped.

mod draft;

use std::collections::BTreeSet;
use std::fmt;

use self::draft::ReplacementDraft;
use crate::lease::{
    LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, LeaseStoreId, Nonce, SystemId,
};
use crate::{Epoch, NodeId, Timeline};

/// Report of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Lease store that its agent uses.
    pub store: Option<LeaseStoreId>,
    /// Whether it holds a lease, or its guard still lets PostgreSQL accept writes.
    pub may_write: bool,
    /// Highest epoch that it ever trusted.
    pub highest: Epoch,
    /// Highest timeline that it has observed, reserved or written.
    pub timeline: Option<Timeline>,
}

/// Content of one lease store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFacts {
    /// It did not respond, for this reason.
    Unresponsive(String),
    /// It responded, with the cluster's record if there is one.
    Holds(Option<Box<LeaseRecord>>),
}

/// Observations before a lease is replaced.
#[derive(Clone, Debug)]
pub struct ReplacementEvidence {
    /// Store of the new record.
    pub target: LeaseStoreId,
    /// Every store that a node is known to have used, and the target.
    pub stores: Vec<(LeaseStoreId, StoreFacts)>,
    /// Every node of the settings; none for a node that does not respond.
    pub nodes: Vec<(NodeId, Option<NodeFacts>)>,
    /// Highest timeline in the new holder's data directory.
    pub timeline: Timeline,
    /// Highest epoch in the DNS records, which reject a lower one; or the reason why they could not be read.
    pub dns: Result<Option<Epoch>, String>,
    /// System identifier of the new holder's database.
    pub system_id: SystemId,
    /// Whether the new holder's WAL reaches the last known position of this database.
    pub holds_position: bool,
}

/// Assertions of the operator.
#[derive(Clone, Debug, Default)]
pub struct OperatorAssertions {
    /// Nodes that are stopped, and will not be started with their current settings.
    pub without: BTreeSet<NodeId>,
    /// Whether the lease in a store that does not respond may be left unretired.
    pub store_lost: bool,
    /// Whether WAL that the last primary recorded may be missing.
    pub restored: bool,
    /// Highest epoch that was ever used.
    pub highest_epoch: Option<Epoch>,
    /// Highest timeline that was ever used.
    pub highest_reserved_timeline: Option<Timeline>,
}

/// Reason why the lease is not replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplacementObstacle {
    /// A node does not respond.
    Unresponsive(NodeId),
    /// A node uses another store than that of the new record.
    OtherStore(NodeId, Option<LeaseStoreId>),
    /// A node may still accept writes, and its lease is in no store that responds.
    MayWrite(NodeId),
    /// A store that was used does not respond.
    StoreSilent(LeaseStoreId, String),
    /// The store of the new record does not respond.
    TargetSilent(String),
    /// The DNS records, which reject an epoch below their own, cannot be read.
    DnsSilent(String),
    /// WAL that the last primary recorded is missing on the new holder.
    WalMissing,
    /// The operator named a node as stopped that is not in the cluster.
    NotAMember(NodeId),
}

/// The replacement of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseReplacement {
    /// Epoch of the new record.
    pub epoch: Epoch,
    /// Sequence of the new record.
    pub sequence: u64,
    /// Highest timeline that counts as used.
    pub highest_reserved_timeline: Timeline,
    /// Stores whose record is retired first.
    pub retire: Vec<LeaseStoreId>,
    /// Store whose record is left unretired.
    pub unretired: Option<LeaseStoreId>,
    /// Risks that rest on the operator's assertions.
    pub risks: Vec<String>,
}

/// Plans the replacement of the lease.
///
/// # Errors
///
/// Every [`ReplacementObstacle`] at once.
pub fn plan_replacement(
    seen: &ReplacementEvidence,
    asserted: &OperatorAssertions,
) -> Result<LeaseReplacement, Vec<ReplacementObstacle>> {
    let mut draft = ReplacementDraft::new(seen, asserted);
    draft.add_dns_records();
    draft.add_stores();
    draft.add_nodes();
    draft.add_assertions();
    draft.finish()
}

impl LeaseReplacement {
    /// Returns the new record: released, with `holder` to take it first, like the record of `init`.
    pub fn record(
        &self,
        cluster: &str,
        system_id: SystemId,
        holder: &NodeId,
        members: Vec<NodeId>,
        nonce: Nonce,
    ) -> LeaseRecord {
        LeaseRecord {
            format: LEASE_FORMAT,
            cluster: cluster.to_owned(),
            system_id,
            epoch: self.epoch,
            sequence: self.sequence,
            nonce,
            holder: LeaseHolder {
                node: holder.clone(),
                host_id: String::new(),
                boot_id: String::new(),
            },
            state: LeaseState::Released,
            last_position: None,
            last_primary: None,
            ancestry: None,
            highest_reserved_timeline: self.highest_reserved_timeline,
            synchronous_standby: None,
            idle_millis: 0,
            members,
            successor: None,
            unretired: self.unretired.clone(),
        }
    }
}

impl fmt::Display for ReplacementObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresponsive(node) => write!(
                f,
                "`{node}` does not answer: start its agent, or stop its host and name it with `--without {node}`"
            ),
            Self::OtherStore(node, Some(store)) => write!(
                f,
                "`{node}` uses {store}: set `[lease]` there as here, and restart its agent"
            ),
            Self::OtherStore(node, None) => {
                write!(f, "`{node}` reports no lease store: upgrade it")
            }
            Self::MayWrite(node) => {
                write!(f, "`{node}` may still accept writes: wait until its deadline has passed")
            }
            Self::StoreSilent(store, why) => write!(
                f,
                "{store}, which was used before, does not answer ({why}), so its lease cannot be retired: wait, or \
                 give it up with `--old-store-lost`"
            ),
            Self::TargetSilent(why) => {
                write!(f, "the `[lease]` bucket does not answer ({why}): nothing can be written there")
            }
            Self::DnsSilent(why) => write!(
                f,
                "the epoch of the DNS records could not be read ({why}): wait, or name the highest epoch \
                 ever used with `--highest-epoch`"
            ),
            Self::WalMissing => f.write_str(
                "the WAL in the data directory does not reach the position that the last primary recorded: choose the \
                 node that has it, or give it up with `--restored`",
            ),
            Self::NotAMember(node) => write!(f, "`--without {node}`: no such node in `[[nodes]]`"),
        }
    }
}

#[cfg(test)]
mod tests;
