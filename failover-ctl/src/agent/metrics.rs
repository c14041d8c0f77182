//! Metrics of the agent.

use std::time::Duration;

use causeway_core::failover::decision::Decision;
use causeway_core::guard::PostgresProcess;
use causeway_core::lease::LeaseState;
use causeway_core::problem::ProblemKind;
use causeway_runtime::declare_metrics;
use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec};

use crate::agent::measurements::NodeMeasurements;
use crate::config::Settings;
use crate::protocol::guard::WatchdogState;
use crate::protocol::node_status::{LeaseStatus, NodeRole, NodeStatus};

declare_metrics! {
    /// At `/metrics` of [the agent](http-agent.md), which also exports the state of the guard: the guard has no
    /// network. Each series has the labels `cluster`, `node`, `zone` and `region`. A time is that of this host's wall
    /// clock, and 0 means never. Declared in `failover-ctl/src/agent/metrics.rs`.
    pub(crate) struct Metrics {
        primary: IntGauge = "failover_is_primary", "1 if the node holds the lease and accepts writes";
        standby: IntGauge = "failover_is_standby", "1 if the node is a standby";
        streaming: IntGauge = "failover_is_streaming", "1 if the node receives WAL from its primary";
        candidate: IntGauge = "failover_is_candidate",
            "1 if the node would take over automatically if the primary were lost now. Alert if the cluster \
             has none: the next failover needs an operator";
        obstacles: IntGaugeVec = "failover_takeover_obstacle" ["reason"],
            "1 for the reason why the node would not take over now, else 0. The names are those of `forecast.reason` \
             in `/status`";
        nodes: IntGauge = "failover_nodes", "Nodes in the settings of this node";
        automatic: IntGauge = "failover_automatic",
            "1 if the node is in the region whose nodes take over automatically";
        paused: IntGauge = "failover_paused", "1 while the lease that the node read last is paused";
        postgres_up: IntGauge = "failover_postgres_up", "1 if PostgreSQL runs under the guard";
        postgres_responding: IntGauge = "failover_postgres_responding",
            "1 if PostgreSQL accepted or rejected a query of the agent in the last 5 s, and is not starting up";
        standby_setup: IntGauge = "failover_standby_setup",
            "1 while the node's data directory is compared, rewound or copied, for which PostgreSQL may be stopped";
        unfenced: IntGauge = "failover_postgres_unfenced",
            "1 while a PostgreSQL may accept writes without the lease, longer than the guard needs to end it";
        watchdog_unarmed: IntGauge = "failover_watchdog_unarmed",
            "1 while the guard cannot open or feed the watchdog device of the settings; 0 without the setting";
        guard_up: IntGauge = "failover_guard_up", "1 if the guard responds";
        lease_epoch: IntGauge = "failover_lease_epoch",
            "Epoch of the lease that the node read last; 0 if none";
        holder: IntGaugeVec = "failover_holder_info" ["holder", "epoch"],
            "1 for the holder of the lease that the node read last, and its epoch";
        lease_age: Gauge = "failover_lease_age_seconds", "Time since the lease last changed";
        lease_remaining: Gauge = "failover_lease_remaining_seconds",
            "Time until the guard's stop deadline; 0 if the node may not write";
        lease_duration: Gauge = "failover_lease_duration_seconds", "Lease duration of the settings";
        stop_deadline: Gauge = "failover_lease_stop_deadline_seconds", "Stop deadline of the settings";
        store_reachable: IntGauge = "failover_lease_store_reachable",
            "1 unless the lease store has stored no renewal of a holder, or answered no read of another node, for the \
             time after which the problem `lease-store-unreachable` is reported";
        unproven: Gauge = "failover_unproven_seconds",
            "Time since the holder's PostgreSQL verified a write; 0 on other nodes";
        write_verified: Gauge = "failover_write_verified_timestamp_seconds",
            "Time of the last write that PostgreSQL of the node verified since the agent started, with or without \
             the lease";
        writable_since: Gauge = "failover_writable_since_timestamp_seconds",
            "Time of the first verified write of the present or last period since the agent started in which the \
             node was primary without an interruption, in one epoch";
        unreplicated: Gauge = "failover_unreplicated_seconds",
            "Time whose commits a takeover by the node would lose at most; 0 on a primary. A standby that has received \
             the position of the last renewal has 2 to 5 s. Counted from the start of the agent until the node is \
             first known to have such a position";
        replay_lag: Gauge = "failover_replay_lag_seconds",
            "Age of the newest commit that a standby has replayed; 0 while it streams and has replayed everything, and \
             on other nodes";
        timeline: IntGauge = "failover_timeline",
            "Timeline that the node writes or replays; 0 if neither";
        received_lsn: Gauge = "failover_received_lsn_bytes",
            "WAL position received by a standby; 0 on others";
        replayed_lsn: Gauge = "failover_replayed_lsn_bytes",
            "WAL position replayed by a standby; 0 on others";
        flushed_lsn: Gauge = "failover_flushed_lsn_bytes",
            "WAL position flushed by a primary; 0 on others";
        problems: IntGaugeVec = "failover_problem" ["problem"],
            "1 while the problem keeps the node from its role, else 0. The names are those of `problems` in `/status`";
        dns_mismatch: IntGauge = "failover_dns_mismatch",
            "1 while the node is primary and the writer record, resolved through the resolver of the settings, does \
             not lead to it. Keeps its value while the resolver does not answer";
        dns_unresolved: IntGauge = "failover_dns_unresolved",
            "1 while the node is primary and the resolver of the settings does not answer for the writer record";
        certificate_expiry: IntGaugeVec = "failover_certificate_expiry_timestamp_seconds" ["certificate"],
            "Time at which the first certificate of a file expires, 0 if the file cannot be read: `server` and \
             `client-ca` of PostgreSQL, and the agent's `server-ca` (`[postgres] sslrootcert`). No series for a file \
             that is not configured. Read once a minute";
        trusted_cas: IntGauge = "failover_trusted_ca_certificates",
            "Certificates in `[postgres] sslrootcert`; 0 if not set";
        alerts: IntCounter = "failover_operator_alerts_total", "Events that need an operator";
        evicted: IntCounter = "failover_http_connections_evicted_total",
            "Connections to the agent's port evicted for newer ones";
    }
}

