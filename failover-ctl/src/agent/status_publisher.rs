//! What the loop tells: decisions in the log, status over HTTP, metrics.

use std::sync::Arc;

use causeway_core::HostInstant;
use causeway_core::agent::LocalObservation;
use causeway_core::failover::decision::{Decision, NoAction};
use causeway_core::failover::observation::ServerView;
use causeway_core::lease::LeaseState;
use causeway_core::problem::{NodeProblem, ProblemKind};
use tracing::{error, info};

use crate::agent::event_loop::AgentLoop;
use crate::agent::key_exposure;
use crate::agent::status_snapshot::StatusSnapshot;
use crate::clients::postgres::{ServerAnswer, WriteHindrance};
use crate::protocol::node_status::{
    Forecast, GuardStatus, HighestRecord, LeaseStatus, NodeRole, NodeStatus, WalPosition,
};

/// How long a refusal of guard's explains what is wrong: commands are sent ten times a second.
const REFUSAL_STANDS: std::time::Duration = std::time::Duration::from_secs(2);

/// How often the permissions of the key are looked at.
const KEY_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

impl AgentLoop {
    /// Logs a decision once, when it is another than the one before.
    pub(super) fn report_decision(&mut self) {
        let (said, is_escalation) = match self.core.decision() {
            Some(Decision::NoAction(NoAction::LeaseInForce(_))) => {
                ("lease in force".to_owned(), false)
            }
            Some(Decision::NoAction(NoAction::YieldingAfterRelease(_))) => {
                ("yielding after release".to_owned(), false)
            }
            Some(Decision::NoAction(why)) => (why.to_string(), false),
            Some(Decision::Escalate(why)) => (why.to_string(), true),
            Some(Decision::TakeLease(taken)) => (
                format!("take lease at epoch {} ({:?})", taken.epoch, taken.how),
                false,
            ),
            None => return,
        };
        if said == self.last_decision {
            return;
        }
        if is_escalation {
            self.with.metrics.alarms.inc();
            error!(reason = said, "failover needs an operator");
        } else {
            info!(reason = said, "failover decision changed");
        }
        self.last_decision = said;
    }

    pub(super) fn publish_status(&mut self, now: HostInstant, look: &LocalObservation) {
        self.check_key_exposure(now);
        let problems = self.find_problems(now);
        self.problems.update(now, problems);
        let status = self.status(now, look);
        self.with.metrics.show(&status);
        let primary_until = self
            .core
            .deadline()
            .filter(|_| self.core.is_primary(now) && look.primary.is_some())
            .map(|deadline| deadline.stop_at);
        let is_standby = matches!(look.server, ServerView::Standby(_)) && status.streaming;
        let status = Some(Arc::new(status));
        self.with.shown.send_replace(StatusSnapshot {
            status,
            primary_until,
            is_standby,
        });
    }

    /// Looks now and then whether PostgreSQL can read the key that signs commands.
    fn check_key_exposure(&mut self, now: HostInstant) {
        let due =
            |(at, _): &(HostInstant, Option<String>)| now.elapsed_upper_bound(*at) >= KEY_EVERY;
        if self.exposure.as_ref().is_none_or(due) {
            let data = &self.host.postgres.data_directory;
            let found = key_exposure::exposed(&self.settings.command_signing_key_file, data);
            self.exposure = Some((now, found));
        }
    }

    /// Returns everything that keeps this node from doing its part.
    fn find_problems(&self, now: HostInstant) -> Vec<NodeProblem> {
        let mut found = self.core.problems(now);
        found.extend(self.following.problems(now));
        if let Some(why) = &self.not_kept {
            found.push(NodeProblem::new(ProblemKind::StateNotKept, why.clone()));
        }
        found.extend(self.hindrance(now));
        if let Some((_, Some(detail))) = &self.exposure {
            found.push(NodeProblem::new(ProblemKind::CommandKeyExposed, detail));
        }
        let mismatches = self.mismatches.borrow();
        let details: Vec<_> = mismatches.iter().map(ToString::to_string).collect();
        if !details.is_empty() {
            found.push(NodeProblem::new(
                ProblemKind::PeerMismatch,
                details.join("; "),
            ));
        }
        if self.core.is_primary(now) {
            found.extend(self.pointing.problem(now));
        }
        if let Some((at, why)) = &self.refusal
            && now.elapsed_upper_bound(*at) < REFUSAL_STANDS
        {
            for problem in &mut found {
                if matches!(
                    problem.kind,
                    ProblemKind::CannotStart | ProblemKind::NotPromotable | ProblemKind::NotWriting
                ) {
                    problem.detail.extend(["; guard: ", why]);
                }
            }
        }
        found
    }

