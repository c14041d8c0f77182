//! Nodes that cannot follow as they are: what only they have is saved, and they come back by themselves.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use causeway_core::NodeId;
use serde_json::Value;

use super::{SCENARIO_TIMEOUT, primary};
use crate::cluster::node::Node;
use crate::cluster::postgres::bin_directory;
use crate::cluster::program::{Program, RunAs};
use crate::cluster::topology::POSTGRES_PORT;
use crate::fault::{Fault, NodeSelector};
use crate::scenarios::scenario_run::ScenarioRun;
use crate::wait;
use crate::workload::checker::{CheckResult, Expectation};

/// How long a cluster that is healed may take until every node follows.
const WHOLE_WITHIN: Duration = Duration::from_mins(2);

/// How long a reason may take to be named once it holds.
const NAMED_WITHIN: Duration = Duration::from_secs(30);

/// How long writes may stop: a lease (10 s) and a takeover, on a machine that is busy.
const WITHOUT_WRITES: Duration = Duration::from_secs(45);

/// A row that is acknowledged by the old primary alone.
const MARKER: &str = "acknowledged-and-diverged";

/// The old primary has rows that nobody else has, and cannot save them when it comes back: it waits, and
/// says so, and its directory stays as it is. Once it can, they are saved and it follows.
///
/// # Errors
///
/// When the story does not come to an end, or the rows are gone.
pub async fn diverged_wal_not_saved(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("diverged_wal_not_saved").await?;
    let old = primary(run).await?;
    isolate_others(run, &old).await?;
    let node = run.lab.node(&old)?;
    insert_marker(run, node).await?;
    let rows_lost = lose_and_state(run, &old).await?;
    run.wait_for_takeover(&old, SCENARIO_TIMEOUT).await?;

    let in_the_way = node.spec.state().join("diverged");
    std::fs::write(&in_the_way, "a file where a directory should be")?;
    run.announce("the state directory cannot take a copy");
    run.lab.heal().await?;
    named(node, "diverged-wal-not-saved").await?;
    ensure!(
        holds(&node.spec.data().join("pg_wal"), MARKER)?,
        "the row is gone from the directory although it was not saved"
    );
    std::fs::remove_file(&in_the_way)?;
    run.announce("the state directory can take a copy");
    whole(run).await?;
    ensure!(
        holds(&in_the_way, MARKER)?,
        "the row is not in what was saved"
    );
    run.finish(&start, expectation(rows_lost)).await
}

/// A standby is away until the primary has removed WAL that it needs: that is named, and the standby is
/// copied without a command.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn standby_away_too_long(run: &mut ScenarioRun<'_>) -> anyhow::Result<CheckResult> {
    let start = run.begin("standby_away_too_long").await?;
    let here = primary(run).await?;
    let away = run
        .lab
        .nodes()
        .iter()
        .find(|it| it.spec.node != here && it.spec.region == run.lab.topology().primary);
    let away = away.context("the primary region has no standby")?;
    let name = away.spec.node.clone();
    run.inject(&Fault::NodeLost(NodeSelector::node(&name)))
        .await?;
    let node = run.lab.node(&here)?;
    // With less to keep, fewer segments do.
    let keep = "alter system set wal_keep_size = 0; select pg_reload_conf()";
    superuser(run, node, &keep.split("; ").collect::<Vec<_>>()).await?;
    let needed = superuser(run, node, &["select pg_walfile_name(pg_current_wal_lsn())"]);
    let needed = node.spec.data().join("pg_wal").join(needed.await?.trim());
    // It stays until it is archived, and a checkpoint after that has seen it.
    wait::until("the primary to remove WAL", SCENARIO_TIMEOUT, || async {
        let switch = superuser(run, node, &["select pg_switch_wal()", "checkpoint"]);
        switch.await.map_err(|it| format!("{it:#}"))?;
        if needed.exists() {
            return Err(format!("`{}` is still there", needed.display()));
        }
        Ok(())
    })
    .await?;
    run.announce("the primary has removed what the standby needs");
    run.lab.heal().await?;
    whole(run).await?;
    let said = std::fs::read_to_string(away.agent.log())?;
    ensure!(
        said.contains("wal-removed"),
        "the reason was never named in the log of `{name}`: {said}"
    );

    // A command that has nothing to do says so.
    let rejoin = ["rejoin", "--node", name.as_str()];
    let rejoin = run.lab.programs().failover_ctl(&rejoin);
    rejoin.run(None, SCENARIO_TIMEOUT).await?;
    // One that asks for a copy returns once it is there.
    let rebuild = ["rejoin", "--node", name.as_str(), "--rebuild"];
    let rebuild = run.lab.programs().failover_ctl(&rebuild);
    rebuild.run(None, SCENARIO_TIMEOUT).await?;
    away.streams().await.map_err(anyhow::Error::msg)?;
    run.finish(&start, expectation(0)).await
}