impl Metrics {
    /// Sets what the settings state, and creates every series that a condition will set to 1.
    pub(crate) fn initialize(&self, settings: &Settings) {
        let nodes = i64::try_from(settings.nodes.len()).expect("fewer nodes than 2^63");
        self.nodes.set(nodes);
        let timing = settings.timing;
        self.lease_duration.set(timing.lease_duration.as_secs_f64());
        self.stop_deadline.set(timing.stop_deadline.as_secs_f64());
        for reason in Decision::obstacles() {
            self.obstacles.with_label_values(&[reason]);
        }
        for kind in ProblemKind::ALL {
            self.problems.with_label_values(&[kind.name()]);
        }
    }

    /// Sets the gauges from a status.
    pub(crate) fn update(&self, status: &NodeStatus) {
        for kind in ProblemKind::ALL {
            let stands = status
                .problems
                .iter()
                .any(|problem| problem.problem == kind);
            self.problems
                .with_label_values(&[kind.name()])
                .set(stands.into());
        }
        self.primary.set((status.role == NodeRole::Primary).into());
        self.standby.set((status.role == NodeRole::Standby).into());
        self.streaming.set(status.streaming.into());
        self.automatic.set(status.automatic_failover.into());
        self.standby_setup
            .set(status.standby_setup.is_some().into());
        let up = matches!(
            status.server,
            Some(PostgresProcess::Standby | PostgresProcess::MayWrite)
        );
        self.postgres_up.set(up.into());
        self.guard_up.set(status.guard.responding.into());
        let unarmed = matches!(status.guard.watchdog, WatchdogState::Failed(_));
        self.watchdog_unarmed.set(unarmed.into());
        self.lease_remaining.set(status.guard.remaining_secs);
        self.unproven.set(status.unproven_secs.unwrap_or(0.0));
        self.update_forecast(status);
        self.update_lease(status.lease.as_ref());
        self.update_positions(status);
    }

