//! `failover-ctl replace-lease`: replaces a lease, and retires the old one, so that its holder cannot continue.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _};

use causeway_core::failover::replacement::{
    self, LeaseReplacement, NodeFacts, OperatorAssertions, ReplacementEvidence, StoreFacts,
};
use causeway_core::guard::PostgresProcess;
use causeway_core::lease::{
    LeaseRecord, LeaseState, LeaseStoreId, NonceGenerator, WritePrecondition,
};
use causeway_core::{Epoch, Lsn, Timeline};
use causeway_runtime::clock;
use tokio::time;

use crate::cli;
use crate::clients::agents::{AgentClient, StatusError};
use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::clients::route53::DnsRecords;
use crate::config::{HostSettings, Settings};
use crate::data_directory::wal::position;
use crate::data_directory::{self, ControlFile};
use crate::error::Error;
use crate::highest_record;
use crate::operator::init::database_of;
use crate::output;
use crate::protocol::node_status::{HighestRecord, NodeRole, NodeStatus};

/// Number of attempts to replace a record that its holder renews meanwhile.
const MAX_ATTEMPTS: u32 = 10;

/// Prints the plan, and changes nothing.
pub(crate) async fn plan(settings: &Settings, asked: &cli::ReplaceLeaseArgs) -> Result<(), Error> {
    let (host, control) = database_of(settings, &asked.holder)?;
    let plan = make_plan(settings, host, &control, asked).await?;
    output::print_data(&describe_plan(settings, &plan));
    Ok(())
}

/// Replaces the lease.
pub(crate) async fn run(settings: &Settings, asked: &cli::ReplaceLeaseArgs) -> Result<(), Error> {
    let (host, control) = database_of(settings, &asked.holder)?;
    let store = LeaseStore::open(settings).await;
    store.probe(asked.holder.as_str()).await?;
    let plan = make_plan(settings, host, &control, asked).await?;
    output::print_progress(&describe_plan(settings, &plan));
    confirm(asked)?;

    let target = settings.lease.store_id();
    let mut nonces = NonceGenerator::new(rand::random());
    for old in &plan.retire {
        retire(settings, old, &target, &plan, &mut nonces).await?;
        output::print_progress(&format!("retired the lease in {old}"));
    }
    wait_for_lease_expiry(settings).await;
    let members = settings
        .nodes
        .iter()
        .map(|node| node.name.clone())
        .collect();
    let nonce = nonces.generate();
    let record = plan.record(
        &settings.cluster,
        control.system_id,
        &asked.holder,
        members,
        nonce,
    );
    // The present record is one that this command retired, or an earlier one that was interrupted.
    let condition = match store.version().await? {
        None => WritePrecondition::Missing,
        Some((etag, there)) if there.state == LeaseState::Retired && there.epoch < plan.epoch => {
            WritePrecondition::Match(etag)
        }
        Some((_, there)) => return Err(changed(&there)),
    };
    store.replace_lease(&record, &condition).await?;
    output::print_progress(&format!(
        "the lease is at epoch {}, released: `{}` takes it once its agent and guard run",
        record.epoch, asked.holder
    ));
    Ok(())
}

/// Gathers what is known, and decides.
async fn make_plan(
    settings: &Settings,
    host: &HostSettings,
    control: &ControlFile,
    asked: &cli::ReplaceLeaseArgs,
) -> Result<LeaseReplacement, Error> {
    let evidence = collect_evidence(settings, host, control).await?;
    let asserted = OperatorAssertions {
        without: asked.without.iter().cloned().collect(),
        store_lost: asked.old_store_lost,
        restored: asked.restored,
        highest_epoch: asked.highest_epoch.map(Epoch::new),
        highest_reserved_timeline: asked
            .highest_reserved_timeline
            .and_then(|number| Timeline::new(number.get())),
    };
    replacement::plan_replacement(&evidence, &asserted).map_err(|obstacles| {
        let lines: Vec<_> = obstacles
            .iter()
            .map(|obstacle| format!("\n  {obstacle}"))
            .collect();
        Error::LeaseNotReplaced(lines.concat())
    })
}

