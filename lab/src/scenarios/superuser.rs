//! Statements as PostgreSQL's superuser, over a Unix socket.

use std::path::Path;
use std::time::Duration;

use causeway_runtime::shutdown::Tasks;
use tokio_postgres::{Client, NoTls};

use super::scenario_run::ScenarioRun;
use crate::cluster::node::Node;
use crate::cluster::postgres::bin_directory;
use crate::cluster::program::{Program, RunAs};
use crate::cluster::topology::POSTGRES_PORT;

/// Connects as the superuser over a Unix socket, by peer authentication.
pub(super) async fn connect(
    sockets: &Path,
    port: u16,
    database: &str,
    tasks: &Tasks,
) -> anyhow::Result<Client> {
    let mut settings = tokio_postgres::Config::new();
    settings
        .host_path(sockets)
        .port(port)
        .user("postgres")
        .dbname(database)
        .connect_timeout(Duration::from_secs(2));
    let (client, connection) = settings.connect(NoTls).await?;
    tasks.start("superuser connection", |stop| async move {
        let _ended = stop.run_until_cancelled(connection).await;
    });
    Ok(client)
}

/// Runs statements on a node's own server as the superuser.
pub(super) async fn psql(
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
