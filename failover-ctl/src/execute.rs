//! Carries out a plan: one step at a time, each noted before and after.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ha_core::failover::plan::{Fence, Plan, Step};
use ha_core::failover::progress::remaining;
use ha_core::{Epoch, NodeId};
use ha_runtime::aws::Service;
use ha_runtime::postgres::{self, RootCert};
use ha_runtime::secret::Secret;
use ha_runtime::shutdown::Tasks;
use tokio::time::{self, Instant};

use crate::config::{NodeSettings, Settings};
use crate::error::Failure;
use crate::journal::{BEAT, Held, Journal, SILENCE, TakenOver};
use crate::output;
use crate::status::{NodeStatus, Role};
use crate::world::agents::Agents;
use crate::world::fencing;
use crate::world::orders::{Order, OrdersKey, What};
use crate::world::resolver;
use crate::world::route53::{Moved, Records};

/// How often a node is asked while something is waited for.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How much longer than the term the target may take to see that the lease is over: it has to read it
/// once more.
const FENCE_SLACK: Duration = Duration::from_secs(5);

/// How long a target may replay what it has received before a person should look.
const CATCH_UP: Duration = Duration::from_mins(30);

/// How long the target may take to write the lease.
const TAKING: Duration = Duration::from_secs(15);

/// How long a client's connection and its two statements may take.
const CONFIRMING: Duration = Duration::from_secs(10);

/// What carries a plan out.
pub(crate) struct Executor<'a> {
    settings: &'a Settings,
    agents: Agents,
    key: OrdersKey,
}

impl<'a> Executor<'a> {
    pub(crate) fn new(settings: &'a Settings, agents: Agents, key: OrdersKey) -> Self {
        Self {
            settings,
            agents,
            key,
        }
    }

    /// Carries out what remains of a plan. A record that cannot be moved is reported and left for
    /// `resume`: clients take several hosts, and are served without it.
    ///
    /// # Errors
    ///
    /// [`Failure::Unfinished`]: the journal says how far it came.
    pub(crate) async fn run(&self, mut held: Held) -> Result<Journal, Failure> {
        let plan = held.journal.plan.clone();
        let operation = held.journal.id.clone();
        let mut left_open = None;
        let steps: Vec<(usize, Step)> = remaining(&plan, &held.journal.entries)
            .into_iter()
            .map(|(at, it)| (at, it.clone()))
            .collect();
        for (at, step) in steps {
            let unfinished = |source| Failure::Unfinished {
                operation: operation.clone(),
                step: at + 1,
                what: step.to_string(),
                source,
            };
            held.began(at).await.map_err(unfinished)?;
            output::say(&format!("{}. {step}", at + 1));
            match Box::pin(self.with_beats(&plan, &step, &mut held)).await {
                Ok(evidence) => {
                    output::say(&format!("   {evidence}"));
                    held.ended(true, evidence).await.map_err(unfinished)?;
                }
                Err(error) => {
                    held.ended(false, format!("{error:#}"))
                        .await
                        .map_err(unfinished)?;
                    // Up to here nothing was changed that a new plan would not find as it is, so the
                    // operation is over, and the next one is not kept waiting for it.
                    let why = format!("{error:#}");
                    match &step {
                        Step::Fence { node, .. } => {
                            held.end().await.map_err(unfinished)?;
                            return Err(Failure::NotFenced {
                                node: node.to_string(),
                                why,
                            });
                        }
                        Step::CatchUp { node } => {
                            held.end().await.map_err(unfinished)?;
                            return Err(Failure::NotPromotable {
                                node: node.to_string(),
                                why,
                            });
                        }
                        Step::PointRecord { .. } => {
                            let failure = unfinished(error);
                            output::failure(&failure);
                            left_open = Some(failure);
                        }
                        Step::TakeLease { .. }
                        | Step::Promote { .. }
                        | Step::ConfirmWrite { .. } => {
                            return Err(unfinished(error));
                        }
                    }
                }
            }
        }
        match left_open {
            Some(failure) => Err(failure),
            None => Ok(held.end().await?),
        }
    }

