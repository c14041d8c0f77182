//! What the agent shows to whoever asks over HTTP.

use std::sync::Arc;

use causeway_core::HostInstant;

use crate::protocol::node_status::NodeStatus;

/// What the agent shows to whoever asks over HTTP.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusSnapshot {
    pub(crate) status: Option<Arc<NodeStatus>>,
    /// Until when this node is the primary, as far as is known now.
    pub(crate) primary_until: Option<HostInstant>,
    pub(crate) is_standby: bool,
}
