//! A cluster's life: its lease is moved, its database is upgraded, all of it is restored from a backup.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use causeway_runtime::shutdown::Tasks;
use serde_json::Value;

use super::SCENARIO_TIMEOUT;
use super::primary;
use super::restore::superuser;
use crate::cluster::node::Node;
use crate::cluster::postgres::{bin_directory, give_to_postgres, restrict, write};
use crate::cluster::program::{Program, RunAs};
use crate::cluster::settings;
use crate::cluster::topology::{LEASE_BUCKET, NodeSpec, Topology};
use crate::fault::{Fault, NodeSelector};
use crate::scenarios::scenario_run::ScenarioRun;
use crate::wait;
use crate::workload::checker::{CheckResult, Expectation};

/// The bucket that the lease is moved to.
const NEW_BUCKET: &str = "causeway-lease-2";

/// How long PostgreSQL may take to end in order.
const GRACE: Duration = Duration::from_mins(1);

/// Waits until a node names a problem, and returns its detail.
///
/// # Errors
///
/// When it does not in time.
pub(super) async fn problem(node: &Node, kind: &str) -> anyhow::Result<String> {
    let what = format!("`{}` to name `{kind}`", node.spec.node);
    let found = wait::until(&what, SCENARIO_TIMEOUT, || async {
        let status = node.status().await.map_err(|it| format!("{it:#}"))?;
        problem_in(&status, kind).ok_or_else(|| status.to_string())
    });
    Ok(found.await?)
}

fn problem_in(status: &Value, kind: &str) -> Option<String> {
    let problems = status.pointer("/problems")?.as_array()?;
    let found = problems
        .iter()
        .find(|it| it.get("problem").is_some_and(|it| it == kind))?;
    Some(found.get("detail")?.as_str()?.to_owned())
}

/// Waits until a node no longer names a problem.
///
/// # Errors
///
/// When it still does after long.
pub(super) async fn no_problem(node: &Node, kind: &str) -> anyhow::Result<()> {
    let what = format!("`{}` to name `{kind}` no longer", node.spec.node);
    let gone = wait::until(&what, SCENARIO_TIMEOUT, || async {
        let status = node.status().await.map_err(|it| format!("{it:#}"))?;
        problem_in(&status, kind).map_or(Ok(()), Err)
    });
    Ok(gone.await?)
}

/// Returns a text of a node's status.
///
/// # Errors
///
/// When its agent does not answer, or has no such text.
pub(super) async fn field(node: &Node, pointer: &str) -> anyhow::Result<String> {
    let status = node.status().await?;
    let found = status.pointer(pointer).and_then(Value::as_str);
    Ok(found
        .with_context(|| format!("no `{pointer}` in {status}"))?
        .to_owned())
}

/// The lease is moved to another bucket while a node is stopped that still names the old one. It comes back,
/// and does nothing under the old lease.
///
/// # Errors
///
/// When a command does what it must not, or the story does not come to an end.
pub async fn lease_moved(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("lease_moved").await?;
    let holder = primary(run).await?;
    let topology = run.lab.topology();
    let left = run.lab.nodes().iter().find(|it| it.spec.node != holder);
    let left = left.context("there is no standby")?;
    let name = left.spec.node.clone();
    run.inject(&Fault::NodeLost(NodeSelector::node(&name)))
        .await?;
    make_bucket(topology)?;
    for node in run.lab.nodes().iter().filter(|it| it.spec.node != name) {
        change_settings(&node.spec, LEASE_BUCKET, NEW_BUCKET)?;
    }
    run.announce("every node but the one that is stopped is given another lease bucket");
    restart_agents(run, &[&name]).await?;

    let spec = topology.node_spec(&holder)?;
    refused(
        run,
        spec,
        &["init", "--holder", holder.as_str()],
        "or had one",
    )
    .await?;
    let replace = ["replace-lease", "--holder", holder.as_str(), "--yes"];
    let silent = format!("`{name}` does not answer");
    refused(run, spec, &replace, &silent).await?;
    let without = [&replace[..], &["--without", name.as_str()]].concat();
    on_node(run, spec, &without).await?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    let serving = run.serving_primary().await?;
    ensure!(
        serving.node == holder,
        "`{}` took the new lease",
        serving.node
    );

    run.announce(&format!("node {name} comes back, with the old bucket"));
    run.lab.heal().await?;
    problem(left, "lease-retired").await?;
    run.announce("it names the retired lease, and waits");
    change_settings(&left.spec, LEASE_BUCKET, NEW_BUCKET)?;
    run.inject(&Fault::AgentRestarted(NodeSelector::node(&name)))
        .await?;
    no_problem(left, "lease-retired").await?;
    run.wait_for_standbys().await?;
    run.finish(&start, expectation(0)).await
}

