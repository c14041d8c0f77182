//! What an agent does about a command, and how it answers one that it does not carry out.

use std::time::Duration;

use super::{Action, Agent, Reason, Role, Seen};
use crate::failover::decision::{self, Hold, How, TakeOver};
use crate::failover::observation::ServerView;
use crate::lease::LeaseState;
use crate::{Epoch, Moment, NodeId, Timeline};

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No lease is known here.
    #[error("no lease has been seen here yet")]
    NoLease,
    /// The lease was deleted.
    #[error("the lease was deleted: remove the delete marker from the object")]
    LeaseMissing,
    /// The lease is retired, or another node has seen a newer one in another store.
    #[error("{0}")]
    NotThisLease(Hold),
    /// The database here is not the one that the lease is of.
    #[error("the database here is not the one that the lease is of")]
    OtherDatabase,
    /// The order was planned in another epoch.
    #[error("the order was planned at epoch {planned} and the lease is at {current}: plan again")]
    OtherEpoch {
        /// The order's.
        planned: Epoch,
        /// The lease's.
        current: Epoch,
    },
    /// This node holds the lease.
    #[error("this node is the primary already")]
    AlreadyPrimary,
    /// This node does not hold the lease.
    #[error("this node does not hold the lease")]
    NotPrimary,
    /// The proof given for the fence is not one here.
    #[error(
        "the lease of `{0}` may still be in force: this node has watched it for {1:?} and needs the whole term"
    )]
    NotFenced(NodeId, Duration),
    /// The server here cannot be promoted.
    #[error("the server here is not a consistent standby")]
    NotAStandby,
    /// The server here would acknowledge commits before the lease says that this node is open.
    #[error("{0}", Hold::CommitsNotHeldBack)]
    CommitsNotHeldBack,
    /// The server here is on another timeline than the last primary was.
    #[error(
        "the server here is on timeline {here} and the last primary wrote on {there}: accept it by its number"
    )]
    OnAnotherTimeline {
        /// This node's.
        here: Timeline,
        /// The last primary's.
        there: Timeline,
    },
    /// A write of the lease is under way.
    #[error("the lease is being written at this moment: try again")]
    Busy,
}

/// How the old primary is known to accept no more writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// This node has watched the lease stand for the whole term, or it was released.
    LeaseOver,
    /// Somebody else vouches for it: its instance was stopped, or a person typed `--unfenced`.
    Vouched,
}

impl Agent {
    /// Carries out a command to take the lease, planned when the lease was at `planned`. A server on another
    /// timeline than the last primary's takes it only if the command accepts that timeline by its number.
    ///
    /// # Errors
    ///
    /// [`Refused`], with nothing changed.
    pub fn take(
        &mut self,
        now: Moment,
        planned: Epoch,
        fenced: Fenced,
        accepted: Option<Timeline>,
    ) -> Result<Vec<Action>, Refused> {
        let seen = self.expect(planned)?;
        if self.holds() {
            return Err(Refused::AlreadyPrimary);
        }
        if seen.missing {
            return Err(Refused::LeaseMissing);
        }
        if seen.record.state == LeaseState::Retired {
            return Err(Refused::NotThisLease(Hold::Retired));
        }
        if let Some(peer) = decision::ahead_of(planned, &self.peers) {
            let superseded = Hold::Superseded(peer.node.clone(), peer.highest);
            return Err(Refused::NotThisLease(superseded));
        }
        let own = self.look.as_ref().and_then(|it| it.system_id);
        if own.is_some_and(|it| it != seen.record.system_id) {
            return Err(Refused::OtherDatabase);
        }
        let age = now.shortest_since(seen.since);
        let over = seen.record.state == LeaseState::Released || age >= self.settings.timing.term;
        if fenced == Fenced::LeaseOver && !over {
            return Err(Refused::NotFenced(seen.record.holder.node.clone(), age));
        }
        let server = self.look.as_ref().map(|it| it.server);
        let Some(ServerView::Following(own)) = server else {
            return Err(Refused::NotAStandby);
        };
        if !self.look.as_ref().is_some_and(|it| it.holds_back) {
            return Err(Refused::CommitsNotHeldBack);
        }
        if let Some(last) = seen.record.position
            && own.timeline != last.timeline
            && accepted != Some(own.timeline)
            && !own.descends_from(&last, &self.ancestors())
        {
            let (here, there) = (own.timeline, last.timeline);
            return Err(Refused::OnAnotherTimeline { here, there });
        }
        if self.writing {
            return Err(Refused::Busy);
        }
        let how = How::Promote(seen.record.highest_timeline.next());
        let mut actions = Vec::new();
        self.challenge(
            now,
            TakeOver {
                epoch: planned.next(),
                how,
            },
            &mut actions,
        );
        Ok(actions)
    }

    /// Carries out a command to stop PostgreSQL and release the lease, planned when the lease was at
    /// `planned`.
    ///
    /// # Errors
    ///
    /// [`Refused`], with nothing changed.
    pub fn release(&mut self, planned: Epoch) -> Result<(), Refused> {
        self.expect(planned)?;
        let Role::Holding(held) = &mut self.role else {
            return Err(Refused::NotPrimary);
        };
        held.releasing = Some(Reason::Command);
        self.look = None; // A start may have been ordered since.
        Ok(())
    }

    fn expect(&self, planned: Epoch) -> Result<&Seen, Refused> {
        let seen = self.seen.as_ref().ok_or(Refused::NoLease)?;
        let current = seen.record.epoch.max(self.highest.0);
        if current != planned {
            return Err(Refused::OtherEpoch { planned, current });
        }
        Ok(seen)
    }
}
