//! The command that guard should execute now.

use std::time::Duration;

use super::{Agent, Commits, GuardCommand, Role, TargetRole};
use crate::failover::decision::PromotionMode;
use crate::failover::observation::{DataDirectoryState, ServerView};

impl Agent {
    /// Returns what guard should do now. How a node comes to follow is not guard's to say: its
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
            // Somebody else may be writing at this moment: there is no time to drain.
            (TargetRole::Standby { .. }, ServerView::MayWrite) => {
                Some(GuardCommand::End(Duration::ZERO))
            }
            (
                TargetRole::Stopped,
                ServerView::MayWrite | ServerView::Standby(_) | ServerView::Silent,
            ) => Some(GuardCommand::End(self.time_to_drain())),
            (
                TargetRole::Primary { .. }
                | TargetRole::Standby { .. }
                | TargetRole::Stopped
                | TargetRole::Undecided,
                ServerView::Unguarded
                | ServerView::Silent
                | ServerView::Stopped(_)
                | ServerView::MayWrite
                | ServerView::Standby(_),
            ) => None,
        }
    }

    /// Returns what becomes of the commits of a primary that is started now. Until the lease says that
    /// this node is open, the record names the position of another, so none may be acknowledged.
    fn commit_mode(&self) -> Commits {
        match &self.role {
            Role::Holder(held) if held.open => Commits::Acknowledged,
            Role::Holder(_) | Role::Candidate => Commits::HeldBack,
        }
    }

    /// Says whether guard holds commits back although the lease says that this node is open.
    fn may_acknowledge(&self) -> bool {
        let held_back = self.local.as_ref().is_some_and(|local| local.holds_back);
        held_back && self.commit_mode() == Commits::Acknowledged
    }

    /// Says whether this node was the last primary, has all that it recorded, and no holder has been open
    /// since: it becomes a standby of nobody, and so a candidate. So does a copy of a host that held the
    /// lease before any node was ever open.
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
