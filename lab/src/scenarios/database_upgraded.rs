//! `pg_upgrade` gives the database another system identifier.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use causeway_runtime::shutdown::Tasks;

use super::node_commands::{
    GRACE, clear_data_directory, downtime_of_two_timeouts, expect_refusal, run_on_node,
};
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::superuser::connect;
use crate::cluster::files::{give_to_postgres, write};
use crate::cluster::postgres::bin_directory;
use crate::cluster::program::{Program, RunAs};
use crate::cluster::topology::NodeSpec;
use crate::wait;
use crate::workload::checker::CheckResult;

/// `pg_upgrade` gives the database another system identifier: the lease is replaced for it, and the
/// standbys are copied from it.
///
/// # Errors
///
/// When a step fails, or the scenario cannot be completed.
pub async fn database_upgraded(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let holder = run.primary().await?;
    recreate_tables(run, run.lab.topology().node_spec(&holder)?).await?;
    let start = run.begin("database_upgraded").await?;
    let upgraded = run.lab.node(&holder)?;
    let standbys = || {
        run.lab
            .nodes()
            .iter()
            .filter(|node| node.spec.node != holder)
    };
    run.announce("every node is shut down cleanly");
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
    expect_refusal(run, spec, &replace, "does not answer").await?;
    for node in standbys() {
        replace.extend(["--without", node.spec.node.as_str()]);
    }
    run_on_node(run, spec, &replace).await?;
    upgraded.start();
    let started_at = run.history().now();
    run.wait_for_acknowledged_rows(started_at, SCENARIO_TIMEOUT)
        .await?;

    // A standby with the old data directory changes nothing, and logs the reason.
    let mut others = standbys();
    let outdated = others.next().context("no standby")?;
    outdated.guard.start();
    outdated.agent.start();
    wait::until(
        "the outdated standby to refuse",
        SCENARIO_TIMEOUT,
        || async {
            let log = std::fs::read_to_string(outdated.agent.log())
                .map_err(|error| format!("log not readable: {error}"))?;
            log.contains("system identifier")
                .then_some(())
                .ok_or_else(|| "its log names no system identifier".to_owned())
        },
    )
    .await?;
    outdated.agent.stop(GRACE).await?;
    outdated.guard.stop(GRACE).await?;
    ensure!(
        outdated.spec.data().join("PG_VERSION").exists(),
        "the data directory was changed"
    );
    for node in standbys() {
        clear_data_directory(&node.spec)?;
        node.start();
    }
    run.wait_for_standbys().await?;
    run.finish(&start, downtime_of_two_timeouts(0)).await
}

/// Recreates the tables of the lab's clients. Single-user mode assigned them object IDs of
/// PostgreSQL's own range, which `pg_upgrade` does not keep.
async fn recreate_tables(run: &ScenarioRun<'_>, spec: &NodeSpec) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let port = spec.postgres().port();
    let client = connect(&spec.sockets(), port, "app", &tasks).await?;
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
    run.announce("the tables are recreated");
    Ok(())
}

/// Upgrades a stopped database to the same release, for a new system identifier.
async fn pg_upgrade(run: &ScenarioRun<'_>, spec: &NodeSpec) -> anyhow::Result<()> {
    let bin = bin_directory()?;
    let work = spec.directory.join("upgrade");
    std::fs::create_dir_all(&work)?;
    give_to_postgres(&work)?;
    let (bin, work_at) = (bin.display(), work.display());
    let data = spec.data();
    let data = data.display();
    // The old server is started without guard, and so without the included settings of guard.
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
        executable: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: std::collections::BTreeMap::new(),
        run_as: RunAs::Postgres,
        stdin: None,
        log: run.lab.topology().logs().join("pg_upgrade.log"),
    };
    upgrade.run(None, SCENARIO_TIMEOUT).await?;
    Ok(())
}
