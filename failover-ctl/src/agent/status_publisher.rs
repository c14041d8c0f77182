//! Publication of decisions in the log, of the status over HTTP, and of metrics.

use std::sync::Arc;
use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::agent::LocalObservation;
use causeway_core::failover::decision::{Decision, NoAction};
use causeway_core::failover::observation::ServerView;
use causeway_core::problem::{NodeProblem, ProblemKind};
use tracing::{error, info};

use crate::agent::event_loop::AgentLoop;
use crate::agent::key_exposure;
use crate::agent::status_snapshot::StatusSnapshot;
use crate::clients::postgres::WriteHindrance;
use crate::protocol::guard::WatchdogState;

/// Time for which the guard's last rejection is added to a problem: the agent repeats its command ten times a
/// second.
const REJECTION_LIFETIME: Duration = Duration::from_secs(2);

/// Interval between two checks of the key's permissions.
const KEY_CHECK_INTERVAL: Duration = Duration::from_secs(10);

impl AgentLoop {
    /// Logs the decision if it has changed.
    pub(super) fn report_decision(&mut self) {
        let (reason, is_escalation) = match self.core.decision() {
            Some(Decision::NoAction(NoAction::LeaseInForce(_))) => {
                ("lease in force".to_owned(), false)
            }
            Some(Decision::NoAction(NoAction::YieldingAfterRelease(_))) => {
                ("yielding after release".to_owned(), false)
            }
            Some(Decision::NoAction(reason)) => (reason.to_string(), false),
            Some(Decision::Escalate(reason)) => (reason.to_string(), true),
            Some(Decision::TakeLease(taken)) => (
                format!("take lease at epoch {} ({:?})", taken.epoch, taken.mode),
                false,
            ),
            None => return,
        };
        if reason == self.last_decision {
            return;
        }
        if is_escalation {
            self.connections.metrics.alerts.inc();
            error!(reason, "failover needs an operator");
        } else {
            info!(reason, "failover decision changed");
        }
        self.last_decision = reason;
    }

    pub(super) fn publish_status(&mut self, now: HostInstant, look: &LocalObservation) {
        self.check_key_exposure(now);
        let problems = self.find_problems(now);
        self.problems.update(now, problems);
        let status = self.node_status(now, look);
        let measured = self.measure(now, look);
        self.connections.metrics.update(&status);
        self.connections.metrics.update_measurements(&measured);
        let primary_until = self
            .core
            .deadline()
            .filter(|_| self.core.is_primary(now) && look.primary.is_some())
            .map(|deadline| deadline.stop_at);
        let is_standby = matches!(look.server, ServerView::Standby(_)) && status.streaming;
        let status = Some(Arc::new(status));
        self.connections.status.send_replace(StatusSnapshot {
            status,
            primary_until,
            is_standby,
        });
    }

    /// Checks every ten seconds whether PostgreSQL's user can read the command signing key.
    fn check_key_exposure(&mut self, now: HostInstant) {
        let due = |(at, _): &(HostInstant, Option<String>)| {
            now.elapsed_upper_bound(*at) >= KEY_CHECK_INTERVAL
        };
        if self.key_exposure.as_ref().is_none_or(due) {
            let data = &self.host.postgres.data_directory;
            let found = key_exposure::find_exposure(&self.settings.command_signing_key_file, data);
            self.key_exposure = Some((now, found));
        }
    }

    /// Returns every problem that keeps this node from its role.
    fn find_problems(&self, now: HostInstant) -> Vec<NodeProblem> {
        let mut found = self.core.problems(now);
        found.extend(self.standby.problems(now));
        if let Some(error) = &self.state_error {
            found.push(NodeProblem::new(ProblemKind::StateNotStored, error.clone()));
        }
        found.extend(self.write_problem(now));
        if let Some((_, Some(detail))) = &self.key_exposure {
            found.push(NodeProblem::new(ProblemKind::CommandKeyExposed, detail));
        }
        if let Some(report) = self.connections.guard.report(now)
            && let WatchdogState::Failed(failure) = &report.watchdog
        {
            let detail = format!(
                "watchdog device {failure}, so nothing fences this node when guard and systemd freeze together: see \
                 `failover-ctl check`"
            );
            found.push(NodeProblem::new(ProblemKind::WatchdogNotArmed, detail));
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
            found.extend(self.record_moves.problem(now));
        }
        if let Some((at, rejection)) = &self.guard_rejection
            && now.elapsed_upper_bound(*at) < REJECTION_LIFETIME
        {
            for problem in &mut found {
                if matches!(
                    problem.kind,
                    ProblemKind::CannotStart | ProblemKind::NotPromotable | ProblemKind::NotWriting
                ) {
                    problem.detail.extend(["; guard: ", rejection]);
                }
            }
        }
        found
    }

    /// Returns the problem that keeps clients of this primary from writing although PostgreSQL can write.
    fn write_problem(&self, now: HostInstant) -> Option<NodeProblem> {
        let hindrance = self.connections.postgres.borrow().hindrance;
        match hindrance.filter(|_| self.core.is_primary(now))? {
            WriteHindrance::ReadOnlyDefault => Some(NodeProblem::new(
                ProblemKind::ReadOnlyDefault,
                "`default_transaction_read_only` is on, so clients cannot write: reset it and reload",
            )),
            WriteHindrance::ConnectionsExhausted => Some(NodeProblem::new(
                ProblemKind::ConnectionsExhausted,
                "every connection of PostgreSQL is in use: look into `pg_stat_activity`, or raise `max_connections`",
            )),
        }
    }
}
