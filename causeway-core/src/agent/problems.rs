//! Problems of this node that its agent derives from the lease and the local server.

use std::collections::BTreeSet;
use std::time::Duration;

use super::held_lease::HeldLease;
use super::{Agent, LocalObservation, Role, ServerHealth};
use crate::failover::decision::{Decision, NoAction};
use crate::failover::observation::ServerView;
use crate::lease::{LeaseRecord, LeaseState};
use crate::problem::{NodeProblem, ProblemKind};
use crate::{HostInstant, NodeId};

/// Time without a proven write after which a holder has a problem: three probes.
const UNPROVEN_WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time without a node that accepts writes after which that is a problem: a takeover and its promotion.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

impl Agent {
    /// Returns every problem at `now`.
    pub fn problems(&self, now: HostInstant) -> Vec<NodeProblem> {
        let mut found = Vec::new();
        self.add_lease_problems(now, &mut found);
        let Some(local) = &self.local else {
            return found;
        };
        if local.server == ServerView::Unguarded {
            let detail = "guard does not answer, so PostgreSQL can be neither started nor promoted";
            found.push(NodeProblem::new(ProblemKind::GuardUnresponsive, detail));
        }
        found.extend(self.collation_problem(local));
        match &self.role {
            Role::Holder(held) => {
                found.extend(held.problem(now, local));
                found.extend(held.service.crash_looping(now));
            }
            Role::Candidate => self.add_candidate_problems(now, local, &mut found),
        }
        if let Some(reason) = self.gave_up {
            let detail = format!("this node released the lease: {reason}");
            found.push(NodeProblem::new(ProblemKind::NotWriting, detail));
        }
        found
    }

    /// Returns the time since the holder's PostgreSQL last proved a write; none on other nodes.
    pub fn unproven(&self, now: HostInstant) -> Option<Duration> {
        match &self.role {
            Role::Holder(held) => Some(held.service.unproven(now)),
            Role::Candidate => None,
        }
    }

    /// Returns whether the lease store answers this node: a renewal of the holder was stored, or a read answered, within
    /// the time after which that is a problem.
    pub fn reaches_lease_store(&self, now: HostInstant) -> bool {
        self.lease_store_silence(now)
            .is_some_and(|silent| silent < self.max_lease_store_silence())
    }

    /// Returns for how long the lease store has not answered; none if it never did.
    fn lease_store_silence(&self, now: HostInstant) -> Option<Duration> {
        let missing = self
            .observed
            .as_ref()
            .is_some_and(|observed| observed.missing);
        let answered_at = match &self.role {
            Role::Holder(held) if !missing => Some(held.confirmed_at),
            Role::Holder(_) | Role::Candidate => self.store_answered_at,
        };
        answered_at.map(|answered_at| now.elapsed_upper_bound(answered_at))
    }

    fn max_lease_store_silence(&self) -> Duration {
        let timing = self.settings.timing;
        timing.renew_interval + 2 * timing.request_timeout
    }

    /// Records whether a node is known to accept writes, and clears the reason of this node's release once
    /// another node does.
    pub(super) fn record_service(&mut self, now: HostInstant) {
        let open = match &self.role {
            Role::Holder(held) => held.open,
            Role::Candidate => self.is_open_elsewhere(now),
        };
        if open {
            self.not_open_since = None;
        } else {
            self.not_open_since.get_or_insert(now);
        }
        if open && matches!(self.role, Role::Candidate) {
            self.gave_up = None;
        }
    }

    fn is_open_elsewhere(&self, now: HostInstant) -> bool {
        self.observed.as_ref().is_some_and(|observed| {
            let renewed =
                now.elapsed_lower_bound(observed.since) < self.settings.timing.lease_duration;
            observed.record.state == LeaseState::Held
                && observed.record.holder.node != self.identity.node
                && renewed
        })
    }