    /// Returns what keeps clients of this primary from writing, although it can write.
    fn hindrance(&self, now: HostInstant) -> Option<NodeProblem> {
        let hindrance = self.with.said.borrow().hindrance;
        match hindrance.filter(|_| self.core.is_primary(now))? {
            WriteHindrance::ReadOnlyDefault => Some(NodeProblem::new(
                ProblemKind::ReadOnlyDefault,
                "`default_transaction_read_only` is on, so clients cannot write: reset it and reload",
            )),
            WriteHindrance::ConnectionsExhausted => Some(NodeProblem::new(
                ProblemKind::ConnectionsExhausted,
                "clients have taken every connection: find them in `pg_stat_activity`, or raise `max_connections`",
            )),
        }
    }

    fn status(&self, now: HostInstant, look: &LocalObservation) -> NodeStatus {
        let report = self.with.guard.report(now);
        let said = *self.with.said.borrow();
        let standby = match said.answer {
            Some((_, ServerAnswer::Standby(standby)))
                if matches!(look.server, ServerView::Standby(_)) =>
            {
                Some(standby)
            }
            Some(_) | None => None,
        };
        let role = match look.server {
            _ if self.core.is_primary(now) && look.primary.is_some() => NodeRole::Primary,
            _ if self.core.holds() => NodeRole::Promoting,
            ServerView::Standby(_) => NodeRole::Standby,
            ServerView::Unguarded
            | ServerView::Stopped(_)
            | ServerView::Silent
            | ServerView::MayWrite => NodeRole::Stopped,
        };
        let armed = report.and_then(|report| report.armed);
        let term = self.settings.timing.lease_duration;
        let stood = self.core.confirmed_age();
        let lease = self.core.lease(now).map(|(record, age)| LeaseStatus {
            record: record.clone(),
            age_secs: age.as_secs_f64(),
            stood_secs: stood.as_secs_f64(),
            expired: !self.core.holds() && (record.state == LeaseState::Released || stood >= term),
        });
        NodeStatus {
            format: 1,
            cluster: self.settings.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.host.node.name.clone(),
            region: self.host.node.region.clone(),
            zone: self.host.node.zone.clone(),
            host_id: self.core.host_id().to_owned(),
            role,
            automatic_failover: self.settings.is_automatic(&self.host.node),
            system_id: report.and_then(|report| report.system_id),
            data_directory_state: report.map(|report| report.directory),
            server: report.map(|report| report.server),
            progress: standby.map(|standby| standby.progress),
            ancestors: look
                .ancestry
                .as_ref()
                .filter(|ancestry| standby.is_some_and(|own| own.progress.timeline == ancestry.timeline))
                .map(|ancestry| ancestry.ancestors.clone()),
            streaming: standby.is_some() && self.following.streams(),
            replayed_commit_at_micros: standby.and_then(|standby| standby.replayed_commit_at_micros),
            wal_position: look.primary.map(|primary| WalPosition {
                timeline: primary.position.timeline,
                flush_lsn: primary.position.flush_lsn,
                last_commit_at_micros: primary.position.last_commit_at_micros,
            }),
            lease,
            guard: GuardStatus {
                responding: report.is_some(),
                epoch: armed.map(|deadline| deadline.epoch),
                remaining_secs: armed.map_or(0.0, |deadline| now.time_left(deadline.stop_at).as_secs_f64()),
            },
            decision: if self.core.holds() {
                None
            } else {
                Some(self.last_decision.clone())
            },
            forecast: self.core.forecast(now).map(Forecast::from),
            lease_store: Some(self.settings.lease.store_id()),
            standby_setup: self.following.busy.map(str::to_owned),
            problems: self.problems.status(now),
            highest: HighestRecord {
                epoch: self.core.highest().0,
                sequence: self.core.highest().1,
                ..self.highest.clone()
            },
            unproven_secs: self.core.unproven(now).map(|unproven| unproven.as_secs_f64()),
            rejoin: self.following.rejoin_status(),
        }
    }
}
