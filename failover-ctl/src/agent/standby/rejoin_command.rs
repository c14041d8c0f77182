//! `rejoin` command: checked when it arrives, and its progress for `/status`.

use causeway_core::agent::TargetRole;
use causeway_core::failover::observation::ServerView;

use crate::agent::event_loop::AgentLoop;
use crate::agent::standby::state::{RejoinRequest, StandbyState};
use crate::protocol::node_status::RejoinStatus;

impl AgentLoop {
    /// Accepts a `rejoin` command, or returns why it would change nothing.
    pub(crate) fn accept_rejoin(&mut self, command: &str, rebuild: bool) -> Result<(), String> {
        let own = &self.host.node.name;
        let TargetRole::Standby { primary, .. } = self.core.target_role() else {
            return Err(format!(
                "`{own}` holds the lease, or has just released it, so it cannot rejoin"
            ));
        };
        let Some(primary) = primary else {
            return Err("no primary accepts writes: wait, or promote a node".to_owned());
        };
        if self.settings.node(&primary).is_none() {
            return Err(format!(
                "the primary, `{primary}`, is not in this node's settings: add it to `[[nodes]]`"
            ));
        }
        if matches!(self.standby.server, None | Some(ServerView::Unguarded)) {
            return Err(
                "the guard does not respond, so PostgreSQL cannot be started: check its service"
                    .to_owned(),
            );
        }
        if !rebuild && self.standby.streams() {
            return Err(format!("`{own}` streams already"));
        }
        self.standby.set_primary(&primary);
        self.standby.asked = Some(RejoinRequest {
            command: command.to_owned(),
            rebuild,
            failure: None,
        });
        self.standby.retry_at = None;
        self.standby.rejoined = None;
        Ok(())
    }
}

impl StandbyState {
    /// Returns whether a command requests a copy that is not made yet.
    pub(super) fn wants_rebuild(&self) -> bool {
        self.asked.as_ref().is_some_and(|command| command.rebuild)
    }

    /// Completes the command when the server streams, unless it still requests a copy.
    pub(super) fn complete_rejoin(&mut self) {
        if let Some(asked) = self.asked.take_if(|command| !command.rebuild) {
            self.rejoined = Some(RejoinStatus {
                command: asked.command,
                completed: true,
                failure: None,
            });
        }
    }

    /// Returns the progress of the last command.
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
