//! A running lab with clients that write to it: where stories are played and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::NodeId;
use causeway_runtime::shutdown::Tasks;
use serde::Deserialize;
use tokio_postgres::Client;

use crate::Lab;
use crate::fault::Fault;
use crate::progress::Voice;
use crate::scenarios::LONG;
use crate::wait;
use crate::workload::checker::{Measured, Promise, Serving, Span, Verdict, judge};
use crate::workload::history::{Door, Held, Memory};
use crate::workload::writers::{Writers, missing_rows};

/// How long writes must have gone on undisturbed before and after a fault, so that the gap between
/// them is the fault's.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// How long one host may take to let a client in: many times what a busy machine needs, since all are
/// asked at once and one that is gone may hold up the answer for as long.
const CONNECT: Duration = Duration::from_secs(5);

/// A lab, its clients and what they remember.
#[derive(Debug)]
pub struct Stage<'lab> {
    /// The platform.
    pub lab: &'lab Lab,
    /// How the story is told.
    pub voice: Voice,
    writers: Writers,
    already_lost: BTreeMap<Door, BTreeSet<u64>>,
}

/// A story that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    name: &'static str,
    from: Duration,
}

impl<'lab> Stage<'lab> {
    /// Starts the clients, and returns once rows are acknowledged through both doors.
    ///
    /// # Errors
    ///
    /// When they are not.
    pub async fn set(lab: &'lab Lab, voice: Voice) -> anyhow::Result<Self> {
        let writers = Writers::start(&lab.database(), lab.topology().dns(), &Memory::default());
        let stage = Self {
            lab,
            voice,
            writers,
            already_lost: BTreeMap::new(),
        };
        let since = stage.memory().now();
        stage.acknowledged_since(since, LONG).await?;
        Ok(stage)
    }

    /// Returns what the clients remember.
    pub fn memory(&self) -> &Memory {
        self.writers.memory()
    }

    /// Ends the clients.
    pub async fn clear(&self) {
        self.writers.stop().await;
    }

    /// Begins a story: from now on everything that is measured is its own.
    ///
    /// # Errors
    ///
    /// When rows are not acknowledged through both doors to begin with.
    pub async fn begin(&self, name: &'static str) -> anyhow::Result<Begun> {
        let from = self.memory().mark(format!("{name} begins"));
        self.undisturbed(LONG).await?;
        Ok(Begun { name, from })
    }

    /// Breaks something, tells what, and returns when that was.
    ///
    /// # Errors
    ///
    /// When it cannot be broken.
    pub async fn break_with(&self, fault: &Fault) -> anyhow::Result<Duration> {
        let at = self.memory().now();
        let broken = self.lab.break_with(fault).await?;
        self.say(&broken);
        Ok(at)
    }

    /// Tells what happens, and remembers it for the timeline.
    pub fn say(&self, what: &str) {
        self.memory().mark(what);
        self.voice.say(format!("• {what}"));
    }

    /// Tells what is waited for.
    pub fn waiting(&self, what: &str, patience: Duration) {
        self.voice.say(format!(
            "  … waiting for {what}, at most {} s",
            patience.as_secs()
        ));
    }

    /// Waits until rows written since `since` were acknowledged through both doors.
    ///
    /// # Errors
    ///
    /// When they are not, within `patience`.
    pub async fn acknowledged_since(
        &self,
        since: Duration,
        patience: Duration,
    ) -> anyhow::Result<()> {
        self.waiting(
            "rows to be acknowledged by SQL and through the API",
            patience,
        );
        wait::until("rows to be acknowledged", patience, || async {
            let stale = |door: &Door| self.memory().last(*door).is_none_or(|it| it <= since);
            match [Door::Sql, Door::Api].into_iter().find(stale) {
                None => Ok(()),
                Some(door) => Err(format!("none through {door:?} yet")),
            }
        })
        .await?;
        Ok(())
    }

