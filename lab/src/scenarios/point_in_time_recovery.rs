//! A table is dropped by mistake and recovered with point-in-time recovery.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_core::Region;
use causeway_runtime::shutdown::Tasks;
use jiff::Timestamp;
use tokio_postgres::Client;

use super::bounds::no_downtime_bound;
use super::scenario_run::{SCENARIO_TIMEOUT, ScenarioRun};
use super::superuser::connect;
use crate::cluster::files::{give_to_postgres, restrict, write};
use crate::cluster::postgres::bin_directory;
use crate::cluster::process::{Process, RestartPolicy};
use crate::cluster::program::{Program, RunAs};
use crate::cluster::settings;
use crate::cluster::topology::{NodeSpec, POSTGRES_PORT};
use crate::wait;
use crate::workload::checker::CheckResult;

/// Number of rows in the dropped table.
const ROWS: i64 = 1_000;

/// Content of each row, which must not be readable in the buckets.
pub const PLAINTEXT: &str = "nobody without the identity key may read this";

/// Takes a base backup of the primary into both buckets.
///
/// # Errors
///
/// When it fails.
pub async fn base_backup(run: &ScenarioRun<'_>) -> anyhow::Result<()> {
    let node = run.primary().await?;
    let spec = run.lab.topology().node_spec(&node)?;
    run.announce(&format!(
        "base backup of node {node} into the buckets of both regions"
    ));
    let backup = run.lab.programs().backup_agent_on(spec, &["backup"]);
    backup.run(None, SCENARIO_TIMEOUT).await?;
    Ok(())
}

/// A table is dropped, and a copy of the database is recovered from the other region's bucket to
/// the time before: the table and every row acknowledged until then are present.
///
/// # Errors
///
/// When the restore fails, or the scenario cannot be completed.
pub async fn point_in_time_recovery(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("point_in_time_recovery").await?;
    let tasks = Tasks::new();
    let before = run.serving_primary().await?;
    let spec = run.lab.topology().node_spec(&before.node)?.clone();
    let here = connect(&spec.sockets(), POSTGRES_PORT, "app", &tasks).await?;
    let fill = format!(
        "create table precious as select n, '{PLAINTEXT}'::text as note from generate_series(1, {ROWS}) as n"
    );
    here.batch_execute(&fill).await?;
    let ledger = rows(&here, "ledger").await?;
    let moment: String = here
        .query_one("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')", &[])
        .await?
        .get(0);
    let moment: Timestamp = moment.parse()?;
    // The next commit then has a later timestamp than the target, not the same microsecond.
    run.run_until(run.history().now() + Duration::from_millis(10))
        .await;
    here.batch_execute("drop table precious").await?;
    run.announce("the table `precious` is dropped");
    wait_until_archived(&here, run).await?;
    // A bucket that was unreachable may lack objects of the other.
    let backfill = ["wal", "backfill"];
    let backfill = run.lab.programs().backup_agent_on(&spec, &backfill);
    backfill.run(None, SCENARIO_TIMEOUT).await?;

    let from = other_region(run, &spec);
    let target = run.lab.topology().directory().join("restored");
    run.announce(&format!(
        "a copy of the database is restored from the bucket in {from} to {moment}"
    ));
    restore(run, &spec, &target, &from, moment).await?;
    let restored = Restored::start(run, target, &tasks).await?;
    let found = restored.client(&tasks).await?;
    let precious = rows(&found, "precious").await?;
    let in_ledger = rows(&found, "ledger").await?;
    restored.server.kill().await?;
    tasks.stop(Duration::from_secs(2)).await;
    run.announce(&format!(
        "the copy has {precious} of {ROWS} rows of `precious`"
    ));

    let after = run.serving_primary().await?;
    let mut result = run.finish(&start, no_downtime_bound()).await?;
    result.require_same_server(&before, &after);
    result.failures.extend(find_readable_files(run, &spec)?);
    if precious != ROWS {
        result.failures.push(format!(
            "`precious` came back with {precious} of {ROWS} rows"
        ));
    }
    if in_ledger < ledger {
        let lost = ledger - in_ledger;
        result.failures.push(format!(
            "{lost} rows acknowledged before the target time are missing"
        ));
        result.rows_lost += usize::try_from(lost)?;
    }
    result.passed = result.failures.is_empty();
    Ok(result)
}

/// Searches every object of both backup buckets for the dropped table's plaintext, and returns each
/// finding. The archived WAL must contain it, or the search would prove nothing.
fn find_readable_files(run: &ScenarioRun<'_>, spec: &NodeSpec) -> anyhow::Result<Vec<String>> {
    if holding(&spec.data().join("pg_wal"), PLAINTEXT)?.is_empty() {
        return Ok(vec![
            "pg_wal does not contain the plaintext that is searched".to_owned(),
        ]);
    }
    let buckets = run.lab.topology().directory().join("s3");
    let found = holding(&buckets, PLAINTEXT)?;
    let wrong = |path: &PathBuf| format!("`{}` can be read without the key", path.display());
    Ok(found.iter().map(wrong).collect())
}

