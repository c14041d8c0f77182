//! Statements of the data loss, with their time and their evidence: what a promotion is based on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::loss::DataLoss;
use super::observation::ReplayProgress;
use crate::lease::{LeaseRecord, LeaseState, PrimaryPosition};
use crate::{Epoch, NodeId};

/// The data loss as stated at one stage of a promotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossStatement {
    /// Stage at which it was made.
    pub after: LossStatementStage,
    /// Time by the operator's clock, in RFC 3339.
    pub at: String,
    /// Version of the lease that it is based on, returned by the store or reported by a node since.
    pub lease: LeaseVersion,
    /// Target of the promotion.
    pub node: NodeId,
    /// Progress that the target reported.
    pub progress: ReplayProgress,
    /// Possible data loss; none if no primary has accepted writes yet.
    pub data_loss: Option<DataLoss>,
}

/// Stage of a promotion at which the loss is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossStatementStage {
    /// The plan was made, or read to be resumed: the statement shown to the operator.
    Planning,
    /// The operator confirmed the plan.
    Answer,
    /// The old primary was fenced.
    Fence,
    /// The target had replayed all received WAL: the statement that is decisive.
    CatchUp,
}

/// One version of the lease, and its last primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseVersion {
    /// Epoch.
    pub epoch: Epoch,
    /// Sequence.
    pub sequence: u64,
    /// State.
    pub state: LeaseState,
    /// Holder.
    pub holder: NodeId,
    /// Node that recorded `last_position`.
    pub last_primary: Option<NodeId>,
    /// Last position recorded by a primary.
    pub last_position: Option<PrimaryPosition>,
}

impl From<&LeaseRecord> for LeaseVersion {
    fn from(record: &LeaseRecord) -> Self {
        Self {
            epoch: record.epoch,
            sequence: record.sequence,
            state: record.state,
            holder: record.holder.node.clone(),
            last_primary: record.last_primary.clone(),
            last_position: record.last_position,
        }
    }
}

impl fmt::Display for LossStatementStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Planning => "planning",
            Self::Answer => "the answer",
            Self::Fence => "the fence",
            Self::CatchUp => "catch-up",
        })
    }
}

impl fmt::Display for LossStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeaseVersion {
            epoch,
            sequence,
            state,
            holder,
            ..
        } = &self.lease;
        let (node, received) = (&self.node, self.progress.received_lsn);
        write!(
            f,
            "after {}: lease epoch {epoch}, sequence {sequence} ({state}, `{holder}`); `{node}` has received up to \
             {received} on timeline {}; ",
            self.after, self.progress.timeline
        )?;
        match &self.data_loss {
            Some(loss) => write!(f, "possible data loss: {loss}"),
            None => f.write_str("possible data loss: none, no primary has accepted writes yet"),
        }
    }
}
