//! A command to come back: accepted only where it changes something, and told how it ended.

use causeway_core::agent::TargetRole;
use causeway_core::failover::observation::ServerView;

use crate::agent::event_loop::AgentLoop;
use crate::agent::standby::state::{RejoinRequest, StandbyState};
use crate::protocol::node_status::RejoinStatus;

impl AgentLoop {
    /// Accepts a command to come back, unless there is nothing that it would change.
    pub(crate) fn order_rejoin(&mut self, command: &str, rebuild: bool) -> Result<(), String> {
        let own = &self.host.node.name;
        let TargetRole::Standby { primary, .. } = self.core.target_role() else {
            return Err(format!("`{own}` holds the lease, or has just released it"));
        };
        let Some(primary) = primary else {
            return Err("there is no open primary to follow".to_owned());
        };
        if self.settings.node(&primary).is_none() {
            return Err(format!(
                "the primary, `{primary}`, is not in this node's settings: add it to `[[nodes]]`"
            ));
        }
        if matches!(self.following.server, None | Some(ServerView::Unguarded)) {
            return Err("guard does not answer, so that nothing can be started".to_owned());
        }
        if !rebuild && self.following.streams() {
            return Err(format!("`{own}` streams already: there is nothing to do"));
        }
        self.following.follows(&primary);
        self.following.asked = Some(RejoinRequest {
            command: command.to_owned(),
            rebuild,
            failure: None,
        });
        self.following.retry_at = None;
        self.following.rejoined = None;
        Ok(())
    }
}

impl StandbyState {
    /// Says whether a command asks for a copy that is not made yet.
    pub(super) fn wants_rebuild(&self) -> bool {
        self.asked.as_ref().is_some_and(|command| command.rebuild)
    }

    /// Takes in that the server streams: a command is carried out, unless it asks for a copy.
    pub(super) fn has_rejoined(&mut self) {
        if let Some(asked) = self.asked.take_if(|command| !command.rebuild) {
            self.rejoined = Some(RejoinStatus {
                command: asked.command,
                completed: true,
                failure: None,
            });
        }
    }

    /// Returns how far the last command is.
    pub(crate) fn rejoin_status(&self) -> Option<RejoinStatus> {
        let Some(asked) = &self.asked else {
            return self.rejoined.clone();
        };
        Some(RejoinStatus {
            command: asked.command.clone(),
            completed: false,
            failure: asked.failure.clone(),
        })
    }
}
