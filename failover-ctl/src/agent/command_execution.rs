//! Execution of signed commands.

use causeway_runtime::clock;
use tracing::info;

use crate::agent::event_loop::AgentLoop;
use crate::protocol::signed_command::{CommandKind, SignedCommand};

impl AgentLoop {
    /// Executes a signed command, or returns the reason for the HTTP response.
    pub(super) fn execute_command(&mut self, signed: &SignedCommand) -> Result<(), String> {
        if signed.cluster != self.settings.cluster || signed.node != self.host.node.name {
            return Err("the command is for another node or cluster: check `[[nodes]]`".to_owned());
        }
        let now = clock::now();
        let current = self.core.lease(now).map(|(record, _)| record.epoch);
        if current != Some(signed.planned_epoch) {
            return Err(format!(
                "the command was planned at epoch {}, and the lease is at {}: plan again",
                signed.planned_epoch,
                current.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string())
            ));
        }
        if self.commands_epoch != signed.planned_epoch {
            self.commands_epoch = signed.planned_epoch;
            self.received_commands.clear();
        }
        if !self.received_commands.insert(signed.id.clone()) {
            return Err("the command was already received".to_owned());
        }
        match signed.command {
            CommandKind::TakeLease {
                fencing_proof,
                timeline,
            } => {
                let actions = self
                    .core
                    .take_lease(now, signed.planned_epoch, fencing_proof, timeline)
                    .map_err(|error| error.to_string())?;
                for action in actions {
                    self.execute_action(action);
                }
            }
            CommandKind::Rejoin { rebuild } => {
                if self.core.holds() {
                    return Err("this node holds the lease, so it cannot rejoin".to_owned());
                }
                self.accept_rejoin(&signed.id, rebuild)?;
            }
        }
        info!(command = ?signed.command, planned_epoch = %signed.planned_epoch, "command accepted");
        Ok(())
    }
}