async fn collect_evidence(
    settings: &Settings,
    host: &HostSettings,
    control: &ControlFile,
) -> Result<ReplacementEvidence, Error> {
    let own = highest_record::read(&host.agent.state_directory)?;
    let target = settings.lease.store_id();
    let answers = AgentClient::new(settings).statuses(settings).await;
    let mut stores = vec![target.clone()];
    let mut note = |store: Option<&LeaseStoreId>| {
        if let Some(store) = store
            && !stores.iter().any(|listed| listed.is_same(store))
        {
            stores.push(store.clone());
        }
    };
    note(own.store.as_ref());
    let mut positions = Vec::new();
    let mut nodes = Vec::new();
    for (node, answer) in settings.nodes.iter().zip(answers) {
        let facts = match answer {
            Ok(status) => {
                note(status.highest.store.as_ref());
                note(status.lease_store.as_ref());
                if status.system_id == Some(control.system_id) && node.name != host.node.name {
                    let received = status
                        .progress
                        .map(|progress| (progress.timeline, progress.received_lsn));
                    positions.extend(received);
                }
                Some(node_facts(&status))
            }
            Err(StatusError::StatusMismatch(mismatch)) => {
                return Err(Error::LeaseNotReplaced(mismatch.to_string()));
            }
            Err(StatusError::Unresponsive(_)) if node.name == host.node.name => {
                Some(local_node_facts(settings, host, &own))
            }
            Err(StatusError::Unresponsive(_)) => None,
        };
        nodes.push((node.name.clone(), facts));
    }
    let mut found = Vec::new();
    for store in stores {
        let facts = read_store_facts(settings, &store).await?;
        if let StoreFacts::Holds(Some(record)) = &facts
            && record.system_id == control.system_id
        {
            positions.extend(
                record
                    .last_position
                    .map(|position| (position.timeline, position.flush_lsn)),
            );
        }
        found.push((store, facts));
    }
    let pg_wal = host.postgres.data_directory.join("pg_wal");
    let listed = position::highest_timeline(&pg_wal).map_err(anyhow::Error::from)?;
    let timeline = listed.max(control.timeline).unwrap_or(Timeline::FIRST);
    Ok(ReplacementEvidence {
        target,
        stores: found,
        nodes,
        timeline,
        dns: epoch_of_records(settings).await,
        system_id: control.system_id,
        holds_position: has_wal_up_to(host, &positions),
    })
}

/// Returns whether the WAL on this host reaches the highest of these positions.
fn has_wal_up_to(host: &HostSettings, positions: &[(Timeline, Lsn)]) -> bool {
    let pg_wal = host.postgres.data_directory.join("pg_wal");
    positions
        .iter()
        .max()
        .is_none_or(|(timeline, lsn)| position::contains_wal_up_to(&pg_wal, *timeline, *lsn))
}

fn node_facts(status: &NodeStatus) -> NodeFacts {
    let may_write = matches!(status.role, NodeRole::Primary | NodeRole::Promoting)
        || status.server == Some(PostgresProcess::MayWrite)
        || status.guard.remaining_secs > 0.0;
    let timelines = [
        status.highest.timeline,
        status.wal_position.map(|position| position.timeline),
        status.progress.map(|progress| progress.timeline),
        status
            .lease
            .as_ref()
            .map(|lease| lease.record.highest_reserved_timeline),
    ];
    NodeFacts {
        store: status.lease_store.clone(),
        may_write,
        highest: status.highest.epoch,
        timeline: timelines.into_iter().max().flatten(),
    }
}

/// Returns the facts in this host's files, for a host whose agent does not run: after an upgrade, the agent starts only
/// once the new database has a lease. It will start with these settings.
fn local_node_facts(settings: &Settings, host: &HostSettings, own: &HighestRecord) -> NodeFacts {
    NodeFacts {
        store: Some(settings.lease.store_id()),
        may_write: data_directory::postmaster(&host.postgres.data_directory).is_some(),
        highest: own.epoch,
        timeline: own.timeline,
    }
}