/// The store of the lease is lost, and the lease is made anew in another. Once the old store is back, its
/// lease is retired before anybody uses it.
///
/// # Errors
///
/// When a command does what it must not, or the story does not come to an end.
pub async fn lease_store_lost(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("lease_store_lost").await?;
    let holder = primary(run).await?;
    let topology = run.lab.topology();
    run.inject(&Fault::LeaseStoreDown).await?;
    // Another region's S3, which no node names for anything else.
    let other = topology.directory().join("s3").join(topology.dr.as_str());
    std::fs::create_dir_all(other.join(NEW_BUCKET))?;
    for node in run.lab.nodes() {
        let spec = &node.spec;
        let (from, to) = (
            spec.lease_store(),
            spec.backup_store(topology, &topology.dr),
        );
        change_settings(spec, LEASE_BUCKET, NEW_BUCKET)?;
        change_lease(spec, &topology.third.to_string(), "eu-south-2")?;
        change_lease(spec, &from.to_string(), &to.to_string())?;
    }
    run.announce("every node is given a bucket in another region");
    restart_agents(run, &[]).await?;
    let spec = topology.node_spec(&holder)?;
    let replace = ["replace-lease", "--holder", holder.as_str(), "--yes"];
    refused(run, spec, &replace, "so its lease cannot be retired").await?;
    let lost = [&replace[..], &["--old-store-lost"]].concat();
    wait::until("every deadline to be over", SCENARIO_TIMEOUT, || async {
        on_node(run, spec, &lost)
            .await
            .map_err(|it| format!("{it:#}"))
    })
    .await?;
    let done_at = run.history().now();
    run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
        .await?;
    let new_holder = run.lab.node(&holder)?;
    problem(new_holder, "old-lease-not-retired").await?;
    run.announce("the old store comes back");
    run.lab.heal().await?;
    for node in run.lab.nodes() {
        no_problem(node, "old-lease-not-retired").await?;
    }
    let old = topology
        .directory()
        .join("s3")
        .join(topology.third.as_str());
    let old = old
        .join(LEASE_BUCKET)
        .join("clusters")
        .join(settings::CLUSTER)
        .join("lease");
    let old: Value = serde_json::from_str(&std::fs::read_to_string(old)?)?;
    let now = old.get("state").and_then(Value::as_str);
    ensure!(now == Some("retired"), "the old lease stands: {old}");
    run.wait_for_standbys().await?;
    run.finish(&start, expectation(0)).await
}

/// The database gets another system identifier by `pg_upgrade`: the lease is renewed for it, and the
/// standbys copy it.
///
/// # Errors
///
/// When a step fails or the story does not come to an end.
pub async fn database_upgraded(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let holder = primary(run).await?;
    renew_tables(run, run.lab.topology().node_spec(&holder)?).await?;
    let start = run.begin("database_upgraded").await?;
    let upgraded = run.lab.node(&holder)?;
    let standbys = || run.lab.nodes().iter().filter(|it| it.spec.node != holder);
    run.announce("every node is stopped in order");
    for node in standbys() {
        node.agent.stop(GRACE).await?;
        node.guard.stop(GRACE).await?;
    }
    upgraded.agent.stop(GRACE).await?;
    upgraded.guard.stop(GRACE).await?;
    pg_upgrade(run, &upgraded.spec).await?;
    run.announce("the database was upgraded, and has another system identifier");

    let spec = &upgraded.spec;
    let mut replace = vec!["replace-lease", "--holder", holder.as_str(), "--yes"];
    refused(run, spec, &replace, "does not answer").await?;
    for node in standbys() {
        replace.extend(["--without", node.spec.node.as_str()]);
    }
    on_node(run, spec, &replace).await?;
    upgraded.start();
    let started_at = run.history().now();
    run.wait_for_acknowledged_rows(started_at, SCENARIO_TIMEOUT)
        .await?;

    // A standby that is started as it was changes nothing, and says why.
    let mut others = standbys();
    let outdated = others.next().context("there is no standby")?;
    outdated.guard.start();
    outdated.agent.start();
    wait::until(
        "the outdated standby to refuse",
        SCENARIO_TIMEOUT,
        || async {
            let log = std::fs::read_to_string(outdated.agent.log()).unwrap_or_default();
            let said = log.contains("system identifier");
            said.then_some(())
                .ok_or_else(|| "it has not yet".to_owned())
        },
    )
    .await?;
    outdated.agent.stop(GRACE).await?;
    outdated.guard.stop(GRACE).await?;
    ensure!(
        outdated.spec.data().join("PG_VERSION").exists(),
        "its directory was changed"
    );
    for node in standbys() {
        empty(&node.spec)?;
        node.start();
    }
    run.wait_for_standbys().await?;
    run.finish(&start, expectation(0)).await
}

