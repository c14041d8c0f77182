//! How an agent answers a command that it does not carry out.

use std::time::Duration;

use crate::{Epoch, NodeId};

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No lease is known here.
    #[error("no lease has been seen here yet")]
    NoLease,
    /// The lease was deleted.
    #[error("the lease was deleted: remove the delete marker from the object")]
    LeaseMissing,
    /// The order was planned in another epoch.
    #[error("the order was planned at epoch {planned} and the lease is at {current}: plan again")]
    OtherEpoch {
        /// The order's.
        planned: Epoch,
        /// The lease's.
        current: Epoch,
    },
    /// This node holds the lease.
    #[error("this node is the primary already")]
    AlreadyPrimary,
    /// This node does not hold the lease.
    #[error("this node does not hold the lease")]
    NotPrimary,
    /// The proof given for the fence is not one here.
    #[error(
        "the lease of `{0}` may still be in force: this node has watched it for {1:?} and needs the whole term"
    )]
    NotFenced(NodeId, Duration),
    /// The server here cannot be promoted.
    #[error("the server here is not a consistent standby")]
    NotAStandby,
    /// A write of the lease is under way.
    #[error("the lease is being written at this moment: try again")]
    Busy,
}

/// How the old primary is known to accept no more writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// This node has watched the lease stand for the whole term, or it was released.
    LeaseOver,
    /// Somebody else vouches for it: its instance was stopped, or a person typed `--unfenced`.
    Vouched,
}
