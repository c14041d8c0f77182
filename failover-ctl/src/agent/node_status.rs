//! Status of this node as `/status` returns it, and the measurements that only `/metrics` contains.

use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::agent::LocalObservation;
use causeway_core::failover::observation::ServerView;
use causeway_core::lease::LeaseState;
use causeway_core::replay_lag::StandbyReplay;
use causeway_runtime::clock;

use crate::agent::event_loop::AgentLoop;
use crate::agent::measurements::NodeMeasurements;
use crate::clients::postgres::{ServerAnswer, StandbyAnswer};
use crate::protocol::guard::WatchdogState;
use crate::protocol::node_status::{
    CollationStatus, Forecast, GuardStatus, HighestRecord, LeaseStatus, NodeRole, NodeStatus,
    WalPosition,
};

impl AgentLoop {
    /// Returns the status at `now`.
    pub(super) fn node_status(
        &self,
        now: HostInstant,
        observation: &LocalObservation,
    ) -> NodeStatus {
        let report = self.connections.guard.report(now);
        let standby = self.observed_standby(observation);
        let own_ancestry = observation.ancestry.as_ref().filter(|ancestry| {
            standby.is_some_and(|standby| standby.progress.timeline == ancestry.timeline())
        });
        let (highest_epoch, highest_sequence) = self.core.highest();
        NodeStatus {
            format: 1,
            cluster: self.settings.cluster.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.host.node.name.clone(),
            region: self.host.node.region.clone(),
            zone: self.host.node.zone.clone(),
            host_id: self.core.host_id().to_owned(),
            role: self.role(now, observation),
            automatic_failover: self.settings.is_automatic(&self.host.node),
            system_id: report.and_then(|report| report.system_id),
            data_directory_state: report.map(|report| report.data_directory_state),
            server: report.map(|report| report.server),
            progress: standby.map(|standby| standby.progress),
            ancestors: own_ancestry.map(|ancestry| ancestry.ancestors().to_vec()),
            streaming: standby.is_some() && self.standby.streams(),
            replayed_commit_at_micros: standby
                .and_then(|standby| standby.replayed_commit_at_micros),
            wal_position: observation.primary.map(|primary| WalPosition {
                timeline: primary.position.timeline,
                flush_lsn: primary.position.flush_lsn,
                last_commit_at_micros: primary.position.last_commit_at_micros,
            }),
            lease: self.lease_status(now),
            guard: self.guard_status(now),
            decision: (!self.core.holds()).then(|| self.last_decision.clone()),
            forecast: self.core.forecast(now).map(Forecast::from),
            collations: observation.collations.clone().map(|node| CollationStatus {
                node,
                difference: self.core.collation_difference(),
            }),
            lease_store: Some(self.settings.lease.store_id()),
            standby_setup: self.standby.busy.map(str::to_owned),
            problems: self.problems.status(now),
            highest: HighestRecord {
                epoch: highest_epoch,
                sequence: highest_sequence,
                ..self.highest.clone()
            },
            unproven_secs: self
                .core
                .unproven(now)
                .map(|unproven| unproven.as_secs_f64()),
            rejoin: self.standby.rejoin_status(),
        }
    }

    /// Returns the measurements at `now`.
    pub(super) fn measure(
        &mut self,
        now: HostInstant,
        observation: &LocalObservation,
    ) -> NodeMeasurements {
        let wall = clock::wall();
        let on_wall_clock = |at: HostInstant| at.wall_time(now, wall);
        let report = self.connections.guard.report(now);
        let report = report.map(|report| (report.server, report.deadline));
        let standby = self.observed_standby(observation);
        let standby = standby.map(|standby| StandbyReplay {
            progress: standby.progress,
            streaming: self.standby.streams(),
            replayed_commit_at: standby.replayed_commit_at_micros.map(Duration::from_micros),
        });
        let verified_at = self.connections.postgres.borrow().proven_at;
        NodeMeasurements {
            postgres_responding: self.server_responds(now),
            postgres_unfenced: self.measurements.fencing.observe(now, report),
            lease_store_reachable: self.core.reaches_lease_store(now),
            write_verified_at: verified_at.map(on_wall_clock),
            writable_since: self.core.writable_since().map(on_wall_clock),
            unreplicated: self.core.unreplicated(now),
            replay_lag: self.measurements.replay.observe(now, wall, standby),
        }
    }

    /// Returns the last answer of a running standby.
    fn observed_standby(&self, observation: &LocalObservation) -> Option<StandbyAnswer> {
        match self.connections.postgres.borrow().answer {
            Some((_, ServerAnswer::Standby(standby)))
                if matches!(observation.server, ServerView::Standby(_)) =>
            {
                Some(standby)
            }
            Some(_) | None => None,
        }
    }

    fn role(&self, now: HostInstant, observation: &LocalObservation) -> NodeRole {
        match observation.server {
            _ if self.core.is_primary(now) && observation.primary.is_some() => NodeRole::Primary,
            _ if self.core.holds() => NodeRole::Promoting,
            ServerView::Standby(_) => NodeRole::Standby,
            ServerView::Unguarded
            | ServerView::Stopped(_)
            | ServerView::Unresponsive
            | ServerView::MayWrite => NodeRole::Stopped,
        }
    }

    fn lease_status(&self, now: HostInstant) -> Option<LeaseStatus> {
        let stood = self.core.confirmed_age();
        let has_stood = stood >= self.settings.timing.lease_duration;
        self.core.lease(now).map(|(record, age)| LeaseStatus {
            record: record.clone(),
            age_secs: age.as_secs_f64(),
            stood_secs: stood.as_secs_f64(),
            expired: !self.core.holds() && (record.state == LeaseState::Released || has_stood),
        })
    }

    fn guard_status(&self, now: HostInstant) -> GuardStatus {
        let report = self.connections.guard.report(now);
        let deadline = report.and_then(|report| report.deadline);
        GuardStatus {
            responding: report.is_some(),
            watchdog: report.map_or(WatchdogState::NotConfigured, |report| {
                report.watchdog.clone()
            }),
            epoch: deadline.map(|deadline| deadline.epoch),
            remaining_secs: deadline.map_or(0.0, |deadline| {
                now.time_left(deadline.stop_at).as_secs_f64()
            }),
        }
    }
}
