//! Metrics of the agent.

use causeway_core::guard::PostgresProcess;
use causeway_core::problem::ProblemKind;
use causeway_runtime::declare_metrics;
use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec};

use crate::protocol::node_status::{NodeRole, NodeStatus};

declare_metrics! {
    /// At `/metrics` of [the agent](http-agent.md), which also exports the state of the guard: the guard has no
    /// network. Each series has the labels `cluster`, `node`, `zone` and `region`. Declared in
    /// `failover-ctl/src/agent/metrics.rs`.
    pub(crate) struct Metrics {
        primary: IntGauge = "failover_is_primary", "1 if the node holds the lease and accepts writes";
        standby: IntGauge = "failover_is_standby", "1 if the node is a standby";
        streaming: IntGauge = "failover_is_streaming", "1 if the node receives WAL from its primary";
        candidate: IntGauge = "failover_is_candidate",
            "1 if the node would take over automatically if the primary were lost now. Alert if the cluster \
             has none: the next failover needs an operator";
        postgres_up: IntGauge = "failover_postgres_up", "1 if PostgreSQL runs under the guard";
        guard_up: IntGauge = "failover_guard_up", "1 if the guard responds";
        lease_epoch: IntGauge = "failover_lease_epoch",
            "Epoch of the lease that the node read last; 0 if none";
        lease_age: Gauge = "failover_lease_age_seconds", "Time since the lease last changed";
        lease_remaining: Gauge = "failover_lease_remaining_seconds",
            "Time until the guard's stop deadline; 0 if the node may not write";
        unproven: Gauge = "failover_unproven_seconds",
            "Time since the holder's PostgreSQL verified a write; 0 on other nodes";
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
        alerts: IntCounter = "failover_operator_alerts_total", "Events that need an operator";
        evicted: IntCounter = "failover_http_connections_evicted_total",
            "Connections to the agent's port evicted for newer ones";
    }
}

impl Metrics {
    /// Sets the gauges from a status.
    #[expect(
        clippy::cast_precision_loss,
        reason = "an LSN below 8 PiB is exact in a 64-bit float"
    )]
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
        let takes_over = status
            .forecast
            .as_ref()
            .is_some_and(|forecast| forecast.takes_over);
        self.candidate.set(takes_over.into());
        self.unproven.set(status.unproven_secs.unwrap_or(0.0));
        self.primary
            .set(i64::from(status.role == NodeRole::Primary));
        self.standby
            .set(i64::from(status.role == NodeRole::Standby));
        self.streaming.set(i64::from(status.streaming));
        let up = matches!(
            status.server,
            Some(PostgresProcess::Standby | PostgresProcess::MayWrite)
        );
        self.postgres_up.set(i64::from(up));
        self.guard_up.set(i64::from(status.guard.responding));
        let lease = status.lease.as_ref();
        self.lease_epoch
            .set(lease.map_or(0, |lease| lease.record.epoch.get().cast_signed()));
        self.lease_age
            .set(lease.map_or(0.0, |lease| lease.age_secs));
        self.lease_remaining.set(status.guard.remaining_secs);
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