    /// Sets the gauges of what `/status` does not contain.
    pub(crate) fn update_measurements(&self, measured: &NodeMeasurements) {
        let seconds = |time: Option<Duration>| time.unwrap_or(Duration::ZERO).as_secs_f64();
        self.postgres_responding
            .set(measured.postgres_responding.into());
        self.unfenced.set(measured.postgres_unfenced.into());
        self.store_reachable
            .set(measured.lease_store_reachable.into());
        self.write_verified.set(seconds(measured.write_verified_at));
        self.writable_since.set(seconds(measured.writable_since));
        self.unreplicated.set(measured.unreplicated.as_secs_f64());
        self.replay_lag.set(measured.replay_lag.as_secs_f64());
    }

    fn update_forecast(&self, status: &NodeStatus) {
        let forecast = status.forecast.as_ref();
        self.candidate
            .set(forecast.is_some_and(|forecast| forecast.takes_over).into());
        let obstacle = forecast.and_then(|forecast| forecast.reason.as_deref());
        for reason in Decision::obstacles() {
            self.obstacles
                .with_label_values(&[reason])
                .set((obstacle == Some(reason)).into());
        }
    }

    fn update_lease(&self, lease: Option<&LeaseStatus>) {
        self.lease_age
            .set(lease.map_or(0.0, |lease| lease.age_secs));
        let Some(LeaseStatus { record, .. }) = lease else {
            return;
        };
        self.lease_epoch.set(record.epoch.get().cast_signed());
        self.paused.set((record.state == LeaseState::Paused).into());
        let labels = [record.holder.node.as_str(), &record.epoch.to_string()];
        let holder = self.holder.with_label_values(&labels);
        if holder.get() == 0 {
            self.holder.reset();
            self.holder.with_label_values(&labels).set(1);
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "an LSN below 8 PiB is exact in a 64-bit float"
    )]
    fn update_positions(&self, status: &NodeStatus) {
        let replayed_timeline = status.progress.map(|progress| progress.timeline);
        let timeline = status
            .wal_position
            .map(|position| position.timeline)
            .or(replayed_timeline);
        self.timeline
            .set(timeline.map_or(0, |timeline| timeline.get().into()));
        self.received_lsn.set(
            status
                .progress
                .map_or(0.0, |progress| progress.received_lsn.get() as f64),
        );
        self.replayed_lsn.set(
            status
                .progress
                .map_or(0.0, |progress| progress.replayed_lsn.get() as f64),
        );
        self.flushed_lsn.set(
            status
                .wal_position
                .map_or(0.0, |position| position.flush_lsn.get() as f64),
        );
    }
}

#[cfg(test)]
mod tests {
    use causeway_core::Epoch;
    use prometheus::Registry;
    use prometheus::core::Collector as _;

    use super::*;
    use crate::test_lease::held_lease;

    fn lease(holder: &str, epoch: u64, state: LeaseState) -> LeaseStatus {
        let mut record = held_lease(holder, Epoch::new(epoch));
        record.state = state;
        LeaseStatus {
            record,
            age_secs: 0.0,
            stood_secs: 0.0,
            expired: false,
        }
    }

    #[test]
    fn holder_changed_then_earlier_series_removed() {
        let metrics = Metrics::register(Registry::new()).unwrap();
        metrics.update_lease(Some(&lease("a", 1, LeaseState::Held)));
        metrics.update_lease(Some(&lease("a", 1, LeaseState::Held)));
        metrics.update_lease(Some(&lease("b", 2, LeaseState::Held)));

        let families = metrics.holder.collect();
        assert_eq!(families[0].get_metric().len(), 1, "{families:?}");
        assert_eq!(metrics.holder.with_label_values(&["b", "2"]).get(), 1);
    }

    #[test]
    fn lease_paused_then_set_until_it_is_held() {
        let metrics = Metrics::register(Registry::new()).unwrap();
        metrics.update_lease(None);
        assert_eq!(metrics.paused.get(), 0);
        metrics.update_lease(Some(&lease("a", 1, LeaseState::Paused)));
        assert_eq!(metrics.paused.get(), 1);
        metrics.update_lease(Some(&lease("a", 1, LeaseState::Held)));
        assert_eq!(metrics.paused.get(), 0);
    }
}