/// A standby has more than the one that takes over, and its server is ended before the two could be
/// compared, so that it cannot start any more: it is rewound without a command, and what it had is saved.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn diverged_standby_cannot_start(
    run: &mut ScenarioRun<'_>,
) -> anyhow::Result<CheckResult> {
    let start = run.begin("diverged_standby_cannot_start").await?;
    let old = primary(run).await?;
    let topology = run.lab.topology();
    let others = || run.lab.nodes().iter().filter(|it| it.spec.node != old);
    let behind = others().find(|it| it.spec.region == topology.primary);
    let ahead = others().find(|it| it.spec.region == topology.dr);
    let behind = behind.context("the primary region has no standby")?;
    let ahead = ahead.context("the other region has no standby")?;
    let name = behind.spec.node.clone();
    run.inject(&Fault::NodeIsolated(NodeSelector::node(&name)))
        .await?;
    let node = run.lab.node(&old)?;
    insert_marker(run, node).await?;
    wait::until(
        "the row to arrive at the other standby",
        SCENARIO_TIMEOUT,
        || async {
            let rows = superuser(run, ahead, &["select count(*) from marker"]).await;
            match rows.as_deref().map(str::trim) {
                Ok("3") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    )
    .await?;
    let rows_lost = lose_and_state(run, &old).await?;
    ahead.guard.signal(nix::sys::signal::Signal::SIGTERM)?;
    run.announce("the guard of the standby that has more is restarted");
    run.wait_for_takeover(&old, SCENARIO_TIMEOUT).await?;
    run.lab.heal().await?;
    whole(run).await?;
    // A standby that found the new timeline in the archive before it could be compared follows at once, and
    // what it left behind is saved a moment later.
    let saves = ahead.spec.state().join("diverged");
    wait::until(
        "what only the standby had to be saved",
        NAMED_WITHIN,
        || async {
            match holds(&saves, MARKER) {
                Ok(true) => Ok(()),
                found => Err(format!("{found:?}")),
            }
        },
    )
    .await?;
    let rejoin = ["rejoin", "--node", ahead.spec.node.as_str()];
    let rejoin = run.lab.programs().failover_ctl(&rejoin);
    rejoin.run(None, SCENARIO_TIMEOUT).await?;
    run.finish(&start, expectation(rows_lost)).await
}

/// Cuts off every node but one from the others.
async fn isolate_others(run: &ScenarioRun<'_>, but: &NodeId) -> anyhow::Result<()> {
    for node in run.lab.nodes() {
        if node.spec.node != *but {
            run.inject(&Fault::NodeIsolated(NodeSelector::node(&node.spec.node)))
                .await?;
        }
    }
    Ok(())
}

/// Loses the primary, and returns how many rows are stated to be lost with it: those that the loss of it
/// alone explains.
async fn lose_and_state(run: &ScenarioRun<'_>, node: &NodeId) -> anyhow::Result<u64> {
    run.inject(&Fault::NodeLost(NodeSelector::node(node)))
        .await?;
    run.planned_loss().await
}

async fn insert_marker(run: &ScenarioRun<'_>, node: &Node) -> anyhow::Result<()> {
    // The header of a page of WAL may stand within one of them.
    let insert = format!("insert into marker values ('{MARKER}'), ('{MARKER}'), ('{MARKER}')");
    superuser(run, node, &["create table marker (t text)", &insert]).await?;
    Ok(())
}

/// Waits until every node follows.
pub(super) async fn whole(run: &ScenarioRun<'_>) -> anyhow::Result<()> {
    run.announce_wait("every node to follow", WHOLE_WITHIN);
    let primary = run.lab.wait_for_primary(SCENARIO_TIMEOUT).await?;
    let standbys = run.lab.nodes().iter().filter(|it| it.spec.node != primary);
    for node in standbys {
        let what = format!("`{}` to stream", node.spec.node);
        wait::until(&what, WHOLE_WITHIN, || node.streams()).await?;
    }
    Ok(())
}

/// Waits until a node's agent names a problem.
async fn named(node: &Node, problem: &str) -> anyhow::Result<()> {
    let what = format!("`{}` to name `{problem}`", node.spec.node);
    let timeout = NAMED_WITHIN + SCENARIO_TIMEOUT; // It has to start and to find the primary first.
    wait::until(&what, timeout, || async {
        let status = node.status().await.map_err(|it| format!("{it:#}"))?;
        let problems = status.get("problems").and_then(Value::as_array);
        let names = problems
            .into_iter()
            .flatten()
            .filter_map(|it| it.get("problem"));
        let names: Vec<&Value> = names.collect();
        if names.iter().any(|it| *it == problem) {
            return Ok(());
        }
        Err(format!("it names {names:?}"))
    })
    .await?;
    Ok(())
}

/// Runs statements on a node's own server as the superuser.
pub(super) async fn superuser(
    run: &ScenarioRun<'_>,
    node: &Node,
    statements: &[&str],
) -> anyhow::Result<String> {
    let sockets = node.spec.sockets().display().to_string();
    let port = POSTGRES_PORT.to_string();
    let mut arguments = vec![
        "-XAtq",
        "-v",
        "ON_ERROR_STOP=1",
        "-U",
        "postgres",
        "-h",
        &sockets,
    ];
    arguments.extend(["-p", &port, "-d", "app"]);
    for statement in statements {
        arguments.extend(["-c", statement]);
    }
    let psql = Program {
        name: format!("psql-{}", node.spec.node),
        executable: bin_directory()?.join("psql"),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: run.lab.programs().environment(),
        run_as: RunAs::Postgres,
        stdin: None,
        log: run.lab.topology().logs().join("psql.log"),
    };
    psql.run(None, Duration::from_secs(30)).await
}

/// Says whether a file below `directory` holds `text`.
fn holds(directory: &Path, text: &str) -> anyhow::Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds(&path, text)?
        } else {
            let bytes = std::fs::read(&path)?;
            bytes.windows(text.len()).any(|it| it == text.as_bytes())
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

const fn expectation(rows_lost: u64) -> Expectation {
    Expectation {
        downtime: WITHOUT_WRITES,
        rows_lost,
    }
}
