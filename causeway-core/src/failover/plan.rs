//! The plan of a failover, as a value.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::collation::CollationDifference;
use super::loss::DataLoss;
use crate::{Epoch, NodeId, Timeline};

/// The steps of one promotion, in order.
///
/// A plan is printed and confirmed before it is executed, stored in the journal, and compared in tests. Each
/// step is idempotent, so an interrupted plan is resumed from its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverPlan {
    /// Node that becomes primary.
    pub to: NodeId,
    /// Node that was primary.
    pub from: NodeId,
    /// Epoch of the lease when the plan was made. Every command carries it, and a node rejects a command whose
    /// epoch is not the lease's.
    pub planned_epoch: Epoch,
    /// Possible data loss; none if no primary has accepted writes yet.
    pub data_loss: Option<DataLoss>,
    /// Timeline of the target, accepted although the last primary wrote on another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_timeline: Option<Timeline>,
    /// Difference of the target's collation versions from the last primary's, which the operator has to accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation_difference: Option<CollationDifference>,
    /// Steps of the plan.
    pub steps: Vec<PlanStep>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum PlanStep {
    /// Fence the old primary, so that it accepts no more writes.
    Fence {
        /// Old primary.
        node: NodeId,
        /// Method of fencing.
        method: FencingMethod,
    },
    /// Wait until the target has replayed all received WAL.
    CatchUp {
        /// Target.
        node: NodeId,
    },
    /// Command the target to take the lease.
    TakeLease {
        /// Target.
        node: NodeId,
        /// Epoch that it takes.
        epoch: Epoch,
    },
    /// Wait until the target accepts writes.
    Promote {
        /// Target.
        node: NodeId,
        /// Timeline reserved for it.
        timeline: Timeline,
    },
    /// Point a DNS record at the target, or at the endpoint of its region.
    PointRecord {
        /// Name of the record.
        name: String,
        /// Address, or host name.
        target: String,
        /// Epoch under which it is moved.
        epoch: Epoch,
    },
    /// Write a row and read it back, as a client does.
    VerifyWrite {
        /// Host name that clients use.
        host: String,
    },
}

/// Method by which the old primary is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FencingMethod {
    /// The target has observed the lease unchanged for the lease duration, so guard has ended PostgreSQL.
    LeaseExpired,
    /// Its EC2 instance is stopped.
    InstanceStopped,
    /// No proof; the operator has accepted that, and the journal records it.
    Unfenced,
}

impl FailoverPlan {
    /// Returns the method by which the old primary is fenced.
    pub fn fence(&self) -> FencingMethod {
        let method = |step: &PlanStep| match step {
            PlanStep::Fence { method, .. } => Some(*method),
            PlanStep::CatchUp { .. }
            | PlanStep::TakeLease { .. }
            | PlanStep::Promote { .. }
            | PlanStep::PointRecord { .. }
            | PlanStep::VerifyWrite { .. } => None,
        };
        self.steps
            .iter()
            .find_map(method)
            .unwrap_or(FencingMethod::LeaseExpired)
    }
}

impl fmt::Display for FailoverPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "promote `{}` at epoch {}, replacing `{}`",
            self.to,
            self.planned_epoch.next(),
            self.from
        )?;
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "  {number}. {step}")?;
        }
        if let Some(timeline) = self.accept_timeline {
            writeln!(f, "accepts that `{}` is on timeline {timeline}", self.to)?;
        }
        if let Some(difference) = &self.collation_difference {
            writeln!(
                f,
                "accepts wrong order of text: `{}` says that {difference}; rebuild every index over text with REINDEX",
                self.to
            )?;
        }
        match &self.data_loss {
            Some(loss) => write!(f, "possible data loss: {loss}"),
            None => f.write_str("possible data loss: none, no primary has accepted writes yet"),
        }
    }
}

impl fmt::Display for PlanStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fence {
                node,
                method: FencingMethod::LeaseExpired,
            } => {
                write!(
                    f,
                    "fence `{node}`: wait for its lease to expire, before which its guard stops PostgreSQL"
                )
            }
            Self::Fence {
                node,
                method: FencingMethod::InstanceStopped,
            } => {
                write!(f, "fence `{node}`: stop its EC2 instance")
            }
            Self::Fence {
                node,
                method: FencingMethod::Unfenced,
            } => {
                write!(
                    f,
                    "do NOT fence `{node}`: it may still accept writes, which would be lost"
                )
            }
            Self::CatchUp { node } => {
                write!(f, "wait until `{node}` has replayed all received WAL")
            }
            Self::TakeLease { node, epoch } => {
                write!(f, "command `{node}` to take the lease at epoch {epoch}")
            }
            Self::Promote { node, timeline } => {
                write!(f, "promote `{node}` onto timeline {timeline}")
            }
            Self::PointRecord {
                name,
                target,
                epoch,
            } => {
                write!(f, "point `{name}` at {target} under epoch {epoch}")
            }
            Self::VerifyWrite { host } => {
                write!(f, "write a row through `{host}` and read it back")
            }
        }
    }
}
