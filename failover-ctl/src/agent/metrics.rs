//! Metrics of the agent.

use causeway_core::guard::PostgresProcess;
use causeway_core::problem::ProblemKind;
use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::protocol::node_status::{NodeRole, NodeStatus};

/// Metrics of the agent. Each has the labels `cluster`, `node`, `zone` and `region`.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) alerts: IntCounter,
    pub(crate) evicted: IntCounter,
    problems: IntGaugeVec,
    role: RoleMetrics,
    lease: LeaseMetrics,
    wal: WalMetrics,
}

#[derive(Clone, Debug)]
struct RoleMetrics {
    primary: IntGauge,
    standby: IntGauge,
    candidate: IntGauge,
    postgres_up: IntGauge,
    guard_up: IntGauge,
    unproven: Gauge,
}

#[derive(Clone, Debug)]
struct LeaseMetrics {
    epoch: IntGauge,
    age: Gauge,
    remaining: Gauge,
}

#[derive(Clone, Debug)]
struct WalMetrics {
    streaming: IntGauge,
    timeline: IntGauge,
    received_lsn: Gauge,
    replayed_lsn: Gauge,
    flushed_lsn: Gauge,
}

impl RoleMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            primary: register_int_gauge(
                "failover_is_primary",
                "1 if the node holds the lease and accepts writes",
                registry,
            )?,
            standby: register_int_gauge(
                "failover_is_standby",
                "1 if the node is a standby",
                registry,
            )?,
            candidate: register_int_gauge(
                "failover_is_candidate",
                "1 if the node would take over automatically were the primary lost now",
                registry,
            )?,
            postgres_up: register_int_gauge(
                "failover_postgres_up",
                "1 if PostgreSQL runs under the guard",
                registry,
            )?,
            guard_up: register_int_gauge("failover_guard_up", "1 if the guard responds", registry)?,
            unproven: register_gauge(
                "failover_unproven_seconds",
                "Time since the holder's PostgreSQL proved a write; 0 on other nodes",
                registry,
            )?,
        })
    }
}

impl LeaseMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            epoch: register_int_gauge(
                "failover_lease_epoch",
                "Epoch of the lease that the node read last; 0 if none",
                registry,
            )?,
            age: register_gauge(
                "failover_lease_age_seconds",
                "Time since the lease last changed",
                registry,
            )?,
            remaining: register_gauge(
                "failover_lease_remaining_seconds",
                "Time until the guard's stop deadline; 0 if the node may not write",
                registry,
            )?,
        })
    }
}

impl WalMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            streaming: register_int_gauge(
                "failover_is_streaming",
                "1 if the node receives WAL from its primary",
                registry,
            )?,
            timeline: register_int_gauge(
                "failover_timeline",
                "Timeline that the node writes or replays; 0 if neither",
                registry,
            )?,
            received_lsn: register_gauge(
                "failover_received_lsn_bytes",
                "WAL position received by a standby; 0 on others",
                registry,
            )?,
            replayed_lsn: register_gauge(
                "failover_replayed_lsn_bytes",
                "WAL position replayed by a standby; 0 on others",
                registry,
            )?,
            flushed_lsn: register_gauge(
                "failover_flushed_lsn_bytes",
                "WAL position flushed by a primary; 0 on others",
                registry,
            )?,
        })
    }
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    ///
    /// When two metrics have one name, which is a defect of this file.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            alerts: register_int_counter(
                "failover_operator_alerts_total",
                "Events that need an operator",
                registry,
            )?,
            evicted: register_int_counter(
                "failover_http_connections_evicted_total",
                "Connections to the agent's port evicted for newer ones",
                registry,
            )?,
            problems: register_int_gauge_vec(
                "failover_problem",
                "1 while the problem keeps the node from its role, else 0",
                &["problem"],
                registry,
            )?,
            role: RoleMetrics::register(registry)?,
            lease: LeaseMetrics::register(registry)?,
            wal: WalMetrics::register(registry)?,
        })
    }

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
        self.role.candidate.set(takes_over.into());
        self.role.unproven.set(status.unproven_secs.unwrap_or(0.0));
        self.role
            .primary
            .set(i64::from(status.role == NodeRole::Primary));
        self.role
            .standby
            .set(i64::from(status.role == NodeRole::Standby));
        self.wal.streaming.set(i64::from(status.streaming));
        let up = matches!(
            status.server,
            Some(PostgresProcess::Standby | PostgresProcess::MayWrite)
        );
        self.role.postgres_up.set(i64::from(up));
        self.role.guard_up.set(i64::from(status.guard.responding));
        let lease = status.lease.as_ref();
        self.lease
            .epoch
            .set(lease.map_or(0, |lease| lease.record.epoch.get().cast_signed()));
        self.lease
            .age
            .set(lease.map_or(0.0, |lease| lease.age_secs));
        self.lease.remaining.set(status.guard.remaining_secs);
        let replayed_timeline = status.progress.map(|progress| progress.timeline);
        let timeline = status
            .wal_position
            .map(|position| position.timeline)
            .or(replayed_timeline);
        self.wal
            .timeline
            .set(timeline.map_or(0, |timeline| timeline.get().into()));
        self.wal.received_lsn.set(
            status
                .progress
                .map_or(0.0, |progress| progress.received_lsn.get() as f64),
        );
        self.wal.replayed_lsn.set(
            status
                .progress
                .map_or(0.0, |progress| progress.replayed_lsn.get() as f64),
        );
        self.wal.flushed_lsn.set(
            status
                .wal_position
                .map_or(0.0, |position| position.flush_lsn.get() as f64),
        );
    }
}

fn register_gauge(name: &str, help: &str, registry: &Registry) -> prometheus::Result<Gauge> {
    let gauge = Gauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn register_int_gauge(name: &str, help: &str, registry: &Registry) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn register_int_gauge_vec(
    name: &str,
    help: &str,
    labels: &[&str],
    registry: &Registry,
) -> prometheus::Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn register_int_counter(
    name: &str,
    help: &str,
    registry: &Registry,
) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}