async fn read_store_facts(settings: &Settings, store: &LeaseStoreId) -> Result<StoreFacts, Error> {
    match LeaseStore::open_at(settings, store).await.lease().await {
        Ok(Some(record)) if record.cluster != settings.cluster => Err(Error::Foreign(
            causeway_core::lease::LeaseMismatch::Cluster {
                found: record.cluster,
                expected: settings.cluster.clone(),
            },
        )),
        Ok(record) => Ok(StoreFacts::Holds(record.map(Box::new))),
        Err(error @ LeaseStoreError::Unreadable(_)) => Err(error.into()),
        Err(error) => Ok(StoreFacts::Unresponsive(error.to_string())),
    }
}

/// Returns the highest epoch in the DNS records.
async fn epoch_of_records(settings: &Settings) -> Result<Option<Epoch>, String> {
    let (Some(dns), Some(node)) = (&settings.dns, settings.nodes.first()) else {
        return Ok(None);
    };
    let records = DnsRecords::open(dns).await;
    let mut highest = None;
    for (name, _) in DnsRecords::wanted_records(settings, node) {
        let found = records.epoch_of(&name).await;
        highest = highest.max(found.map_err(|error| format!("{error:#}"))?);
    }
    Ok(highest)
}

/// Stores a retired record in a store, also while a node renews the old lease.
async fn retire(
    settings: &Settings,
    old: &LeaseStoreId,
    target: &LeaseStoreId,
    plan: &LeaseReplacement,
    nonces: &mut NonceGenerator,
) -> Result<(), Error> {
    let store = LeaseStore::open_at(settings, old).await;
    for _ in 0..MAX_ATTEMPTS {
        let Some((etag, there)) = store.version().await? else {
            return Ok(());
        };
        if there.state == LeaseState::Retired {
            return Ok(());
        }
        let retired = there.retired(target, nonces.generate());
        if retired.epoch >= plan.epoch {
            return Err(changed(&there));
        }
        match store
            .replace_lease(&retired, &WritePrecondition::Match(etag))
            .await
        {
            Err(LeaseStoreError::Conflict(_)) => {}
            other => return Ok(other?),
        }
    }
    Err(Error::LeaseNotReplaced(format!(
        "the lease in {old} was written by its holder at each of {MAX_ATTEMPTS} tries: run the command again"
    )))
}

fn changed(there: &LeaseRecord) -> Error {
    Error::LeaseNotReplaced(format!(
        "it was taken meanwhile, by `{}` at epoch {}: run the command again",
        there.holder.node, there.epoch
    ))
}

/// Waits until the holder of the old lease has ended PostgreSQL by its own deadline, whatever it could reach.
async fn wait_for_lease_expiry(settings: &Settings) {
    let term = settings.timing.lease_duration;
    output::print_progress(&format!(
        "waiting for {:.0} s, in which a holder of the old lease stops",
        term.as_secs_f64()
    ));
    let since = clock::now();
    loop {
        let stood = clock::now().elapsed_lower_bound(since);
        if stood >= term {
            return;
        }
        time::sleep(term.saturating_sub(stood)).await;
    }
}

fn describe_plan(settings: &Settings, plan: &LeaseReplacement) -> String {
    let mut lines = vec![format!(
        "a new lease in {}, at epoch {}; timelines up to {} are not used again",
        settings.lease.store_id(),
        plan.epoch,
        plan.highest_reserved_timeline
    )];
    let mut stores = BTreeMap::new();
    for store in &plan.retire {
        stores.insert(store, "is retired first: its holder is deposed");
    }
    if let Some(store) = &plan.unretired {
        stores.insert(
            store,
            "is NOT retired; the new holder retires it as soon as it answers",
        );
    }
    lines.extend(
        stores
            .iter()
            .map(|(store, what)| format!("the lease in {store} {what}")),
    );
    lines.extend(plan.risks.iter().map(|risk| format!("risk: {risk}")));
    lines.join("\n")
}

fn confirm(asked: &cli::ReplaceLeaseArgs) -> Result<(), Error> {
    if asked.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Error::NotConfirmed);
    }
    output::print_progress("replace the lease, with the risks as stated? (yes/no)");
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(anyhow::Error::from)?;
    if line.trim() == "yes" {
        return Ok(());
    }
    Err(Error::NotConfirmed)
}