    /// Waits until both doors have acknowledged rows for a second on end.
    ///
    /// # Errors
    ///
    /// When they do not, within `patience`.
    pub async fn undisturbed(&self, patience: Duration) -> anyhow::Result<()> {
        let mut since = self.memory().now();
        let deadline = since + patience;
        while self.memory().now() < deadline {
            let door = |door| self.memory().last(door);
            let latest = door(Door::Sql).min(door(Door::Api)).unwrap_or_default();
            let now = self.memory().now();
            if now.saturating_sub(latest) > UNDISTURBED / 2 {
                since = now;
            }
            if now.saturating_sub(since) > UNDISTURBED {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("writes did not go on for {UNDISTURBED:?} within {patience:?}")
    }

    /// Waits until every node but the primary streams from it.
    ///
    /// # Errors
    ///
    /// When one does not in time.
    pub async fn everybody_follows(&self) -> anyhow::Result<()> {
        let primary = self.lab.wait_for_primary(LONG).await?;
        for node in self.lab.nodes() {
            if node.place.node == primary {
                continue;
            }
            self.voice.say(format!(
                "  … waiting for node {} to follow",
                node.place.node
            ));
            self.lab.wait_for_standby(node).await?;
        }
        Ok(())
    }

    /// Waits until another node than `old` acknowledges writes, and `old` does not, and tells which.
    ///
    /// # Errors
    ///
    /// When none does, within `patience`.
    pub async fn taken_over_from(
        &self,
        old: &NodeId,
        patience: Duration,
    ) -> anyhow::Result<NodeId> {
        self.waiting(&format!("another node than {old} to take writes"), patience);
        wait::until("another node to take writes", patience, || async {
            let lately = self.memory().now().saturating_sub(UNDISTURBED / 2);
            match &self.memory().writers_since(lately)[..] {
                [node] if node != old => Ok(()),
                others => Err(format!("writes are taken by {others:?}")),
            }
        })
        .await?;
        self.tell_primary().await
    }

    /// Waits until another node acknowledges writes while `old` still does: what must never happen.
    ///
    /// # Errors
    ///
    /// When it does not, within `patience`.
    pub async fn second_writer_beside(
        &self,
        old: &NodeId,
        patience: Duration,
    ) -> anyhow::Result<()> {
        self.waiting("two nodes to take writes at once", patience);
        wait::until("two nodes to take writes at once", patience, || async {
            let lately = self.memory().now().saturating_sub(UNDISTURBED / 2);
            let writers = self.memory().writers_since(lately);
            if writers.len() > 1 && writers.contains(old) {
                return Ok(());
            }
            Err(format!("writes are taken by {writers:?}"))
        })
        .await?;
        Ok(())
    }

    /// Tells which node is primary.
    ///
    /// # Errors
    ///
    /// When none is.
    pub async fn tell_primary(&self) -> anyhow::Result<NodeId> {
        let node = self.lab.wait_for_primary(LONG).await?;
        let place = self.lab.topology().place(&node)?;
        self.say(&format!("node {node} in {} takes writes", place.zone));
        Ok(node)
    }

    /// Returns the server that takes writes now.
    ///
    /// # Errors
    ///
    /// When none does.
    pub async fn serving(&self) -> anyhow::Result<Serving> {
        let tasks = Tasks::new();
        let (node, client) = self.primary(&tasks).await?;
        let started = "select pg_postmaster_start_time()::text";
        let started = client.query_one(started, &[]).await?.get(0);
        tasks.stop(Duration::from_secs(1)).await;
        Ok(Serving { node, started })
    }

    /// Connects to the primary, whichever node it is.
    ///
    /// # Errors
    ///
    /// When there is none, or it is not reached in time.
    pub async fn primary(&self, tasks: &Tasks) -> anyhow::Result<(NodeId, Client)> {
        let database = self.lab.database();
        let connected = wait::until("a primary", LONG, || async {
            let connecting = database.connect_to_primary(CONNECT, tasks);
            connecting.await.map_err(|error| format!("{error:#}"))
        });
        Ok(connected.await?)
    }

    /// Returns the most rows that `failover-ctl` says would be lost if one of the standbys were
    /// promoted now, in place of a primary that is gone.
    ///
    /// # Errors
    ///
    /// When it has a plan for none of them.
    pub async fn stated_loss(&self) -> anyhow::Result<u64> {
        let mut stated = None;
        let mut why = Vec::new();
        for node in self.lab.nodes() {
            let name = node.place.node.as_str();
            let plan = ["plan", "promote", "--to", name, "--json"];
            let plan = self.lab.programs().failover_ctl(&plan);
            match plan.run(None, LONG).await {
                Ok(plan) => stated = stated.max(Some(Stated::of(&plan)?.rows_at_most)),
                Err(error) => why.push(format!("{error:#}")),
            }
        }
        let stated = stated.with_context(|| format!("nobody can be promoted: {why:?}"))?;
        self.say(&format!(
            "`failover-ctl plan promote` states: at most {stated} rows lost"
        ));
        Ok(stated)
    }

    /// Returns the most rows that `failover-ctl status` says a takeover may lose now, while the
    /// primary's agent still answers and no promotion is called for.
    ///
    /// # Errors
    ///
    /// When nobody would take over.
    pub async fn loss_at_risk(&self) -> anyhow::Result<u64> {
        /// The part of the status that is read here.
        #[derive(Deserialize)]
        struct Status {
            failover_forecast: Plan,
        }
        let status = self.lab.programs().failover_ctl(&["status", "--json"]);
        let status = status.run(None, LONG).await?;
        let stated = serde_json::from_str::<Status>(&status)
            .with_context(|| format!("the status states no loss: {status}"))?;
        let stated = stated.failover_forecast.data_loss.rows_at_most;
        self.say(&format!(
            "`failover-ctl status` states: a takeover may lose at most {stated} rows"
        ));
        Ok(stated)
    }

    /// Lets the clients go on until the lab's memory reaches back so far.
    pub async fn reach(&self, moment: Duration) {
        tokio::time::sleep(moment.saturating_sub(self.memory().now())).await;
    }

    /// Ends a story: measures what it cost and judges it.
    ///
    /// # Errors
    ///
    /// When there is no primary whose rows could be compared.
    pub async fn end(&mut self, begun: &Begun, promise: Promise) -> anyhow::Result<Verdict> {
        self.undisturbed(LONG).await?;
        let to = self.memory().now();
        let rows_lost = self.newly_lost().await?;
        let span = Span {
            from: begun.from,
            to,
        };
        let measured = measured(&self.memory().recall(), span, rows_lost);
        let verdict = judge(begun.name, promise, &measured);
        self.memory().mark(format!("{} ends", begun.name));
        Ok(verdict)
    }

    /// Returns how many acknowledged rows the primary lacks that were not lost before.
    async fn newly_lost(&mut self) -> anyhow::Result<usize> {
        let tasks = Tasks::new();
        let (_, primary) = self.primary(&tasks).await?;
        let missing = missing_rows(&primary, self.memory()).await?;
        tasks.stop(Duration::from_secs(1)).await;
        let mut newly = 0;
        for (door, rows) in missing {
            let known = self.already_lost.entry(door).or_default();
            newly += rows.difference(known).count();
            known.extend(rows);
        }
        Ok(newly)
    }
}

/// The part of a plan, or of a verdict, that is read here.
#[derive(Deserialize)]
struct Plan {
    data_loss: Stated,
}

/// What a plan states before it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Stated {
    /// The most rows that may be lost.
    pub rows_at_most: u64,
    /// The most bytes of log that may be lost.
    pub bytes_at_most: u64,
}

impl Stated {
    /// Reads what a plan states, as `failover-ctl` prints it in JSON.
    ///
    /// # Errors
    ///
    /// When it is no plan, or states no loss.
    pub fn of(plan: &str) -> anyhow::Result<Self> {
        let plan: Plan = serde_json::from_str(plan)
            .with_context(|| format!("the plan states no loss: {plan}"))?;
        Ok(plan.data_loss)
    }
}

/// Returns what is remembered of a span.
fn measured(held: &Held, span: Span, rows_lost: usize) -> Measured {
    let inside = |at: &Duration| span.from <= *at && *at <= span.to;
    let acknowledged = held.acknowledged.iter();
    let of = |at: &Vec<Duration>| at.iter().copied().filter(inside).collect();
    let accepted = held.accepted.iter();
    Measured {
        span,
        acknowledged: acknowledged
            .filter(|it| inside(&it.at))
            .map(|it| (it.at, it.door))
            .collect(),
        accepted: accepted.map(|(node, at)| (node.clone(), of(at))).collect(),
        rows_lost,
    }
}