/// Every host is lost, and the cluster is restored from its backup on new ones of the same names. It was
/// stopped in order before, so that the archive has everything.
///
/// # Errors
///
/// When a step fails or the story does not come to an end.
pub async fn cluster_restored(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    super::base_backup(run).await?;
    let start = run.begin("cluster_restored").await?;
    let holder = primary(run).await?;
    let restored = run.lab.node(&holder)?;
    let others = || run.lab.nodes().iter().filter(|it| it.spec.node != holder);
    for node in others().chain([restored]) {
        node.agent.stop(GRACE).await?;
        node.guard.stop(GRACE).await?;
    }
    run.announce("every node is stopped in order, and then every disk is lost");
    for node in run.lab.nodes() {
        empty(&node.spec)?;
        write(&node.spec.host_id(), &format!("i-new-{}", node.spec.node))?;
    }
    // One host still has what its agent remembered.
    let mut hosts = others();
    let forgetful = hosts.next().context("there is no standby")?;
    std::fs::remove_file(forgetful.spec.state().join("highest.json"))?;

    restore(run, &restored.spec).await?;
    let spec = &restored.spec;
    let mut replace = vec!["replace-lease", "--holder", holder.as_str(), "--yes"];
    for node in others() {
        replace.extend(["--without", node.spec.node.as_str()]);
    }
    refused(run, spec, &replace, "--restored").await?;
    replace.push("--restored");
    on_node(run, spec, &replace).await?;
    let started_at = run.history().now();
    restored.start();
    run.wait_for_acknowledged_rows(started_at, SCENARIO_TIMEOUT)
        .await?;
    for node in others() {
        node.start();
    }
    run.wait_for_standbys().await?;
    run.finish(&start, expectation(0)).await
}

async fn restore(run: &ScenarioRun<'_>, spec: &NodeSpec) -> anyhow::Result<()> {
    let topology = run.lab.topology();
    let path = topology.directory().join("restore-all.toml");
    write(
        &path,
        &settings::for_restore(topology, spec, run.lab.backup_keys())?,
    )?;
    let target = spec.data().display().to_string();
    let arguments = [
        "restore",
        "--standby",
        "--archive-mode",
        "preserve",
        "--target-directory",
        &target,
    ];
    run.announce(&format!("the newest backup is restored on {}", spec.node));
    let restore = run.lab.programs().backup_agent(&path, &arguments);
    restore.run(None, SCENARIO_TIMEOUT).await?;
    Ok(())
}

fn expectation(rows_lost: u64) -> Expectation {
    Expectation {
        downtime: 2 * SCENARIO_TIMEOUT,
        rows_lost,
    }
}

/// Runs a command on a node's host.
async fn on_node(
    run: &ScenarioRun<'_>,
    spec: &NodeSpec,
    arguments: &[&str],
) -> anyhow::Result<String> {
    run.announce(&format!(
        "on {}: `failover-ctl {}`",
        spec.node,
        arguments.join(" ")
    ));
    let command = run.lab.programs().failover_ctl_on(spec, arguments);
    command.run(None, SCENARIO_TIMEOUT).await
}

/// Runs a command that must be refused, for this reason.
async fn refused(
    run: &ScenarioRun<'_>,
    spec: &NodeSpec,
    arguments: &[&str],
    why: &str,
) -> anyhow::Result<()> {
    match on_node(run, spec, arguments).await {
        Ok(said) => anyhow::bail!("`{}` was carried out: {said}", arguments.join(" ")),
        Err(error) => {
            let error = format!("{error:#}");
            ensure!(
                error.contains(why),
                "it was refused for another reason: {error}"
            );
            Ok(())
        }
    }
}

async fn restart_agents(
    run: &ScenarioRun<'_>,
    but: &[&causeway_core::NodeId],
) -> anyhow::Result<()> {
    for node in run.lab.nodes() {
        if !but.contains(&&node.spec.node) {
            let restarted = Fault::AgentRestarted(NodeSelector::node(&node.spec.node));
            run.inject(&restarted).await?;
        }
    }
    for node in run.lab.nodes() {
        if but.contains(&&node.spec.node) {
            continue;
        }
        let what = format!("the agent of `{}` to use the new bucket", node.spec.node);
        wait::until(&what, SCENARIO_TIMEOUT, || async {
            let bucket = field(node, "/lease_store/bucket").await;
            match bucket.map_err(|it| format!("{it:#}"))? {
                bucket if bucket == NEW_BUCKET => Ok(()),
                bucket => Err(bucket),
            }
        })
        .await?;
    }
    Ok(())
}

