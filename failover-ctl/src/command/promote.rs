//! `failover-ctl promote`, `plan promote` and `resume`: unplanned, and it says what may be lost before it
//! begins.

use std::io::{self, BufRead as _, IsTerminal as _};

use ha_core::NodeId;
use ha_core::failover::plan::{Fence, Plan, Step};
use ha_core::lease::LeaseRecord;

use crate::cli::Promote;
use crate::command::history;
use crate::config::Settings;
use crate::error::Failure;
use crate::execute::Executor;
use crate::journal::{Held, Journal};
use crate::observe::{self, Cluster};
use crate::output;
use crate::status::{NodeStatus, Role};
use crate::world::agents::Agents;
use crate::world::lease_store::LeaseStore;
use crate::world::orders::OrdersKey;
use crate::world::route53::Records;

/// Shows the plan, and does nothing.
pub(crate) async fn plan(settings: &Settings, asked: &Promote) -> Result<(), Failure> {
    let store = LeaseStore::open(settings).await;
    let cluster = observe::cluster(settings, &store, &Agents::new(settings)).await;
    let plan = make(&cluster, asked)?;
    show(&plan, asked.json)
}

/// Carries the plan out.
pub(crate) async fn run(settings: &Settings, asked: &Promote) -> Result<(), Failure> {
    let key = OrdersKey::read(&settings.orders_key_file)?;
    let store = LeaseStore::open(settings).await;
    let agents = Agents::new(settings);
    let cluster = observe::cluster(settings, &store, &agents).await;
    let plan = make(&cluster, asked)?;
    output::say(&plan.to_string());
    let accepted = accept(&plan, asked)?;
    let lease = cluster
        .record()
        .ok_or_else(|| Failure::NoLease(settings.cluster.clone()))?;
    let held = Held::begin(&store, Journal::new(plan, accepted), lease).await?;
    Box::pin(finish(
        Executor::new(settings, agents, key),
        held,
        asked.json,
    ))
    .await
}

/// Continues what was cut off.
pub(crate) async fn resume(settings: &Settings, json: bool) -> Result<(), Failure> {
    let key = OrdersKey::read(&settings.orders_key_file)?;
    let store = LeaseStore::open(settings).await;
    output::say("looking whether anybody is at work: 10 s");
    let held = Held::resume(&store).await?;
    output::say(&held.journal.plan.to_string());
    Box::pin(finish(
        Executor::new(settings, Agents::new(settings), key),
        held,
        json,
    ))
    .await
}

async fn finish(executor: Executor<'_>, held: Held, json: bool) -> Result<(), Failure> {
    let journal = Box::pin(executor.run(held)).await?;
    if json {
        output::data(&serde_json::to_string_pretty(&journal).map_err(anyhow::Error::from)?);
    } else {
        output::data(&history::describe(&journal));
    }
    Ok(())
}

/// Decides what to do, and refuses what would be wrong, with the state as it is.
fn make(cluster: &Cluster<'_>, asked: &Promote) -> Result<Plan, Failure> {
    let settings = cluster.settings;
    let target = cluster.target(&asked.to)?;
    let name = target.name.clone();
    let record = cluster
        .record()
        .ok_or_else(|| Failure::NoLease(settings.cluster.clone()))?;
    let from = record.holder.node.clone();
    if from == name {
        return Err(Failure::AlreadyPrimary(name.to_string()));
    }
    if cluster
        .status(&from)
        .is_some_and(|it| it.role == Role::Primary)
    {
        return Err(Failure::PrimaryHealthy(from.to_string()));
    }
    let status = promotable(cluster, &name, record)?;
    let loss = cluster.loss(status);
    let epoch = record.epoch.next();
    let by = match (asked.unfenced, asked.stop_instance) {
        (true, _) => Fence::Unfenced,
        (false, true) => Fence::StopInstance,
        (false, false) => Fence::LeaseOver,
    };
    if by == Fence::StopInstance {
        let instance = settings.node(&from).and_then(|it| it.instance_id.as_ref());
        if settings.ec2.is_none() || instance.is_none() {
            let why =
                "`--stop-instance` needs `[ec2]` and the node's `instance-id` in the settings"
                    .to_owned();
            return Err(Failure::NotFenced {
                node: from.to_string(),
                why,
            });
        }
    }
    let mut steps = vec![
        Step::Fence {
            node: from.clone(),
            by,
        },
        Step::CatchUp { node: name.clone() },
        Step::TakeLease {
            node: name.clone(),
            epoch,
        },
        Step::Promote {
            node: name.clone(),
            timeline: record.highest_timeline.next(),
        },
    ];
    steps.extend(
        Records::wanted(settings, target)
            .into_iter()
            .map(|(name, target)| Step::PointRecord {
                name,
                target,
                epoch,
            }),
    );
    if settings.confirm.is_some() {
        let host = settings
            .dns
            .as_ref()
            .map_or_else(|| target.address.clone(), |it| it.writer.clone());
        steps.push(Step::ConfirmWrite { host });
    }
    Ok(Plan {
        to: name,
        from,
        planned: record.epoch,
        loss,
        steps,
    })
}

