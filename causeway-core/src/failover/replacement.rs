//! A lease in place of another: in another bucket, for another database, or for a restored one. What has to
//! be known before, and what the new record says.
//!
//! Two records of one cluster are two rights to write. So nobody may be able to go on under the old one:
//! it is retired by a conditional write where its store answers, and where it does not, every node must
//! show that it no longer uses it, or be named by the operator as stopped.

mod draft;

use std::collections::BTreeSet;
use std::fmt;

use self::draft::ReplacementDraft;
use crate::lease::{
    LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, LeaseStoreId, Nonce, SystemId,
};
use crate::{Epoch, NodeId, Timeline};

/// What one node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The lease store that its agent uses.
    pub store: Option<LeaseStoreId>,
    /// Whether it holds a lease, or its guard would still let PostgreSQL accept writes.
    pub may_write: bool,
    /// The highest epoch that it ever trusted.
    pub highest: Epoch,
    /// The highest timeline that it has seen, reserved or written.
    pub timeline: Option<Timeline>,
}

/// What was found in one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFacts {
    /// It did not answer, for this reason.
    Silent(String),
    /// It answered, with the cluster's record if there is one.
    Holds(Option<Box<LeaseRecord>>),
}

/// Everything that is known before a lease is replaced.
#[derive(Clone, Debug)]
pub struct ReplacementEvidence {
    /// The store that the new record goes to.
    pub target: LeaseStoreId,
    /// Every store that a node is known to have used, the target among them.
    pub stores: Vec<(LeaseStoreId, StoreFacts)>,
    /// Every node of the settings; none for one that does not answer.
    pub nodes: Vec<(NodeId, Option<NodeFacts>)>,
    /// The highest timeline in the new holder's directory.
    pub timeline: Timeline,
    /// The highest epoch in the DNS records, which refuse a lower one; or why they could not be read.
    pub dns: Result<Option<Epoch>, String>,
    /// The system identifier of the new holder's database.
    pub system_id: SystemId,
    /// Whether the holder's WAL reaches the last position that is known of this database.
    pub holds_position: bool,
}

/// What the operator asserts.
#[derive(Clone, Debug, Default)]
pub struct OperatorAssertions {
    /// Nodes that are stopped, and will not be started with the settings they have.
    pub without: BTreeSet<NodeId>,
    /// A store that does not answer may be left behind unretired.
    pub store_lost: bool,
    /// WAL that the last primary recorded may be missing.
    pub restored: bool,
    /// No epoch above this one was ever used.
    pub highest_epoch: Option<Epoch>,
    /// No timeline above this one was ever used.
    pub highest_reserved_timeline: Option<Timeline>,
}

/// Why the lease is not replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplacementObstacle {
    /// A node does not answer.
    Silent(NodeId),
    /// A node uses another store than the one the new record goes to.
    OtherStore(NodeId, Option<LeaseStoreId>),
    /// A node may still accept writes under a lease that is not there to be retired.
    MayWrite(NodeId),
    /// A store that was used does not answer.
    StoreSilent(LeaseStoreId, String),
    /// The target's own record is needed for a safe replacement, and the target does not answer.
    TargetSilent(String),
    /// The DNS records, which refuse an epoch below their own, cannot be read.
    DnsSilent(String),
    /// WAL that the last primary recorded is missing on the new holder.
    WalMissing,
    /// A node is named as stopped that is none of the cluster's.
    NotAMember(NodeId),
}

/// How a lease is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseReplacement {
    /// The epoch of the new record.
    pub epoch: Epoch,
    /// Its sequence.
    pub sequence: u64,
    /// The timeline below which no number is used again.
    pub highest_reserved_timeline: Timeline,
    /// The stores whose record is retired first.
    pub retire: Vec<LeaseStoreId>,
    /// The store that is left behind unretired.
    pub unretired: Option<LeaseStoreId>,
    /// What nothing but the operator's word stands for.
    pub risks: Vec<String>,
}

/// Decides whether and how the lease is replaced.
///
/// # Errors
///
/// Every [`ReplacementObstacle`] at once.
pub fn plan(
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
    /// Returns the new record: released, with `holder` to take it first, like the one of `init`.
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
            Self::Silent(node) => write!(
                f,
                "`{node}` does not answer: start its agent, or stop its host and name it with `--without {node}`"
            ),
            Self::OtherStore(node, Some(store)) => write!(
                f,
                "`{node}` uses {store}: set `[lease]` there as here, and restart its agent"
            ),
            Self::OtherStore(node, None) => {
                write!(f, "`{node}` does not say which lease store it uses: upgrade it")
            }
            Self::MayWrite(node) => {
                write!(f, "`{node}` may still accept writes: wait until its deadline is over")
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
                "the DNS records do not say under which epoch they were moved ({why}): wait, or name the highest epoch \
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
