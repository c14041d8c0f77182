//! Signed commands: take the lease, release it, or the reason why a command is rejected.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::{Agent, AgentAction, ObservedLease, ReleaseReason, Role};
use crate::failover::decision::{self, NoAction, PromotionMode, Takeover};
use crate::failover::observation::ServerView;
use crate::lease::LeaseState;
use crate::{Epoch, HostInstant, NodeId, Timeline};

/// Reason why a command is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRejected {
    /// This node has not read the lease.
    #[error("this node has not read the lease yet")]
    NoLease,
    /// The lease was deleted.
    #[error("the lease was deleted: remove the delete marker from the object")]
    LeaseMissing,
    /// The lease is retired, or another node reports a newer one in another store.
    #[error("{0}")]
    NotThisLease(NoAction),
    /// The lease belongs to another database than this node's.
    #[error("the lease belongs to another database than this node's")]
    OtherDatabase,
    /// The command was planned in another epoch.
    #[error(
        "the command was planned at epoch {planned}, and the lease is at epoch {current}: plan again"
    )]
    OtherEpoch {
        /// Epoch of the command.
        planned: Epoch,
        /// Epoch of the lease.
        current: Epoch,
    },
    /// This node holds the lease.
    #[error("this node already holds the lease")]
    AlreadyPrimary,
    /// This node does not hold the lease.
    #[error("this node does not hold the lease")]
    NotPrimary,
    /// The lease has not expired, so it is no fencing proof.
    #[error(
        "the lease of `{0}` may still be in force: observed unchanged for {1:?}, less than the lease duration"
    )]
    NotFenced(NodeId, Duration),
    /// The local server cannot be promoted.
    #[error("the local server is not a consistent standby")]
    NotAStandby,
    /// The local server would acknowledge commits before the lease is stored as `held`.
    #[error("{0}", NoAction::CommitsNotHeldBack)]
    CommitsNotHeldBack,
    /// The local server is on another timeline than the last primary.
    #[error(
        "the local server is on timeline {here}, the last primary wrote on {there}: accept it with `--accept-timeline {here}`"
    )]
    OnAnotherTimeline {
        /// Timeline of this node.
        here: Timeline,
        /// Timeline of the last primary.
        there: Timeline,
    },
    /// A write of the lease is in progress.
    #[error("a write of the lease is in progress: try again")]
    Busy,
}

/// Proof that the old primary no longer accepts writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FencingProof {
    /// This node has observed the lease unchanged for the lease duration, or it was released.
    LeaseExpired,
    /// The operator asserts it: the instance is stopped, or the command has `--unfenced`.
    OperatorAsserted,
}

impl Agent {
    /// Executes a command to take the lease, planned in epoch `planned`. A server on another timeline than
    /// the last primary's takes it only if the command accepts that timeline by its number.
    ///
    /// # Errors
    ///
    /// [`CommandRejected`], with nothing changed.
    pub fn take_lease(
        &mut self,
        now: HostInstant,
        planned: Epoch,
        fenced: FencingProof,
        accepted: Option<Timeline>,
    ) -> Result<Vec<AgentAction>, CommandRejected> {
        let observed = self.check_planned_epoch(planned)?;
        if self.holds() {
            return Err(CommandRejected::AlreadyPrimary);
        }
        if observed.missing {
            return Err(CommandRejected::LeaseMissing);
        }
        if observed.record.state == LeaseState::Retired {
            return Err(CommandRejected::NotThisLease(NoAction::Retired));
        }
        if let Some(peer) = decision::find_peer_ahead(planned, &self.peers) {
            let superseded = NoAction::Superseded(peer.node.clone(), peer.highest);
            return Err(CommandRejected::NotThisLease(superseded));
        }
        let own = self.local.as_ref().and_then(|local| local.system_id);
        if own.is_some_and(|system_id| system_id != observed.record.system_id) {
            return Err(CommandRejected::OtherDatabase);
        }
        let age = now.elapsed_lower_bound(observed.since);
        let over = observed.record.state == LeaseState::Released
            || age >= self.settings.timing.lease_duration;
        if fenced == FencingProof::LeaseExpired && !over {
            return Err(CommandRejected::NotFenced(
                observed.record.holder.node.clone(),
                age,
            ));
        }
        let server = self.local.as_ref().map(|local| local.server);
        let Some(ServerView::Standby(own)) = server else {
            return Err(CommandRejected::NotAStandby);
        };
        if !self.local.as_ref().is_some_and(|local| local.holds_back) {
            return Err(CommandRejected::CommitsNotHeldBack);
        }
        if let Some(last) = observed.record.last_position
            && own.timeline != last.timeline
            && accepted != Some(own.timeline)
            && !own.descends_from(&last, &self.ancestors())
        {
            let (here, there) = (own.timeline, last.timeline);
            return Err(CommandRejected::OnAnotherTimeline { here, there });
        }
        if self.writing {
            return Err(CommandRejected::Busy);
        }
        let mode = PromotionMode::Promote(observed.record.highest_reserved_timeline.next());
        let mut actions = Vec::new();
        self.write_takeover(
            now,
            Takeover {
                epoch: planned.next(),
                mode,
            },
            &mut actions,
        );
        Ok(actions)
    }

    /// Executes a command to stop PostgreSQL and release the lease, planned in epoch `planned`.
    ///
    /// # Errors
    ///
    /// [`CommandRejected`], with nothing changed.
    pub fn release_lease(&mut self, planned: Epoch) -> Result<(), CommandRejected> {
        self.check_planned_epoch(planned)?;
        let Role::Holder(held) = &mut self.role else {
            return Err(CommandRejected::NotPrimary);
        };
        held.releasing = Some(ReleaseReason::Command);
        self.local = None; // PostgreSQL may have been started since.
        Ok(())
    }

    fn check_planned_epoch(&self, planned: Epoch) -> Result<&ObservedLease, CommandRejected> {
        let observed = self.observed.as_ref().ok_or(CommandRejected::NoLease)?;
        let current = observed.record.epoch.max(self.highest.0);
        if current != planned {
            return Err(CommandRejected::OtherEpoch { planned, current });
        }
        Ok(observed)
    }
}
