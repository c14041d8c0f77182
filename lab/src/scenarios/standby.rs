//! Nodes that cannot follow as they are: what only they have is saved, and they come back by themselves.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use causeway_core::NodeId;
use serde_json::Value;

use super::{LONG, primary};
use crate::cluster::node::Node;
use crate::cluster::postgres::bin_directory;
use crate::cluster::program::{Program, RunAs};
use crate::cluster::topology::POSTGRES_PORT;
use crate::fault::{Fault, On};
use crate::scenarios::scenario_run::Stage;
use crate::wait;
use crate::workload::checker::{Promise, Verdict};

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
pub async fn diverged_wal_not_saved(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("diverged_wal_not_saved").await?;
    let old = primary(stage).await?;
    isolate_others(stage, &old).await?;
    let node = stage.lab.node(&old)?;
    insert_marker(stage, node).await?;
    let rows_lost = lose_and_state(stage, &old).await?;
    stage.taken_over_from(&old, LONG).await?;

    let in_the_way = node.place.state().join("diverged");
    std::fs::write(&in_the_way, "a file where a directory should be")?;
    stage.say("the state directory cannot take a copy");
    stage.lab.heal().await?;
    named(node, "diverged-wal-not-saved").await?;
    ensure!(
        holds(&node.place.data().join("pg_wal"), MARKER)?,
        "the row is gone from the directory although it was not saved"
    );
    std::fs::remove_file(&in_the_way)?;
    stage.say("the state directory can take a copy");
    whole(stage).await?;
    ensure!(
        holds(&in_the_way, MARKER)?,
        "the row is not in what was saved"
    );
    stage.end(&begun, promise(rows_lost)).await
}

/// A standby is away until the primary has removed WAL that it needs: that is named, and the standby is
/// copied without a command.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn standby_away_too_long(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("standby_away_too_long").await?;
    let here = primary(stage).await?;
    let away = stage
        .lab
        .nodes()
        .iter()
        .find(|it| it.place.node != here && it.place.region == stage.lab.topology().primary);
    let away = away.context("the primary region has no standby")?;
    let name = away.place.node.clone();
    stage.break_with(&Fault::NodeLost(On::node(&name))).await?;
    let node = stage.lab.node(&here)?;
    // With less to keep, fewer segments do.
    let keep = "alter system set wal_keep_size = 0; select pg_reload_conf()";
    superuser(stage, node, &keep.split("; ").collect::<Vec<_>>()).await?;
    let needed = superuser(
        stage,
        node,
        &["select pg_walfile_name(pg_current_wal_lsn())"],
    );
    let needed = node.place.data().join("pg_wal").join(needed.await?.trim());
    // It stays until it is archived, and a checkpoint after that has seen it.
    wait::until("the primary to remove WAL", LONG, || async {
        let switch = superuser(stage, node, &["select pg_switch_wal()", "checkpoint"]);
        switch.await.map_err(|it| format!("{it:#}"))?;
        if needed.exists() {
            return Err(format!("`{}` is still there", needed.display()));
        }
        Ok(())
    })
    .await?;
    stage.say("the primary has removed what the standby needs");
    stage.lab.heal().await?;
    whole(stage).await?;
    let said = std::fs::read_to_string(away.agent.log())?;
    ensure!(
        said.contains("wal-removed"),
        "the reason was never named in the log of `{name}`: {said}"
    );

    // A command that has nothing to do says so.
    let rejoin = ["rejoin", "--node", name.as_str()];
    let rejoin = stage.lab.programs().failover_ctl(&rejoin);
    rejoin.run(None, LONG).await?;
    // One that asks for a copy returns once it is there.
    let rebuild = ["rejoin", "--node", name.as_str(), "--rebuild"];
    let rebuild = stage.lab.programs().failover_ctl(&rebuild);
    rebuild.run(None, LONG).await?;
    away.streams().await.map_err(anyhow::Error::msg)?;
    stage.end(&begun, promise(0)).await
}

