//! What was stated to be lost, when, and from what: the evidence that a promotion rests on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::loss::DataLoss;
use super::observation::ReplayProgress;
use crate::lease::{LeaseRecord, LeaseState, PrimaryPosition};
use crate::{Epoch, NodeId};

/// The loss, as it was stated at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossStatement {
    /// After what it was made.
    pub after: LossStatementStage,
    /// When, as the operator's clock says: RFC 3339.
    pub at: String,
    /// The version of the lease that it rests on, which the store itself answered with or a node has seen
    /// since.
    pub lease: LeaseVersion,
    /// The target.
    pub node: NodeId,
    /// How far the target said that it was.
    pub progress: ReplayProgress,
    /// What may be lost; none if no primary was ever open.
    pub data_loss: Option<DataLoss>,
}

/// When the loss is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossStatementStage {
    /// When the plan was made, or looked at again to be resumed: what an operator was shown.
    Planning,
    /// After the operator's answer.
    Answer,
    /// After the fence.
    Fence,
    /// After the target had caught up: the statement that counts.
    CatchUp,
}

/// One version of the lease, and what it says of the last primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseVersion {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its sequence.
    pub sequence: u64,
    /// Its state.
    pub state: LeaseState,
    /// Who holds it.
    pub holder: NodeId,
    /// The node that recorded `last_position`.
    pub last_primary: Option<NodeId>,
    /// How far the last open primary had come.
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
            Some(loss) => write!(f, "may lose: {loss}"),
            None => f.write_str("may lose: nothing, no primary was ever open"),
        }
    }
}
