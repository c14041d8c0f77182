//! The command-signing key cannot be read through PostgreSQL.

use std::os::unix::fs::chown;

use anyhow::{Context as _, bail, ensure};
use causeway_runtime::shutdown::Tasks;
use nix::unistd::Uid;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::node_status::{wait_for_no_problem, wait_for_problem};
use super::scenario_run::ScenarioRun;
use super::superuser::connect;
use crate::cluster::files::give_to_postgres;
use crate::cluster::secrets::command_signing_key;

/// Reads files through PostgreSQL, as the `pg_rewind` role and as a superuser: neither the command
/// signing key nor the memory of the agent that has read it is accessible. If the file is made
/// readable, the agent reports it.
///
/// # Errors
///
/// When the key can be read, or the agent does not report it.
pub async fn signing_key_unreadable_through_postgres(run: &ScenarioRun<'_>) -> anyhow::Result<()> {
    const EXPOSED: &str = "command-key-exposed";

    if !Uid::effective().is_root() {
        run.announce("PostgreSQL runs as the lab's own user, so it can read every file");
        return Ok(());
    }
    let node = run.lab.node(&run.primary().await?)?;
    let key = command_signing_key(run.lab.topology());
    wait_for_no_problem(node, EXPOSED).await?;
    let tasks = Tasks::new();
    let rewinder = rewinder(run, &tasks).await?;
    let (sockets, port) = (node.spec.sockets(), node.spec.postgres().port());
    let reader = connect(&sockets, port, "postgres", &tasks).await?;
    let own = run.lab.topology().secrets().join("rewinder.password");
    let own = own.display().to_string();
    let found = read(&reader, &own).await;
    ensure!(found.is_ok(), "the role can read no file: {found:?}");
    let agent = node.agent.pid().context("the agent does not run")?;
    let mut protected = vec![key.display().to_string()];
    protected.extend(["environ", "mem", "fd/0"].map(|file| format!("/proc/{agent}/{file}")));
    for path in &protected {
        for client in [&rewinder, &reader] {
            match read(client, path).await {
                Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
                other => bail!("PostgreSQL could read `{path}`: {other:?}"),
            }
        }
    }
    tasks.stop(std::time::Duration::from_secs(2)).await;
    run.announce("the command signing key cannot be read through PostgreSQL");

    give_to_postgres(&key)?;
    wait_for_problem(node, EXPOSED).await?;
    chown(&key, Some(0), Some(0))?;
    wait_for_no_problem(node, EXPOSED).await?;
    run.announce("the agent reports a readable key");
    Ok(())
}

async fn read(client: &Client, path: &str) -> Result<i32, tokio_postgres::Error> {
    let question = "select length(pg_read_binary_file($1, 0, 16, false))";
    Ok(client.query_one(question, &[&path]).await?.get(0))
}

async fn rewinder(run: &ScenarioRun<'_>, tasks: &Tasks) -> anyhow::Result<Client> {
    let topology = run.lab.topology();
    let spec = topology.node_spec(&run.primary().await?)?;
    let password = std::fs::read_to_string(topology.secrets().join("rewinder.password"))?;
    let mut settings = tokio_postgres::Config::new();
    settings
        .host(spec.postgres().ip().to_string())
        .port(spec.postgres().port())
        .user("rewinder")
        .password(password.trim())
        .dbname("postgres");
    let (client, connection) = settings.connect(NoTls).await?;
    tasks.start("rewinder", |stop| async move {
        let _ended = stop.run_until_cancelled(connection).await;
    });
    Ok(client)
}