    fn add_lease_problems(&self, now: HostInstant, found: &mut Vec<NodeProblem>) {
        found.extend(self.unusable.clone());
        let Some(observed) = &self.observed else {
            let detail = "no lease record has been read: check `[lease]`, or run `failover-ctl init`, or \
                          `replace-lease` if there was one";
            found.push(NodeProblem::new(ProblemKind::LeaseUnknown, detail));
            return;
        };
        if let Some(detail) = self.describe_node_differences(&observed.record) {
            found.push(NodeProblem::new(ProblemKind::NodesDiffer, detail));
        }
        if let Some(store) = &observed.record.unretired {
            let detail = format!(
                "the lease in {store} is not retired yet: do not start a node that uses it"
            );
            found.push(NodeProblem::new(ProblemKind::OldLeaseNotRetired, detail));
        }
        if observed.missing {
            let detail = "the lease object was deleted: remove its delete marker";
            found.push(NodeProblem::new(ProblemKind::LeaseMissing, detail));
        }
        if let Some(silent) = self.lease_store_silence(now)
            && silent >= self.max_lease_store_silence()
        {
            let detail = format!(
                "the lease store has not answered for {:.0} s",
                silent.as_secs_f64()
            );
            found.push(NodeProblem::new(ProblemKind::LeaseStoreUnreachable, detail));
        }
        if let Some(since) = self.not_open_since {
            let closed = now.elapsed_upper_bound(since);
            if closed >= TAKEOVER_TIMEOUT {
                let (holder, state) = (&observed.record.holder.node, observed.record.state);
                let detail = format!(
                    "no node has accepted writes for {:.0} s: the lease is {state} by `{holder}`",
                    closed.as_secs_f64()
                );
                found.push(NodeProblem::new(ProblemKind::NoHolder, detail));
            }
        }
    }

    /// Describes the difference between this node's `[[nodes]]` and the list of the node that wrote the record.
    fn describe_node_differences(&self, record: &LeaseRecord) -> Option<String> {
        let own: BTreeSet<_> = self.identity.members.iter().collect();
        let there: BTreeSet<_> = record.members.iter().collect();
        let names = |nodes: &mut dyn Iterator<Item = &&NodeId>| {
            let names: Vec<_> = nodes.map(|node| format!("`{node}`")).collect();
            names.join(", ")
        };
        let lacking = names(&mut there.difference(&own));
        let more = names(&mut own.difference(&there));
        let holder = &record.holder.node;
        match (lacking.is_empty(), more.is_empty()) {
            (true, true) => None,
            (false, _) => Some(format!(
                "`[[nodes]]` here lacks {lacking}, which `{holder}` lists: make the lists the same and restart the agent"
            )),
            (true, false) => Some(format!(
                "`[[nodes]]` of `{holder}` lacks {more}: make the lists the same and restart its agent"
            )),
        }
    }

    /// Returns the difference from the primary, which excludes this node from automatic failover; otherwise the
    /// first collation in use that was recorded with another version, which is wrong on the primary too.
    fn collation_problem(&self, local: &LocalObservation) -> Option<NodeProblem> {
        let collations = local.collations.as_ref()?;
        let detail = match (self.collation_difference(), collations.stale.first()) {
            (Some(difference), _) if difference.primary.is_some() => format!(
                "{difference}: no automatic failover to this node; install the same release of the operating system"
            ),
            (Some(difference), _) => format!(
                "{difference}: no automatic failover to this node; rebuild them on the primary (REINDEX), then run \
                 ALTER DATABASE or ALTER COLLATION with REFRESH VERSION"
            ),
            (None, Some(stale)) => format!(
                "{stale}: rebuild the indexes over text (REINDEX), then run ALTER DATABASE or ALTER COLLATION with \
                 REFRESH VERSION"
            ),
            (None, None) => return None,
        };
        Some(NodeProblem::new(ProblemKind::CollationDiffers, detail))
    }