/// A standby has more than the one that takes over, and its server is ended before the two could be
/// compared, so that it cannot start any more: it is rewound without a command, and what it had is saved.
///
/// # Errors
///
/// When the story does not come to an end.
pub async fn diverged_standby_cannot_start(stage: &mut Stage<'_>) -> anyhow::Result<Verdict> {
    let begun = stage.begin("diverged_standby_cannot_start").await?;
    let old = primary(stage).await?;
    let topology = stage.lab.topology();
    let others = || stage.lab.nodes().iter().filter(|it| it.place.node != old);
    let behind = others().find(|it| it.place.region == topology.primary);
    let ahead = others().find(|it| it.place.region == topology.dr);
    let behind = behind.context("the primary region has no standby")?;
    let ahead = ahead.context("the other region has no standby")?;
    let name = behind.place.node.clone();
    stage
        .break_with(&Fault::NodeIsolated(On::node(&name)))
        .await?;
    let node = stage.lab.node(&old)?;
    insert_marker(stage, node).await?;
    wait::until("the row to arrive at the other standby", LONG, || async {
        let rows = superuser(stage, ahead, &["select count(*) from marker"]).await;
        match rows.as_deref().map(str::trim) {
            Ok("3") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let rows_lost = lose_and_state(stage, &old).await?;
    ahead.guard.signal(nix::sys::signal::Signal::SIGTERM)?;
    stage.say("the guard of the standby that has more is restarted");
    stage.taken_over_from(&old, LONG).await?;
    stage.lab.heal().await?;
    whole(stage).await?;
    // A standby that found the new timeline in the archive before it could be compared follows at once, and
    // what it left behind is saved a moment later.
    let saves = ahead.place.state().join("diverged");
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
    let rejoin = ["rejoin", "--node", ahead.place.node.as_str()];
    let rejoin = stage.lab.programs().failover_ctl(&rejoin);
    rejoin.run(None, LONG).await?;
    stage.end(&begun, promise(rows_lost)).await
}

/// Cuts off every node but one from the others.
async fn isolate_others(stage: &Stage<'_>, but: &NodeId) -> anyhow::Result<()> {
    for node in stage.lab.nodes() {
        if node.place.node != *but {
            stage
                .break_with(&Fault::NodeIsolated(On::node(&node.place.node)))
                .await?;
        }
    }
    Ok(())
}

/// Loses the primary, and returns how many rows are stated to be lost with it: those that the loss of it
/// alone explains.
async fn lose_and_state(stage: &Stage<'_>, node: &NodeId) -> anyhow::Result<u64> {
    stage.break_with(&Fault::NodeLost(On::node(node))).await?;
    stage.stated_loss().await
}

async fn insert_marker(stage: &Stage<'_>, node: &Node) -> anyhow::Result<()> {
    // The header of a page of WAL may stand within one of them.
    let insert = format!("insert into marker values ('{MARKER}'), ('{MARKER}'), ('{MARKER}')");
    superuser(stage, node, &["create table marker (t text)", &insert]).await?;
    Ok(())
}

/// Waits until every node follows.
pub(super) async fn whole(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.waiting("every node to follow", WHOLE_WITHIN);
    let primary = stage.lab.wait_for_primary(LONG).await?;
    let standbys = stage
        .lab
        .nodes()
        .iter()
        .filter(|it| it.place.node != primary);
    for node in standbys {
        let what = format!("`{}` to stream", node.place.node);
        wait::until(&what, WHOLE_WITHIN, || node.streams()).await?;
    }
    Ok(())
}

/// Waits until a node's agent names a problem.
async fn named(node: &Node, problem: &str) -> anyhow::Result<()> {
    let what = format!("`{}` to name `{problem}`", node.place.node);
    let patience = NAMED_WITHIN + LONG; // It has to start and to find the primary first.
    wait::until(&what, patience, || async {
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
    stage: &Stage<'_>,
    node: &Node,
    statements: &[&str],
) -> anyhow::Result<String> {
    let sockets = node.place.sockets().display().to_string();
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
        name: format!("psql-{}", node.place.node),
        executable: bin_directory()?.join("psql"),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: stage.lab.programs().environment(),
        run_as: RunAs::Postgres,
        stdin: None,
        log: stage.lab.topology().logs().join("psql.log"),
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

const fn promise(rows_lost: u64) -> Promise {
    Promise {
        without_writes: WITHOUT_WRITES,
        rows_lost,
    }
}
