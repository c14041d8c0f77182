//! State of the agent that its HTTP handlers read.

use std::sync::Arc;

use causeway_core::HostInstant;

use crate::protocol::node_status::NodeStatus;

/// State of the agent that its HTTP handlers read.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusSnapshot {
    pub(crate) status: Option<Arc<NodeStatus>>,
    /// Stop deadline of this primary; none on other nodes.
    pub(crate) primary_until: Option<HostInstant>,
    pub(crate) is_standby: bool,
}
