//! A failover written down before it is carried out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::loss::DataLoss;
use crate::{Epoch, NodeId, Timeline};

/// The steps of one promotion, in order, with nothing left to choose.
///
/// A plan is a value: it can be printed, compared, stored and read by a person before anything is
/// done. Each step is safe to repeat, so a plan that was cut off is continued from its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverPlan {
    /// The node that becomes primary.
    pub to: NodeId,
    /// The node that was primary.
    pub from: NodeId,
    /// The epoch of the lease when this was planned: every order carries it, and a node refuses one
    /// whose epoch is not the lease's.
    pub planned_epoch: Epoch,
    /// What may be lost; none if no primary was ever open.
    pub data_loss: Option<DataLoss>,
    /// The timeline of the target that is accepted although the last primary wrote on another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_timeline: Option<Timeline>,
    /// What will be done.
    pub steps: Vec<PlanStep>,
}

/// One change to the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum PlanStep {
    /// Make sure that the old primary accepts no more writes.
    Fence {
        /// The old primary.
        node: NodeId,
        /// How that is made sure.
        method: FencingMethod,
    },
    /// Wait until the target has replayed all that it received.
    CatchUp {
        /// The target.
        node: NodeId,
    },
    /// Have the target take the lease.
    TakeLease {
        /// The target.
        node: NodeId,
        /// The epoch that it takes.
        epoch: Epoch,
    },
    /// Wait until the target accepts writes.
    Promote {
        /// The target.
        node: NodeId,
        /// The timeline that is reserved for it.
        timeline: Timeline,
    },
    /// Point a DNS record at the target, or at what serves its region.
    PointRecord {
        /// The record.
        name: String,
        /// An address, or a name.
        target: String,
        /// The epoch under which it is moved.
        epoch: Epoch,
    },
    /// Write a row and read it back, as a client would.
    VerifyWrite {
        /// The host name that a client would use.
        host: String,
    },
}

/// How the old primary is known to accept no more writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FencingMethod {
    /// The target has watched the lease stand for its whole term, so guard has ended PostgreSQL.
    LeaseExpired,
    /// Its EC2 instance is stopped.
    InstanceStopped,
    /// Nothing proves it; a person has said to go on, and that is recorded.
    Unfenced,
}

impl FailoverPlan {
    /// Returns how the old primary is fenced.
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
            "make `{}` primary at epoch {}, in place of `{}`",
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
        match &self.data_loss {
            Some(loss) => write!(f, "may lose: {loss}"),
            None => f.write_str("may lose: nothing, no primary was ever open"),
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
                    "fence `{node}`: wait for its lease to expire, by when its guard has stopped PostgreSQL"
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
                write!(f, "wait until `{node}` has replayed all that it received")
            }
            Self::TakeLease { node, epoch } => {
                write!(f, "have `{node}` take the lease at epoch {epoch}")
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