/// Returns the files below `directory` that contain `text`.
fn holding(directory: &Path, text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(holding(&path, text)?);
            continue;
        }
        if String::from_utf8_lossy(&std::fs::read(&path)?).contains(text) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Waits until all WAL so far is archived.
async fn wait_until_archived(primary: &Client, run: &ScenarioRun<'_>) -> anyhow::Result<()> {
    let switch = "select pg_walfile_name(pg_switch_wal())";
    let segment: String = primary.query_one(switch, &[]).await?.get(0);
    run.announce_wait(
        &format!("segment {segment} to be archived"),
        SCENARIO_TIMEOUT,
    );
    wait::until("the segment to be archived", SCENARIO_TIMEOUT, || async {
        let last = "select coalesce(last_archived_wal, ''), coalesce(last_failed_wal, '') from pg_stat_archiver";
        let row = primary.query_one(last, &[]).await.map_err(|error| error.to_string())?;
        let (last, failed): (String, String) = (row.get(0), row.get(1));
        // Segment names of one timeline sort by position; a history file has a shorter name.
        if last.len() >= segment.len() && last >= segment {
            return Ok(());
        }
        Err(format!("archived up to `{last}`, last failure at `{failed}`"))
    })
    .await?;
    Ok(())
}

fn other_region(run: &ScenarioRun<'_>, spec: &NodeSpec) -> Region {
    let topology = run.lab.topology();
    if spec.region == topology.primary {
        return topology.dr.clone();
    }
    topology.primary.clone()
}

async fn restore(
    run: &ScenarioRun<'_>,
    spec: &NodeSpec,
    target: &Path,
    from: &Region,
    moment: Timestamp,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(target)?;
    give_to_postgres(target)?;
    restrict(target, 0o700)?;
    let settings = run.lab.topology().directory().join("restore.toml");
    let both = settings::for_restore(run.lab.topology(), spec, run.lab.backup_keys())?;
    write(&settings, &both)?;
    let (target, moment) = (target.display().to_string(), moment.to_string());
    let arguments = [
        "restore",
        "--target-directory",
        &target,
        "--target-time",
        &moment,
        "--target-action",
        "promote",
        "--from",
        from.as_str(),
    ];
    let restore = run.lab.programs().backup_agent(&settings, &arguments);
    restore.run(None, SCENARIO_TIMEOUT).await?;
    Ok(())
}

/// Server on restored files, apart from the platform.
struct Restored {
    server: Process,
    directory: PathBuf,
}

impl Restored {
    async fn start(
        run: &ScenarioRun<'_>,
        directory: PathBuf,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let topology = run.lab.topology();
        let settings = topology.directory().join("restored.conf");
        let text = format!(
            "listen_addresses = ''\nport = {POSTGRES_PORT}\nunix_socket_directories = '{0}'\n\
             hba_file = '{1}/pg_hba.conf'\nident_file = '{1}/pg_ident.conf'\nhot_standby = on\n\
             max_connections = 100\nmax_wal_senders = 10\n",
            directory.display(),
            topology
                .nodes
                .first()
                .context("a lab without nodes")?
                .settings()
                .display(),
        );
        write(&settings, &text)?;
        let config = format!("config_file={}", settings.display());
        let program = Program {
            name: "restored".to_owned(),
            executable: bin_directory()?.join("postgres"),
            arguments: vec![
                "-D".into(),
                directory.clone().into(),
                "-c".into(),
                config.into(),
            ],
            environment: run.lab.programs().environment(),
            run_as: RunAs::Postgres,
            stdin: None,
            log: topology.logs().join("restored.log"),
        };
        let server = Process::new(program, RestartPolicy::Never, tasks);
        server.start();
        let restored = Self { server, directory };
        run.announce_wait(
            "the copy to replay WAL up to the target time",
            SCENARIO_TIMEOUT,
        );
        wait::until("the copy to accept writes", SCENARIO_TIMEOUT, || async {
            match restored.is_open(tasks).await {
                Ok(()) => Ok(()),
                Err(error) => Err(format!("{error:#}; its log: {}", restored.server.log_end())),
            }
        })
        .await?;
        Ok(restored)
    }

    async fn is_open(&self, tasks: &Tasks) -> anyhow::Result<()> {
        let client = self.client(tasks).await?;
        let row = client.query_one("select pg_is_in_recovery()", &[]).await?;
        if row.get(0) {
            bail!("it is replaying");
        }
        Ok(())
    }

    async fn client(&self, tasks: &Tasks) -> anyhow::Result<Client> {
        connect(&self.directory, POSTGRES_PORT, "app", tasks).await
    }
}

async fn rows(client: &Client, table: &str) -> anyhow::Result<i64> {
    let count = format!("select count(*) from {table}");
    Ok(client.query_one(&count, &[]).await?.get(0))
}
