//! Run of scenarios on a lab: clients that write, waits, and the check at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::NodeId;
use causeway_runtime::shutdown::Tasks;
use serde::Deserialize;
use tokio_postgres::Client;

use crate::Lab;
use crate::fault::Fault;
use crate::progress::ProgressReporter;
use crate::wait;
use crate::workload::checker::{
    CheckResult, Expectation, Measurements, ServingPrimary, TimeSpan, check_scenario,
};
use crate::workload::history::{History, HistorySnapshot, WritePath};
use crate::workload::rows::missing_rows;
use crate::workload::writers::Writers;

/// Timeout of each wait in a scenario, far above every expected downtime: a slow run ends with a
/// failed check and not with a timeout.
pub const SCENARIO_TIMEOUT: Duration = Duration::from_secs(90);

/// Duration of steady writes before and after a fault, so that the gap between them belongs to the fault.
const STEADY_DURATION: Duration = Duration::from_secs(1);

/// Timeout of a connection to one host. All hosts are tried in parallel, and a lost one may block for the
/// whole timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A lab, its clients and their history.
#[derive(Debug)]
pub struct ScenarioRun<'lab> {
    /// The platform.
    pub lab: &'lab Lab,
    /// Where progress is reported.
    pub progress: ProgressReporter,
    writers: Writers,
    already_lost: BTreeMap<WritePath, BTreeSet<u64>>,
}

/// Name and start time of a scenario.
#[derive(Clone, Debug)]
pub struct ScenarioStart {
    name: &'static str,
    from: Duration,
}

impl<'lab> ScenarioRun<'lab> {
    /// Starts the clients, and returns once rows are acknowledged through both write paths.
    ///
    /// # Errors
    ///
    /// When no row is acknowledged in time.
    pub async fn start(lab: &'lab Lab, progress: ProgressReporter) -> anyhow::Result<Self> {
        let writers = Writers::start(&lab.database(), lab.topology().dns(), &History::default());
        let run = Self {
            lab,
            progress,
            writers,
            already_lost: BTreeMap::new(),
        };
        let since = run.history().now();
        run.wait_for_acknowledged_rows(since, SCENARIO_TIMEOUT)
            .await?;
        Ok(run)
    }

    /// Returns the node that accepts writes.
    ///
    /// # Errors
    ///
    /// When none does in time.
    pub async fn primary(&self) -> anyhow::Result<NodeId> {
        self.lab.wait_for_primary(SCENARIO_TIMEOUT).await
    }

    /// Returns the clients' history.
    pub fn history(&self) -> &History {
        self.writers.history()
    }

    /// Stops the clients.
    pub async fn stop(&self) {
        self.writers.stop().await;
    }

    /// Begins a scenario: measurements start now.
    ///
    /// # Errors
    ///
    /// When rows are not acknowledged through both write paths before the fault.
    pub async fn begin(&self, name: &'static str) -> anyhow::Result<ScenarioStart> {
        let from = self.history().record_event(format!("{name} begins"));
        self.wait_for_steady_writes(SCENARIO_TIMEOUT).await?;
        Ok(ScenarioStart { name, from })
    }

    /// Injects a fault, announces it, and returns the time just before it.
    ///
    /// # Errors
    ///
    /// When the fault cannot be injected.
    pub async fn inject(&self, fault: &Fault) -> anyhow::Result<Duration> {
        let at = self.history().now();
        let injected = self.lab.break_with(fault).await?;
        self.announce(&injected);
        Ok(at)
    }

    /// Reports an event and records it in the history.
    pub fn announce(&self, what: &str) {
        self.history().record_event(what);
        self.progress.report(format!("• {what}"));
    }

    /// Reports what the scenario waits for.
    pub fn announce_wait(&self, what: &str, timeout: Duration) {
        self.progress.report(format!(
            "  … waiting for {what}, at most {} s",
            timeout.as_secs()
        ));
    }

    /// Waits until rows written since `since` were acknowledged through both write paths.
    ///
    /// # Errors
    ///
    /// When they are not, within `timeout`.
    pub async fn wait_for_acknowledged_rows(
        &self,
        since: Duration,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        self.announce_wait(
            "rows to be acknowledged by SQL and through the API",
            timeout,
        );
        wait::until("rows to be acknowledged", timeout, || async {
            let stale = |path: &WritePath| {
                self.history()
                    .last_acknowledged(*path)
                    .is_none_or(|at| at <= since)
            };
            match [WritePath::Sql, WritePath::Api].into_iter().find(stale) {
                None => Ok(()),
                Some(path) => Err(format!("none through {path:?} yet")),
            }
        })
        .await?;
        Ok(())
    }