/// Checks that a node can be promoted without losing what another one has.
fn promotable<'a>(
    cluster: &'a Cluster<'_>,
    name: &NodeId,
    record: &LeaseRecord,
) -> Result<&'a NodeStatus, Failure> {
    let not_promotable = |why: String| Failure::NotPromotable {
        node: name.to_string(),
        why,
    };
    let Some(status) = cluster.status(name) else {
        return Err(not_promotable(cluster.why_unknown(name)));
    };
    let Some(own) = status.progress else {
        return Err(not_promotable(format!(
            "it is {}, and not a consistent standby",
            status.role
        )));
    };
    if let Some(last) = record.position
        && own.timeline != last.timeline
    {
        let why = format!(
            "it is on timeline {}, and the last primary wrote on {}",
            own.timeline, last.timeline
        );
        return Err(not_promotable(why));
    }
    let better = cluster.statuses().find(|it| {
        let there = it.progress.filter(|it| it.timeline == own.timeline);
        there.is_some_and(|it| it.received > own.received)
    });
    if let Some(better) = better {
        let received = better.progress.map(|it| it.received).unwrap_or_default();
        let why = format!(
            "it is behind: `{}` has {} bytes more of the log, so promote that one, or stop it first",
            better.node,
            received.bytes_since(own.received)
        );
        return Err(not_promotable(why));
    }
    Ok(status)
}

fn show(plan: &Plan, json: bool) -> Result<(), Failure> {
    let text = if json {
        serde_json::to_string_pretty(plan).map_err(anyhow::Error::from)?
    } else {
        plan.to_string()
    };
    output::data(&text);
    Ok(())
}

/// Has the loss accepted by name, or the whole plan by a person.
fn accept(plan: &Plan, asked: &Promote) -> Result<Vec<String>, Failure> {
    let bytes = plan.loss.map_or(0, |it| it.bytes_at_most);
    let mut accepted = Vec::new();
    if asked.unfenced {
        accepted.push(
            "--unfenced: nothing proves that the old primary accepts no more writes".to_owned(),
        );
    }
    match asked.accept_loss {
        Some(limit) if bytes > limit => {
            return Err(Failure::WouldLose {
                bytes,
                accepted: limit,
            });
        }
        Some(limit) => accepted.push(format!("--accept-loss {limit}")),
        None if asked.yes && bytes > 0 => {
            return Err(Failure::WouldLose { bytes, accepted: 0 });
        }
        None => {}
    }
    if asked.yes {
        return Ok(accepted);
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::NotConfirmed);
    }
    output::say("carry it out, with the loss as stated? (yes/no)");
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(anyhow::Error::from)?;
    if line.trim() != "yes" {
        return Err(Failure::NotConfirmed);
    }
    accepted.push(format!(
        "a person answered yes to a loss of at most {bytes} bytes"
    ));
    Ok(accepted)
}
