//! Every series that the agent exports, named once.

use causeway_core::guard::PostgresProcess;
use causeway_core::problem::ProblemKind;
use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::protocol::node_status::{NodeRole, NodeStatus};

/// The agent's series. Each carries the labels `cluster`, `node`, `zone` and `region`.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) alarms: IntCounter,
    pub(crate) evicted: IntCounter,
    primary: IntGauge,
    standby: IntGauge,
    streaming: IntGauge,
    postgres_up: IntGauge,
    guard_up: IntGauge,
    epoch: IntGauge,
    lease_age: Gauge,
    lease_left: Gauge,
    timeline: IntGauge,
    received: Gauge,
    replayed: Gauge,
    written: Gauge,
    problems: IntGaugeVec,
    unproven: Gauge,
    candidate: IntGauge,
}

impl Metrics {
    /// Registers every series.
    ///
    /// # Errors
    ///
    /// When a name is taken, which is a mistake in this file.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let flag = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<Gauge> {
            let gauge = Gauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let alarms = IntCounter::with_opts(Opts::new(
            "failover_operator_alerts_total",
            "Times that a person should have looked",
        ))?;
        registry.register(Box::new(alarms.clone()))?;
        let evicted = IntCounter::with_opts(Opts::new(
            "failover_http_connections_evicted_total",
            "Connections to the agent's port closed to make room for newer ones",
        ))?;
        registry.register(Box::new(evicted.clone()))?;
        let problems = IntGaugeVec::new(
            Opts::new(
                "failover_problem",
                "1 while a condition keeps the node from doing its part",
            ),
            &["problem"],
        )?;
        registry.register(Box::new(problems.clone()))?;
        Ok(Self {
            alarms,
            evicted,
            primary: flag(
                "failover_is_primary",
                "1 if the node holds the lease and accepts writes",
            )?,
            standby: flag("failover_is_standby", "1 if the node follows")?,
            streaming: flag(
                "failover_is_streaming",
                "1 if the node receives from its primary",
            )?,
            postgres_up: flag("failover_postgres_up", "1 if PostgreSQL runs under guard")?,
            guard_up: flag("failover_guard_up", "1 if guard answers")?,
            epoch: flag(
                "failover_lease_epoch",
                "Epoch of the lease, as the node last saw it",
            )?,
            lease_age: gauge(
                "failover_lease_age_seconds",
                "How long the lease has stood unchanged",
            )?,
            lease_left: gauge(
                "failover_lease_remaining_seconds",
                "How long guard lets the node write",
            )?,
            timeline: flag(
                "failover_timeline",
                "Timeline that the node writes or follows; 0 if neither",
            )?,
            received: gauge(
                "failover_received_lsn_bytes",
                "Log position received by a standby",
            )?,
            replayed: gauge(
                "failover_replayed_lsn_bytes",
                "Log position replayed by a standby",
            )?,
            written: gauge(
                "failover_flushed_lsn_bytes",
                "Log position flushed by a primary",
            )?,
            problems,
            candidate: flag(
                "failover_is_candidate",
                "1 if the node would take over automatically were the primary lost now",
            )?,
            unproven: gauge(
                "failover_unproven_seconds",
                "Time since the holder's PostgreSQL proved a write; 0 on other nodes",
            )?,
        })
    }

    /// Shows a status.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a log position below 8 PiB is exact"
    )]
    pub(crate) fn show(&self, status: &NodeStatus) {
        for kind in ProblemKind::ALL {
            let stands = status.problems.iter().any(|problem| problem.problem == kind);
            self.problems
                .with_label_values(&[kind.name()])
                .set(stands.into());
        }
        let takes_over = status.forecast.as_ref().is_some_and(|forecast| forecast.takes_over);
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
        self.epoch
            .set(lease.map_or(0, |lease| lease.record.epoch.get().cast_signed()));
        self.lease_age.set(lease.map_or(0.0, |lease| lease.age_secs));
        self.lease_left.set(status.guard.remaining_secs);
        let followed = status.progress.map(|progress| progress.timeline);
        let timeline = status.wal_position.map(|position| position.timeline).or(followed);
        self.timeline.set(timeline.map_or(0, |timeline| timeline.get().into()));
        self.received.set(
            status
                .progress
                .map_or(0.0, |progress| progress.received_lsn.get() as f64),
        );
        self.replayed.set(
            status
                .progress
                .map_or(0.0, |progress| progress.replayed_lsn.get() as f64),
        );
        self.written.set(
            status
                .wal_position
                .map_or(0.0, |position| position.flush_lsn.get() as f64),
        );
    }
}
