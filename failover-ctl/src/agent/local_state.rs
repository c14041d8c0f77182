//! What this node's server is at one moment, from what guard sees and what the server says.

use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::agent::{Commits, LocalObservation, PrimaryView, ServerHealth};
use causeway_core::failover::observation::{DataDirectoryState, ServerView};
use causeway_core::guard::PostgresProcess;

use crate::agent::event_loop::AgentLoop;
use crate::clients::postgres::{PostgresState, ServerAnswer};
use crate::data_directory::wal::position;
use crate::protocol::guard::GuardReport;

/// How old an answer of the server may be to count as its state now: three questions.
const FRESH: Duration = Duration::from_secs(1);

/// How old a proven write may be: one interval and the time that the write may take.
const FRESH_PROOF: Duration = Duration::from_secs(3);

/// How old an answer may be before the server counts as silent: an answer takes up to a second, and then
/// another connection is tried.
const SILENT_AFTER: Duration = Duration::from_secs(5);

impl AgentLoop {
    /// Returns what this node's server is at this moment, from what guard sees and what it says.
    pub(super) fn look(&self, now: HostInstant) -> LocalObservation {
        let said = *self.with.said.borrow();
        let Some(report) = self.with.guard.report(now) else {
            return LocalObservation {
                server: ServerView::Unguarded,
                armed: None,
                wants_renewal_since: None,
                primary: None,
                health: ServerHealth::Silent,
                replay: None,
                starts: None,
                system_id: None,
                holds_position: false,
                holds_back: false,
                taken_timeline: None,
                ancestry: None,
            };
        };
        let seen = ServerEvidence { now, report, said };
        let server = seen.server();
        LocalObservation {
            server,
            armed: report.armed,
            wants_renewal_since: report.wants_renewal_since,
            primary: seen.primary(server),
            health: seen.health(),
            replay: said.replay,
            starts: Some(report.starts),
            system_id: report.system_id,
            holds_position: self.holds_position(now, server),
            holds_back: seen.holds_back(),
            taken_timeline: self.taken_timeline,
            ancestry: None,
        }
    }

    /// Says whether this host's disk has the WAL up to the position in the lease record. It is asked of a
    /// directory that a primary left, and only then.
    fn holds_position(&self, now: HostInstant, server: ServerView) -> bool {
        if server != ServerView::Stopped(DataDirectoryState::Primary) {
            return false;
        }
        let Some((record, _)) = self.core.lease(now) else {
            return false;
        };
        let pg_wal = self.host.postgres.data_directory.join("pg_wal");
        record
            .last_position
            .is_some_and(|last| position::reaches(&pg_wal, last.timeline, last.flush_lsn))
    }
}

struct ServerEvidence<'a> {
    now: HostInstant,
    report: &'a GuardReport,
    said: PostgresState,
}

impl ServerEvidence<'_> {
    /// Says whether something was said by the server that runs, lately.
    fn is_fresh(&self, at: HostInstant, within: Duration) -> bool {
        let started_at = self.report.started_at.unwrap_or(self.now);
        at.has_passed_on_any_clock(started_at) && self.now.elapsed_upper_bound(at) < within
    }

    fn answer(&self, within: Duration) -> Option<ServerAnswer> {
        let (at, answer) = self.said.answer?;
        self.is_fresh(at, within).then_some(answer)
    }

    fn server(&self) -> ServerView {
        match (self.report.server, self.answer(FRESH)) {
            (PostgresProcess::Stopped, _) => ServerView::Stopped(self.report.directory),
            (PostgresProcess::MayWrite, _) => ServerView::MayWrite,
            (PostgresProcess::Standby, Some(ServerAnswer::Standby(standby))) => {
                ServerView::Standby(standby.progress)
            }
            (PostgresProcess::Standby | PostgresProcess::Unmanaged, _) => ServerView::Silent,
        }
    }

    /// What guard has written holds only as far as nothing outweighs it, which the server itself knows.
    fn holds_back(&self) -> bool {
        match self.answer(FRESH) {
            Some(ServerAnswer::Standby(standby)) => standby.holds_back,
            _ => self.report.commits == Commits::HeldBack,
        }
    }

    fn is_proven(&self) -> bool {
        self.said
            .proven_at
            .is_some_and(|at| self.is_fresh(at, FRESH_PROOF))
    }

    fn primary(&self, server: ServerView) -> Option<PrimaryView> {
        match self.answer(FRESH_PROOF) {
            Some(ServerAnswer::Primary(primary))
                if server == ServerView::MayWrite && self.is_proven() =>
            {
                Some(primary)
            }
            _ => None,
        }
    }

    fn health(&self) -> ServerHealth {
        match self.answer(SILENT_AFTER) {
            None => ServerHealth::Silent,
            Some(ServerAnswer::NotYet | ServerAnswer::Standby(_)) => ServerHealth::Recovering,
            Some(ServerAnswer::NoConnectionLeft) => {
                ServerHealth::Unproven(causeway_core::agent::WriteProbeFailure::NoConnectionLeft)
            }
            Some(ServerAnswer::Refused(failure)) => ServerHealth::Unproven(failure),
            Some(ServerAnswer::Primary(_)) if self.is_proven() => ServerHealth::Writes,
            Some(ServerAnswer::Primary(_)) => match self.said.failure {
                Some((at, failure)) if self.is_fresh(at, SILENT_AFTER) => {
                    ServerHealth::Unproven(failure)
                }
                Some(_) | None => {
                    ServerHealth::Unproven(causeway_core::agent::WriteProbeFailure::Stalled)
                }
            },
        }
    }
}
