//! Observation of the local server, from the guard's report and PostgreSQL's own answers.

use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::agent::{Commits, LocalObservation, PrimaryView, ServerHealth};
use causeway_core::failover::collation::NodeCollations;
use causeway_core::failover::observation::{DataDirectoryState, ServerView};
use causeway_core::guard::PostgresProcess;

use crate::agent::event_loop::AgentLoop;
use crate::clients::postgres::{PostgresState, ServerAnswer};
use crate::data_directory::wal::position;
use crate::protocol::guard::GuardReport;

/// Maximum age of an answer of PostgreSQL that counts as its current state: several query intervals.
const ANSWER_LIFETIME: Duration = Duration::from_secs(1);

/// Maximum age of a proven write: one probe interval and the time that the write may take.
const PROOF_LIFETIME: Duration = Duration::from_secs(3);

/// Age of the last answer from which PostgreSQL counts as silent: a query takes up to a second, then another
/// connection is tried.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

impl AgentLoop {
    /// Returns the state of the local server at `now`.
    pub(super) fn observe_local_server(&self, now: HostInstant) -> LocalObservation {
        let postgres = self.connections.postgres.borrow().clone();
        let Some(report) = self.connections.guard.report(now) else {
            return LocalObservation {
                server: ServerView::Unguarded,
                armed: None,
                wants_renewal_since: None,
                primary: None,
                health: ServerHealth::Unresponsive,
                replay: None,
                starts: None,
                system_id: None,
                holds_position: false,
                holds_back: false,
                collations: None,
                taken_timeline: None,
                ancestry: None,
            };
        };
        let evidence = ServerEvidence {
            now,
            report,
            postgres,
        };
        let server = evidence.server();
        LocalObservation {
            server,
            armed: report.deadline,
            wants_renewal_since: report.wants_renewal_since,
            primary: evidence.primary(server),
            health: evidence.health(),
            replay: evidence.postgres.replay,
            starts: Some(report.starts),
            system_id: report.system_id,
            holds_position: self.has_recorded_position(now, server),
            holds_back: evidence.holds_back_commits(),
            collations: evidence.collations(),
            taken_timeline: self.taken_timeline,
            ancestry: None,
        }
    }

    /// Returns whether the local server, as far as the guard knows it, has recently responded to a query, also with a
    /// rejection. A server that starts up serves no client, so its response does not count.
    pub(super) fn server_responds(&self, now: HostInstant) -> bool {
        let postgres = self.connections.postgres.borrow().clone();
        let Some(report) = self.connections.guard.report(now) else {
            return postgres.answer.is_some_and(|(at, answer)| {
                now.elapsed_upper_bound(at) < SILENCE_TIMEOUT && answer != ServerAnswer::NotYet
            });
        };
        let evidence = ServerEvidence {
            now,
            report,
            postgres,
        };
        let answer = evidence.fresh_answer(SILENCE_TIMEOUT);
        answer.is_some_and(|answer| answer != ServerAnswer::NotYet)
    }

    /// Returns whether this host has the WAL up to the position in the lease record. Only checked for the data
    /// directory of a former primary.
    fn has_recorded_position(&self, now: HostInstant, server: ServerView) -> bool {
        if server != ServerView::Stopped(DataDirectoryState::Primary) {
            return false;
        }
        let Some((record, _)) = self.core.lease(now) else {
            return false;
        };
        let pg_wal = self.host.postgres.data_directory.join("pg_wal");
        record.last_position.is_some_and(|last| {
            position::contains_wal_up_to(&pg_wal, last.timeline, last.flush_lsn)
        })
    }
}

struct ServerEvidence<'a> {
    now: HostInstant,
    report: &'a GuardReport,
    postgres: PostgresState,
}

impl ServerEvidence<'_> {
    /// Returns whether an answer at `at` came from the running postmaster and is younger than `lifetime`.
    fn is_fresh(&self, at: HostInstant, lifetime: Duration) -> bool {
        let started_at = self.report.started_at.unwrap_or(self.now);
        at.has_passed_on_any_clock(started_at) && self.now.elapsed_upper_bound(at) < lifetime
    }

    fn fresh_answer(&self, lifetime: Duration) -> Option<ServerAnswer> {
        let (at, answer) = self.postgres.answer?;
        self.is_fresh(at, lifetime).then_some(answer)
    }

    fn server(&self) -> ServerView {
        match (self.report.server, self.fresh_answer(ANSWER_LIFETIME)) {
            (PostgresProcess::Stopped, _) => ServerView::Stopped(self.report.data_directory_state),
            (PostgresProcess::MayWrite, _) => ServerView::MayWrite,
            (PostgresProcess::Standby, Some(ServerAnswer::Standby(standby))) => {
                ServerView::Standby(standby.progress)
            }
            (PostgresProcess::Standby | PostgresProcess::Unmanaged, _) => ServerView::Unresponsive,
        }
    }

    /// Returns whether commits are held back. A standby reports the setting itself, because `ALTER SYSTEM` may
    /// override the guard's file.
    fn holds_back_commits(&self) -> bool {
        match self.fresh_answer(ANSWER_LIFETIME) {
            Some(ServerAnswer::Standby(standby)) => standby.holds_back,
            _ => self.report.commits == Commits::HeldBack,
        }
    }

    /// Returns the collation versions of the running postmaster: a restarted one may have another library.
    fn collations(&self) -> Option<NodeCollations> {
        let (at, collations) = self.postgres.collations.as_ref()?;
        let started_at = self.report.started_at?;
        at.has_passed_on_any_clock(started_at)
            .then(|| NodeCollations::clone(collations))
    }

    fn is_proven(&self) -> bool {
        self.postgres
            .proven_at
            .is_some_and(|at| self.is_fresh(at, PROOF_LIFETIME))
    }

    fn primary(&self, server: ServerView) -> Option<PrimaryView> {
        match self.fresh_answer(PROOF_LIFETIME) {
            Some(ServerAnswer::Primary(primary))
                if server == ServerView::MayWrite && self.is_proven() =>
            {
                Some(primary)
            }
            _ => None,
        }
    }

    fn health(&self) -> ServerHealth {
        match self.fresh_answer(SILENCE_TIMEOUT) {
            None => ServerHealth::Unresponsive,
            Some(ServerAnswer::NotYet | ServerAnswer::Standby(_)) => ServerHealth::Recovering,
            Some(ServerAnswer::NoConnectionLeft) => {
                ServerHealth::Unproven(causeway_core::agent::WriteProbeFailure::NoConnectionLeft)
            }
            Some(ServerAnswer::Refused(failure)) => ServerHealth::Unproven(failure),
            Some(ServerAnswer::Primary(_)) if self.is_proven() => ServerHealth::Writes,
            Some(ServerAnswer::Primary(_)) => match self.postgres.failure {
                Some((at, failure)) if self.is_fresh(at, SILENCE_TIMEOUT) => {
                    ServerHealth::Unproven(failure)
                }
                Some(_) | None => {
                    ServerHealth::Unproven(causeway_core::agent::WriteProbeFailure::Stalled)
                }
            },
        }
    }
}