fn make_bucket(topology: &Topology) -> anyhow::Result<()> {
    let third = topology
        .directory()
        .join("s3")
        .join(topology.third.as_str());
    Ok(std::fs::create_dir_all(third.join(NEW_BUCKET))?)
}

/// Puts one quoted value in the place of another in a node's settings.
fn change_settings(spec: &NodeSpec, from: &str, to: &str) -> anyhow::Result<()> {
    let path = settings::failover_ctl(spec);
    let text = std::fs::read_to_string(&path)?;
    let changed = text.replace(&format!("\"{from}\""), &format!("\"{to}\""));
    ensure!(changed != text, "`{from}` is not in `{}`", path.display());
    write(&path, &changed)
}

/// Puts one text in the place of another in a node's `[lease]` alone.
fn change_lease(spec: &NodeSpec, from: &str, to: &str) -> anyhow::Result<()> {
    let path = settings::failover_ctl(spec);
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) = text.split_once("[lease]\n").context("no `[lease]`")?;
    let (lease, after) = rest.split_once("\n[").context("nothing after `[lease]`")?;
    let changed = lease.replace(from, to);
    ensure!(
        changed != lease,
        "`{from}` is not in `[lease]` of `{}`",
        path.display()
    );
    write(&path, &format!("{before}[lease]\n{changed}\n[{after}"))
}

/// Makes a data directory that holds nothing.
fn empty(spec: &NodeSpec) -> anyhow::Result<()> {
    std::fs::remove_dir_all(spec.data())?;
    std::fs::create_dir(spec.data())?;
    give_to_postgres(&spec.data())?;
    restrict(&spec.data(), 0o700)
}

/// Makes the tables of the lab's clients anew. They were made in single-user mode, where PostgreSQL gives out
/// the numbers of its own objects, which `pg_upgrade` does not bring along.
async fn renew_tables(run: &ScenarioRun<'_>, spec: &NodeSpec) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let port = spec.postgres().port();
    let client = superuser(&spec.sockets(), port, "app", &tasks).await?;
    for table in ["ledger", "lab_probe"] {
        let statements = format!(
            "begin; lock table {table};
             create table renewed (like {table} including all);
             insert into renewed select * from {table};
             drop table {table}; alter table renewed rename to {table}; alter table {table} owner to app; commit"
        );
        client.batch_execute(&statements).await?;
    }
    tasks.stop(Duration::from_secs(2)).await;
    run.announce("the tables are made anew, as a server would have made them");
    Ok(())
}

/// Upgrades a database whose server has ended, to the same release: what matters here is the new system
/// identifier.
async fn pg_upgrade(run: &ScenarioRun<'_>, spec: &NodeSpec) -> anyhow::Result<()> {
    let bin = bin_directory()?;
    let work = spec.directory.join("upgrade");
    std::fs::create_dir_all(&work)?;
    give_to_postgres(&work)?;
    let (bin, work_at) = (bin.display(), work.display());
    let data = spec.data();
    let data = data.display();
    // The old server is started without guard, and so without the settings that include guard's file.
    write(
        &work.join("old.conf"),
        &format!(
            "listen_addresses = ''\nunix_socket_directories = '{work_at}'\nhba_file = '{work_at}/hba'\n\
             ident_file = '{work_at}/ident'\nmax_connections = 100\nmax_wal_senders = 10\n"
        ),
    )?;
    write(&work.join("hba"), "local all all trust\n")?;
    write(&work.join("ident"), "")?;
    let script = format!(
        "set -e; cd {work_at}; rm -f {data}/standby.signal
         {bin}/initdb --pgdata new --username=postgres --data-checksums --auth=trust --encoding=UTF8 --locale=C.UTF-8
         {bin}/pg_upgrade -U postgres -b {bin} -B {bin} -d {data} -D {work_at}/new --link -o '-c config_file={work_at}/old.conf'
         mv {data} old; mv new {data}"
    );
    let upgrade = Program {
        name: format!("pg_upgrade-{}", spec.node),
        executable: Path::new("/bin/sh").to_owned(),
        arguments: vec!["-c".into(), script.into()],
        environment: std::collections::BTreeMap::new(),
        run_as: RunAs::Postgres,
        stdin: None,
        log: run.lab.topology().logs().join("pg_upgrade.log"),
    };
    upgrade.run(None, SCENARIO_TIMEOUT).await?;
    Ok(())
}