    /// Waits until both write paths have acknowledged rows without a gap for a second.
    ///
    /// # Errors
    ///
    /// When they do not, within `timeout`.
    pub async fn wait_for_steady_writes(&self, timeout: Duration) -> anyhow::Result<()> {
        let mut since = self.history().now();
        let deadline = since + timeout;
        while self.history().now() < deadline {
            let path = |path| self.history().last_acknowledged(path);
            let latest = path(WritePath::Sql)
                .min(path(WritePath::Api))
                .unwrap_or(Duration::ZERO);
            let now = self.history().now();
            if now.saturating_sub(latest) > STEADY_DURATION / 2 {
                since = now;
            }
            if now.saturating_sub(since) > STEADY_DURATION {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("no steady writes for {STEADY_DURATION:?} within {timeout:?}")
    }

    /// Waits until every other node streams from the primary.
    ///
    /// # Errors
    ///
    /// When one does not in time.
    pub async fn wait_for_standbys(&self) -> anyhow::Result<()> {
        let primary = self.lab.wait_for_primary(SCENARIO_TIMEOUT).await?;
        for node in self.lab.nodes() {
            if node.spec.node == primary {
                continue;
            }
            self.progress
                .report(format!("  … waiting for node {} to stream", node.spec.node));
            self.lab.wait_for_standby(node).await?;
        }
        Ok(())
    }

    /// Waits until another node than `old` acknowledges writes, and `old` does not, and announces it.
    ///
    /// # Errors
    ///
    /// When none does, within `timeout`.
    pub async fn wait_for_takeover(
        &self,
        old: &NodeId,
        timeout: Duration,
    ) -> anyhow::Result<NodeId> {
        self.announce_wait(
            &format!("another node than {old} to acknowledge writes"),
            timeout,
        );
        wait::until("another node to acknowledge writes", timeout, || async {
            let lately = self.history().now().saturating_sub(STEADY_DURATION / 2);
            match &self.history().nodes_acknowledging_since(lately)[..] {
                [node] if node != old => Ok(()),
                others => Err(format!("nodes that acknowledge writes: {others:?}")),
            }
        })
        .await?;
        self.announce_primary().await
    }

    /// Waits until another node acknowledges writes while `old` still does: split-brain.
    ///
    /// # Errors
    ///
    /// When it does not, within `timeout`.
    pub async fn wait_for_split_brain(
        &self,
        old: &NodeId,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        self.announce_wait("split-brain: two nodes acknowledge writes", timeout);
        wait::until(
            "split-brain: two nodes acknowledge writes",
            timeout,
            || async {
                let lately = self.history().now().saturating_sub(STEADY_DURATION / 2);
                let writers = self.history().nodes_acknowledging_since(lately);
                if writers.len() > 1 && writers.contains(old) {
                    return Ok(());
                }
                Err(format!("nodes that acknowledge writes: {writers:?}"))
            },
        )
        .await?;
        Ok(())
    }

    /// Announces the primary.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn announce_primary(&self) -> anyhow::Result<NodeId> {
        let node = self.lab.wait_for_primary(SCENARIO_TIMEOUT).await?;
        let spec = self.lab.topology().node_spec(&node)?;
        self.announce(&format!("node {node} in {} is primary", spec.zone));
        Ok(node)
    }

    /// Returns the server that accepts writes now.
    ///
    /// # Errors
    ///
    /// When none does.
    pub async fn serving_primary(&self) -> anyhow::Result<ServingPrimary> {
        let tasks = Tasks::new();
        let (node, client) = self.connect_to_primary(&tasks).await?;
        let started = "select pg_postmaster_start_time()::text";
        let started = client.query_one(started, &[]).await?.get(0);
        tasks.stop(Duration::from_secs(1)).await;
        Ok(ServingPrimary { node, started })
    }

    /// Connects to the primary, whichever node it is.
    ///
    /// # Errors
    ///
    /// When there is none, or it is not reached in time.
    pub async fn connect_to_primary(&self, tasks: &Tasks) -> anyhow::Result<(NodeId, Client)> {
        let database = self.lab.database();
        let connected = wait::until("a primary", SCENARIO_TIMEOUT, || async {
            let connecting = database.connect_to_primary(CONNECT_TIMEOUT, tasks);
            connecting.await.map_err(|error| format!("{error:#}"))
        });
        Ok(connected.await?)
    }

    /// Returns the highest data loss, in rows, that `failover-ctl plan promote` states for any of
    /// the standbys, after the loss of the primary.
    ///
    /// # Errors
    ///
    /// When no standby can be promoted.
    pub async fn planned_loss(&self) -> anyhow::Result<u64> {
        let mut stated = None;
        let mut why = Vec::new();
        for node in self.lab.nodes() {
            let name = node.spec.node.as_str();
            let plan = ["plan", "promote", "--to", name, "--json"];
            let plan = self.lab.programs().failover_ctl(&plan);
            match plan.run(None, SCENARIO_TIMEOUT).await {
                Ok(plan) => stated = stated.max(Some(StatedLoss::of(&plan)?.rows_at_most)),
                Err(error) => why.push(format!("{error:#}")),
            }
        }
        let stated = stated.with_context(|| format!("no standby can be promoted: {why:?}"))?;
        self.announce(&format!(
            "`failover-ctl plan promote` states a data loss of at most {stated} rows"
        ));
        Ok(stated)
    }

    /// Returns the data loss, in rows, that `failover-ctl status` forecasts while the primary's
    /// agent responds.
    ///
    /// # Errors
    ///
    /// When the status has no forecast.
    pub async fn forecast_loss(&self) -> anyhow::Result<u64> {
        /// Part of the status that is read here.
        #[derive(Deserialize)]
        struct Status {
            failover_forecast: Plan,
        }
        let status = self.lab.programs().failover_ctl(&["status", "--json"]);
        let status = status.run(None, SCENARIO_TIMEOUT).await?;
        let stated = serde_json::from_str::<Status>(&status)
            .with_context(|| format!("the status states no loss: {status}"))?;
        let stated = stated.failover_forecast.data_loss.rows_at_most;
        self.announce(&format!(
            "`failover-ctl status` forecasts a data loss of at most {stated} rows"
        ));
        Ok(stated)
    }

    /// Keeps the clients writing until a time of the history.
    pub async fn run_until(&self, time: Duration) {
        tokio::time::sleep(time.saturating_sub(self.history().now())).await;
    }

    /// Ends a scenario: measures downtime, data loss and split-brain, and compares them with the expectation.
    ///
    /// # Errors
    ///
    /// When there is no primary whose rows could be compared.
    pub async fn finish(
        &mut self,
        start: &ScenarioStart,
        expectation: Expectation,
    ) -> anyhow::Result<CheckResult> {
        self.wait_for_steady_writes(SCENARIO_TIMEOUT).await?;
        let to = self.history().now();
        let rows_lost = self.newly_lost().await?;
        let span = TimeSpan {
            from: start.from,
            to,
        };
        let measured = measured(&self.history().snapshot(), span, rows_lost);
        let result = check_scenario(start.name, expectation, &measured);
        self.history().record_event(format!("{} ends", start.name));
        Ok(result)
    }

    /// Returns the number of acknowledged rows that the primary lacks and that were not lost
    /// before.
    async fn newly_lost(&mut self) -> anyhow::Result<usize> {
        let tasks = Tasks::new();
        let (_, primary) = self.connect_to_primary(&tasks).await?;
        let missing = missing_rows(&primary, self.history()).await?;
        tasks.stop(Duration::from_secs(1)).await;
        let mut newly = 0;
        for (path, rows) in missing {
            let known = self.already_lost.entry(path).or_default();
            newly += rows.difference(known).count();
            known.extend(rows);
        }
        Ok(newly)
    }
}

/// Part of a plan or a forecast that is read here.
#[derive(Deserialize)]
struct Plan {
    data_loss: StatedLoss,
}

/// Data loss that a plan states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct StatedLoss {
    /// Maximum number of lost rows.
    pub rows_at_most: u64,
    /// Maximum number of lost bytes of WAL.
    pub bytes_at_most: u64,
}

impl StatedLoss {
    /// Parses the data loss of a plan, as `failover-ctl` prints it in JSON.
    ///
    /// # Errors
    ///
    /// When it is not a plan, or states no data loss.
    pub fn of(plan: &str) -> anyhow::Result<Self> {
        let plan: Plan = serde_json::from_str(plan)
            .with_context(|| format!("the plan states no loss: {plan}"))?;
        Ok(plan.data_loss)
    }
}

/// Returns the measurements within a span.
fn measured(snapshot: &HistorySnapshot, span: TimeSpan, rows_lost: usize) -> Measurements {
    let inside = |at: &Duration| span.from <= *at && *at <= span.to;
    let acknowledged = snapshot.acknowledged.iter();
    let of = |at: &Vec<Duration>| at.iter().copied().filter(inside).collect();
    let accepted = snapshot.accepted.iter();
    Measurements {
        span,
        acknowledged: acknowledged
            .filter(|row| inside(&row.at))
            .map(|row| (row.at, row.path))
            .collect(),
        accepted: accepted.map(|(node, at)| (node.clone(), of(at))).collect(),
        rows_lost,
    }
}
