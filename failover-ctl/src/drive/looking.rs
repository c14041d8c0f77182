//! What this node's server is at one moment, from what guard sees and what the server says.

use std::time::Duration;

use ha_core::Moment;
use ha_core::agent::Look;
use ha_core::failover::observation::ServerView;
use ha_core::guard::Server;

use super::Driver;
use crate::world::postgres::ServerSaid;

/// How old an answer of the server may be to count as its state now: three questions, or one probe
/// and the time it may take.
const FRESH: Duration = Duration::from_secs(1);
const FRESH_PROBE: Duration = Duration::from_secs(3);

impl Driver {
    /// Returns what this node's server is at this moment, from what guard sees and what it says.
    pub(super) fn look(&mut self, now: Moment) -> Look {
        let said = *self.with.said.borrow();
        let Some(report) = self.with.guard.report(now) else {
            return Look {
                server: ServerView::Unguarded,
                armed: None,
                wants_renewal_since: None,
                primary: None,
                silent_for: Duration::ZERO,
                starting: false,
            };
        };
        let started_at = report.started_at.unwrap_or(now);
        let fresh =
            |at: Moment, within| at.has_reached(started_at) && now.longest_since(at) < within;
        let server = match (report.server, said) {
            (Server::Ended, _) => ServerView::Ended(report.directory),
            (Server::MayWrite, _) => ServerView::MayWrite,
            (Server::Following, ServerSaid::Following(at, standby)) if fresh(at, FRESH) => {
                ServerView::Following(standby.progress)
            }
            (Server::Following | Server::Foreign, _) => ServerView::Silent,
        };
        let primary = match said {
            ServerSaid::Writing(at, primary)
                if server == ServerView::MayWrite && fresh(at, FRESH_PROBE) =>
            {
                Some(primary)
            }
            ServerSaid::Writing(..)
            | ServerSaid::Nothing
            | ServerSaid::NotYet(_)
            | ServerSaid::Following(..) => None,
        };
        // A server whose postmaster has ended is not silent: guard is sweeping up after it.
        if server != ServerView::MayWrite || report.started_at.is_none() {
            self.heard_at = None;
        } else if let ServerSaid::Writing(at, _) = said
            && at.has_reached(started_at)
        {
            self.heard_at = Some(at);
        } else if self.heard_at.is_none() {
            self.heard_at = Some(now);
        }
        let starting = match said {
            ServerSaid::NotYet(at) | ServerSaid::Following(at, _) => fresh(at, FRESH),
            ServerSaid::Nothing | ServerSaid::Writing(..) => false,
        };
        Look {
            server,
            armed: report.armed,
            wants_renewal_since: report.wants_renewal_since,
            primary,
            silent_for: self
                .heard_at
                .map_or(Duration::ZERO, |it| now.shortest_since(it)),
            starting,
        }
    }
}