    fn add_candidate_problems(
        &self,
        now: HostInstant,
        local: &LocalObservation,
        found: &mut Vec<NodeProblem>,
    ) {
        let closed = self
            .not_open_since
            .is_some_and(|since| now.elapsed_upper_bound(since) >= TAKEOVER_TIMEOUT);
        if matches!(local.server, ServerView::Standby(_)) && !local.holds_back {
            let detail = NoAction::CommitsNotHeldBack.to_string();
            found.push(NodeProblem::new(ProblemKind::NotPromotable, detail));
        }
        if local.server == ServerView::Unresponsive
            && let ServerHealth::Unproven(failure) = local.health
        {
            let detail = format!("PostgreSQL responds, but {failure}");
            found.push(NodeProblem::new(ProblemKind::NotPromotable, detail));
        }
        match &self.last_decision {
            Some(Decision::Escalate(why)) => {
                found.push(NodeProblem::new(
                    ProblemKind::OperatorNeeded,
                    why.to_string(),
                ));
            }
            Some(Decision::NoAction(why @ (NoAction::ManualOnly | NoAction::OtherRegion(_))))
                if closed =>
            {
                found.push(NodeProblem::new(
                    ProblemKind::OperatorNeeded,
                    why.to_string(),
                ));
            }
            Some(Decision::NoAction(why @ (NoAction::Retired | NoAction::Superseded(..)))) => {
                found.push(NodeProblem::new(ProblemKind::LeaseRetired, why.to_string()));
            }
            Some(Decision::NoAction(why @ NoAction::OtherDatabase)) => {
                found.push(NodeProblem::new(
                    ProblemKind::ClusterMismatch,
                    why.to_string(),
                ));
            }
            Some(Decision::NoAction(why @ NoAction::OtherHost(_))) => {
                found.push(NodeProblem::new(
                    ProblemKind::DuplicateNode,
                    why.to_string(),
                ));
            }
            Some(Decision::NoAction(why @ NoAction::NotConsistent)) => {
                let detail = format!("{why}: it is {}", describe_server(local));
                found.push(NodeProblem::new(ProblemKind::NotPromotable, detail));
            }
            _ => {}
        }
    }
}

impl HeldLease {
    fn problem(&self, now: HostInstant, local: &LocalObservation) -> Option<NodeProblem> {
        let unproven = self.service.unproven(now);
        if local.primary.is_some() || unproven < UNPROVEN_WRITE_TIMEOUT {
            return None;
        }
        let (starts, secs) = (self.service.starts_since_proof(), unproven.as_secs_f64());
        let kind = match (local.server, local.health) {
            _ if starts > 1 => ProblemKind::CannotStart,
            (ServerView::Stopped(_), _) => ProblemKind::CannotStart,
            (ServerView::MayWrite, ServerHealth::Recovering) => ProblemKind::Replaying,
            _ => ProblemKind::NotWriting,
        };
        let detail = format!(
            "PostgreSQL has verified no write for {secs:.0} s, after {starts} starts: it is {}",
            describe_server(local)
        );
        Some(NodeProblem::new(kind, detail))
    }
}

fn describe_server(local: &LocalObservation) -> String {
    match (local.server, local.health) {
        (ServerView::Unguarded, _) => "without guard".to_owned(),
        (ServerView::Stopped(directory), _) => format!("stopped ({directory:?} directory)"),
        (ServerView::Standby(_), _) => "a standby".to_owned(),
        (
            ServerView::Unresponsive,
            ServerHealth::Unresponsive | ServerHealth::Recovering | ServerHealth::Writes,
        ) => "a standby that does not respond, or is not consistent yet".to_owned(),
        (ServerView::MayWrite, ServerHealth::Unresponsive) => "unresponsive".to_owned(),
        (ServerView::MayWrite, ServerHealth::Recovering) => "replaying WAL".to_owned(),
        (ServerView::Unresponsive | ServerView::MayWrite, ServerHealth::Unproven(failure)) => {
            format!("answering, and {failure}")
        }
        (ServerView::MayWrite, ServerHealth::Writes) => "writing".to_owned(),
    }
}