    /// Performs a step, and shows meanwhile that this operator is at work.
    async fn with_beats(
        &self,
        plan: &Plan,
        step: &Step,
        held: &mut Held,
    ) -> anyhow::Result<String> {
        let mut work = pin!(self.perform(plan, step));
        let mut beaten_at = Instant::now();
        let mut beat = time::interval_at(Instant::now() + BEAT, BEAT);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = beat.tick() => match held.beat().await {
                    Ok(()) => beaten_at = Instant::now(),
                    // A store that does not answer for a moment stops nobody: every step is under the
                    // epoch of the plan. One that is silent for longer lets somebody else take over.
                    Err(error) if error.is::<TakenOver>() => return Err(error),
                    Err(error) if beaten_at.elapsed() >= SILENCE => return Err(error),
                    Err(error) => output::say(&format!("   the journal waits: {error:#}")),
                },
            }
        }
    }

    /// Does one step, or sees that it is done, and returns what shows it.
    async fn perform(&self, plan: &Plan, step: &Step) -> anyhow::Result<String> {
        match step {
            Step::Fence { node, by } => self.fence(plan, node, *by).await,
            Step::CatchUp { node } => self.catch_up(plan, node).await,
            Step::TakeLease { node, epoch } => self.take_lease(plan, node, *epoch).await,
            Step::Promote { node, .. } => self.promote(node, plan.planned.next()).await,
            Step::PointRecord {
                name,
                target,
                epoch,
            } => self.point(name, target, *epoch).await,
            Step::ConfirmWrite { host } => self.confirm(plan, host).await,
        }
    }

    async fn fence(&self, plan: &Plan, node: &NodeId, by: Fence) -> anyhow::Result<String> {
        match by {
            Fence::Unfenced => Ok(format!(
                "`{node}` is NOT proved to be fenced; a person has accepted that"
            )),
            Fence::StopInstance => {
                let instance = self
                    .node(node)?
                    .instance_id
                    .as_ref()
                    .context("no `instance-id`")?;
                let ec2 = self.settings.ec2.as_ref().context("no `[ec2]`")?;
                let region = self.node(node)?.region.to_string();
                let service = Service {
                    region,
                    endpoint: ec2.endpoint.clone(),
                };
                fencing::stop_instance(&service, instance).await?;
                Ok(format!("EC2 says that `{instance}` is stopped"))
            }
            Fence::LeaseOver => {
                let within = self.settings.timing.term + FENCE_SLACK;
                let what = format!("`{}` to see the lease of `{node}` over", plan.to);
                self.wait(&plan.to, within, &what, |status| {
                    if is_taken(status, plan) {
                        return Ok(Some("the target holds the lease already".to_owned()));
                    }
                    let Some(lease) = &status.lease else {
                        return Ok(None);
                    };
                    if lease.record.epoch != plan.planned {
                        bail!(
                            "the lease is at epoch {}, and {} was planned: plan again",
                            lease.record.epoch,
                            plan.planned
                        );
                    }
                    let evidence = format!(
                        "`{}` has seen epoch {} stand for {:.1} s of {:.1} s",
                        plan.to,
                        lease.record.epoch,
                        lease.age_secs,
                        self.settings.timing.term.as_secs_f64()
                    );
                    Ok(lease.over.then_some(evidence))
                })
                .await
            }
        }
    }

    async fn catch_up(&self, plan: &Plan, node: &NodeId) -> anyhow::Result<String> {
        let mut last = None;
        self.wait(
            node,
            CATCH_UP,
            &format!("`{node}` to replay all that it received"),
            |status| {
                if is_taken(status, plan) {
                    return Ok(Some("the target holds the lease already".to_owned()));
                }
                let Some(own) = status.progress else {
                    return Ok(None);
                };
                // Seen twice alike: nothing more came from the stream or from the archive meanwhile.
                let settled = last == Some(own) && own.replayed >= own.received;
                last = Some(own);
                Ok(settled.then(|| {
                    format!(
                        "received and replayed up to {} on timeline {}",
                        own.replayed, own.timeline
                    )
                }))
            },
        )
        .await
    }

    async fn take_lease(&self, plan: &Plan, node: &NodeId, epoch: Epoch) -> anyhow::Result<String> {
        let target = self.node(node)?;
        if !is_taken(&self.agents.status(target).await?, plan) {
            let fence = plan.steps.iter().find_map(|it| match it {
                Step::Fence { by, .. } => Some(*by),
                Step::CatchUp { .. }
                | Step::TakeLease { .. }
                | Step::Promote { .. }
                | Step::PointRecord { .. }
                | Step::ConfirmWrite { .. } => None,
            });
            let what = What::Take {
                vouched: fence != Some(Fence::LeaseOver),
            };
            let order = Order::new(&self.settings.cluster, node, plan.planned, what);
            self.agents.order(target, &order, &self.key).await?;
        }
        self.wait(
            node,
            TAKING,
            &format!("`{node}` to take the lease"),
            |status| Ok(is_taken(status, plan).then(|| format!("`{node}` holds epoch {epoch}"))),
        )
        .await
    }

    async fn promote(&self, node: &NodeId, epoch: Epoch) -> anyhow::Result<String> {
        let within = Duration::from_secs(self.settings.policy.start_within_secs.into());
        self.wait(
            node,
            within,
            &format!("`{node}` to accept writes"),
            |status| {
                let current = status.lease.as_ref().map(|it| it.record.epoch);
                if current.is_some_and(|it| it > epoch) {
                    bail!("somebody else has taken the lease since, at epoch {current:?}");
                }
                let Some(written) = status.written.filter(|_| status.role == Role::Primary) else {
                    return Ok(None);
                };
                Ok(Some(format!(
                    "`{node}` writes on timeline {} from {}",
                    written.timeline, written.flush_lsn
                )))
            },
        )
        .await
    }

    async fn point(&self, name: &str, target: &str, epoch: Epoch) -> anyhow::Result<String> {
        let dns = self
            .settings
            .dns
            .as_ref()
            .context("no `[dns]` in the settings")?;
        let records = Records::open(dns).await;
        let moved = records.point(name, target, epoch).await?;
        if let Moved::Changed(change) = &moved {
            records.arrived(change).await?;
        }
        let wanted: Option<IpAddr> = target.parse().ok();
        let deadline = Instant::now() + Duration::from_secs(dns.ttl_secs.into()) + CONFIRMING;
        loop {
            let found = resolver::addresses(name, dns.resolver).await;
            match (&found, wanted) {
                (Ok(found), Some(wanted)) if found.contains(&wanted) => break,
                (Ok(_), None) => break,
                _ if Instant::now() >= deadline => {
                    let found = found?;
                    bail!("Route 53 has the change, and the resolver still says {found:?}");
                }
                _ => time::sleep(ASK_EVERY).await,
            }
        }
        Ok(match moved {
            Moved::Changed(_) => format!("INSYNC, and the resolver says {target}"),
            Moved::Already => format!("it was there already, and the resolver says {target}"),
        })
    }

    /// Writes a row and reads it back over a connection like a client's: through the name where that
    /// is moved, to the node itself where it is not.
    async fn confirm(&self, plan: &Plan, host: &str) -> anyhow::Result<String> {
        let settings = self
            .settings
            .confirm
            .as_ref()
            .context("no `[confirm]` in the settings")?;
        let node = self.node(&plan.to)?;
        let resolver = self.settings.dns.as_ref().and_then(|it| it.resolver);
        let password = Secret::from_file(&settings.password_file)?;
        let mut config = tokio_postgres::Config::new();
        config
            .host(host)
            .port(node.port)
            .user(&settings.user)
            .password(password.reveal())
            .dbname(&settings.database)
            .application_name("failover-ctl promote")
            .ssl_mode(settings.sslmode.on_the_wire());
        let named = host != node.address;
        if named {
            let addresses = resolver::addresses(host, resolver).await?;
            config.hostaddr(*addresses.first().context("the name has no address")?);
        }
        let root_cert = settings.root_certificate.clone().map(RootCert::File);
        let tls = postgres::tls(settings.sslmode, root_cert.as_ref())?;
        let tasks = Tasks::new();
        let client = postgres::connect(&config, tls, CONFIRMING, &tasks)
            .await
            .with_context(|| format!("could not connect to `{host}` as a client would"))?;
        let writing = async {
            client.batch_execute(CONFIRM_TABLE).await?;
            let key = format!("epoch {}", plan.planned.next());
            let row = client.query_one(CONFIRM, &[&key]).await?;
            let written: String = row.try_get(0)?;
            let row = client.query_one(CONFIRMED, &[&key]).await?;
            let read: String = row.try_get(0)?;
            anyhow::Ok((written, read))
        };
        let (written, read) = time::timeout(CONFIRMING, writing)
            .await
            .context("the row was not written in time")??;
        if written != read {
            bail!("a row was written at {written}, and read back as of {read}");
        }
        Ok(format!(
            "a row was written through `{host}` at {written} and read back"
        ))
    }

    /// Asks a node until `found` says what was waited for, or the time is up.
    async fn wait(
        &self,
        node: &NodeId,
        within: Duration,
        what: &str,
        mut found: impl FnMut(&NodeStatus) -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<String> {
        let node = self.node(node)?;
        let deadline = Instant::now() + within;
        let mut said_at = Instant::now();
        loop {
            let asked = self.agents.status(node).await;
            if let Ok(status) = &asked
                && let Some(evidence) = found(status)?
            {
                return Ok(evidence);
            }
            let now = Instant::now();
            if now >= deadline {
                let last = match asked {
                    Ok(status) => serde_json::to_string(&status)?,
                    Err(error) => format!("{error:#}"),
                };
                bail!("gave up after {within:?} waiting for {what}; seen last: {last}");
            }
            if now - said_at >= BEAT {
                output::say(&format!(
                    "   waiting for {what}, at most {:?} more",
                    deadline - now
                ));
                said_at = now;
            }
            time::sleep(ASK_EVERY).await;
        }
    }

    fn node(&self, name: &NodeId) -> anyhow::Result<&NodeSettings> {
        self.settings
            .node(name)
            .with_context(|| format!("`{name}` is not in the settings"))
    }
}

const CONFIRM_TABLE: &str = "create table if not exists causeway_confirmation \
                             (promotion text primary key, at timestamptz not null)";
const CONFIRM: &str = "insert into causeway_confirmation (promotion, at) values ($1, clock_timestamp()) \
                       on conflict (promotion) do update set at = excluded.at returning at::text";
const CONFIRMED: &str = "select at::text from causeway_confirmation where promotion = $1";

/// Says whether the target has the lease that the plan wants it to have.
fn is_taken(status: &NodeStatus, plan: &Plan) -> bool {
    let Some(lease) = &status.lease else {
        return false;
    };
    let (record, epoch) = (&lease.record, plan.planned.next());
    record.holder.node == plan.to && record.epoch == epoch && status.role != Role::Standby
}
