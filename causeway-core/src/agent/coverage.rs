//! Time up to which this node has the commits of the primary.
//!
//! A primary records its WAL position in each renewal of the lease. A standby that has received that WAL has every
//! commit of the primary until the renewal, whatever the primary's load, so an idle primary is not lag. The time is
//! this host's: between the renewal and its observation lie a poll of the lease store and a request.

use std::time::Duration;

use super::observed_lease::ObservedLease;
use super::{Agent, LocalObservation, Role};
use crate::HostInstant;
use crate::failover::observation::ServerView;
use crate::lease::LeaseState;

/// Latest evidence that this node has the commits of the primary.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    /// First event of this agent: the time counted from while there is no evidence.
    started_at: Option<HostInstant>,
    evidence: Option<Evidence>,
}

/// The node has every commit until `older_by` before `at`.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    at: HostInstant,
    older_by: Duration,
}

impl Evidence {
    fn gap(self, now: HostInstant) -> Duration {
        now.elapsed_upper_bound(self.at)
            .saturating_add(self.older_by)
    }
}

impl Agent {
    /// Returns the time whose commits a takeover by this node would lose at most; zero for a primary. Without evidence
    /// since the agent started, the time since then.
    pub fn unreplicated(&self, now: HostInstant) -> Duration {
        match (self.coverage.evidence, self.coverage.started_at) {
            (Some(evidence), _) => evidence.gap(self.last_commit_possible(now)),
            (None, Some(started_at)) => now.elapsed_upper_bound(started_at),
            (None, None) => Duration::ZERO,
        }
    }

    pub(super) fn record_coverage(&mut self, now: HostInstant) {
        self.coverage.started_at.get_or_insert(now);
        let Some(found) = self.find_evidence(now) else {
            return;
        };
        let is_newer = |known: Evidence| found.gap(now) < known.gap(now);
        if self.coverage.evidence.is_none_or(is_newer) {
            self.coverage.evidence = Some(found);
        }
    }

    fn find_evidence(&self, now: HostInstant) -> Option<Evidence> {
        let local = self.local.as_ref()?;
        if self.is_primary(now) && local.server == ServerView::MayWrite {
            return Some(Evidence {
                at: now,
                older_by: Duration::ZERO,
            });
        }
        let observed = self.observed.as_ref()?;
        // Only a holder that accepts writes records a new position: another state repeats the last one.
        if observed.record.state != LeaseState::Held || !self.has_recorded_wal(local, observed) {
            return None;
        }
        let age = observed.record.last_position?.age_millis;
        let sending = self.settings.timing.request_timeout;
        Some(Evidence {
            at: observed.stored_after?,
            older_by: sending.saturating_add(Duration::from_millis(age)),
        })
    }

    /// Returns whether this node's standby has received all WAL up to the position in the record.
    fn has_recorded_wal(&self, local: &LocalObservation, observed: &ObservedLease) -> bool {
        let (ServerView::Standby(own), Some(last)) = (local.server, observed.record.last_position)
        else {
            return false;
        };
        let same_timeline = own.timeline == last.timeline && own.received_lsn >= last.flush_lsn;
        local.system_id == Some(observed.record.system_id)
            && (same_timeline || own.descends_from(&last, &self.ancestors()))
    }

    /// Returns the latest time at which a primary can have committed: `now`, unless the lease was released or is
    /// confirmed to have expired.
    fn last_commit_possible(&self, now: HostInstant) -> HostInstant {
        let (Role::Candidate, Some(observed)) = (&self.role, &self.observed) else {
            return now;
        };
        let duration = self.settings.timing.lease_duration;
        match observed.record.state {
            LeaseState::Released => observed.since,
            LeaseState::Held | LeaseState::Acquiring if self.confirmed_age() >= duration => {
                observed.since + duration
            }
            // While the cluster is paused, the primary writes without renewals.
            LeaseState::Held | LeaseState::Acquiring | LeaseState::Paused | LeaseState::Retired => {
                now
            }
        }
    }
}
