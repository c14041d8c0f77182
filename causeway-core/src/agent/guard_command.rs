//! The command that guard should execute now.

use std::time::Duration;

use super::{Agent, Commits, GuardCommand, Role, TargetRole};
use crate::failover::decision::PromotionMode;
use crate::failover::observation::{DataDirectoryState, ServerView};

impl Agent {
    /// Returns the command that guard should execute now. Setting up a standby is not among them: the data
    /// directory may have to be rewound first.
    pub fn guard_command(&self) -> Option<GuardCommand> {
        let server = self.local.as_ref()?.server;
        let proven = match &self.role {
            Role::Holder(held) => held.proven,
            Role::Candidate => false,
        };
        match (self.target_role(), server) {
            (TargetRole::Primary { .. }, _) if !proven => None,
            (
                TargetRole::Primary { epoch, .. },
                ServerView::Stopped(DataDirectoryState::Primary),
            ) => Some(GuardCommand::StartPrimary(epoch, self.commit_mode())),
            (TargetRole::Primary { .. }, ServerView::Stopped(DataDirectoryState::Standby)) => {
                Some(GuardCommand::StartStandby)
            }
            (TargetRole::Primary { epoch, .. }, ServerView::MayWrite) if self.may_acknowledge() => {
                Some(GuardCommand::Acknowledge(epoch))
            }
            (
                TargetRole::Standby { primary: None, .. },
                ServerView::Stopped(DataDirectoryState::Primary),
            ) if self.may_return() => Some(GuardCommand::StartStandby),
            (
                TargetRole::Primary {
                    epoch,
                    mode: PromotionMode::Promote(timeline),
                },
                ServerView::Standby(_),
            ) if self.local.as_ref().is_some_and(|local| local.holds_back) => {
                Some(GuardCommand::Promote(epoch, timeline))
            }
            // Another node may be writing already: there is no time to drain.
            (TargetRole::Standby { .. }, ServerView::MayWrite) => {
                Some(GuardCommand::End(Duration::ZERO))
            }
            (
                TargetRole::Stopped,
                ServerView::MayWrite | ServerView::Standby(_) | ServerView::Unresponsive,
            ) => Some(GuardCommand::End(self.time_to_drain())),
            (
                TargetRole::Primary { .. }
                | TargetRole::Standby { .. }
                | TargetRole::Stopped
                | TargetRole::Undecided,
                ServerView::Unguarded
                | ServerView::Unresponsive
                | ServerView::Stopped(_)
                | ServerView::MayWrite
                | ServerView::Standby(_),
            ) => None,
        }
    }

    /// Returns whether a primary that is started now acknowledges commits. Until the lease is stored as
    /// `held`, its record has the position of another node, so no commit may be acknowledged.
    fn commit_mode(&self) -> Commits {
        match &self.role {
            Role::Holder(held) if held.open => Commits::Acknowledged,
            Role::Holder(_) | Role::Candidate => Commits::HeldBack,
        }
    }

    /// Returns whether guard holds commits back although the lease is stored as `held`.
    fn may_acknowledge(&self) -> bool {
        let held_back = self.local.as_ref().is_some_and(|local| local.holds_back);
        held_back && self.commit_mode() == Commits::Acknowledged
    }

    /// Returns whether this node may start as a standby without a primary, and so become a candidate: it was
    /// the last primary, has all the WAL that it recorded, and no holder has accepted writes since. The same
    /// holds for a copy of a host that took the lease before any node accepted writes.
    fn may_return(&self) -> bool {
        let (Some(observed), Some(local)) = (&self.observed, &self.local) else {
            return false;
        };
        let (record, own) = (&observed.record, &self.identity);
        if record.last_position.is_none() {
            let held = !record.holder.host_id.is_empty();
            return held && record.holder.node == own.node && record.holder.host_id != own.host_id;
        }
        record.last_primary.as_ref() == Some(&own.node) && local.holds_position
    }
}
