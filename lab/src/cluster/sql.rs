//! Queries on a node's own server, through its socket and as the superuser.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time;
use tokio_postgres::{NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::cluster::topology::{NodeSpec, POSTGRES_PORT};

/// Timeout of a statement: a checkpoint on a busy machine takes longest.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a statement, and returns the first value of its first row.
///
/// # Errors
///
/// When the server does not respond in time, or rejects the statement.
pub async fn local(spec: &NodeSpec, statement: &str) -> anyhow::Result<Option<String>> {
    let row = row(spec, statement, TIMEOUT).await?;
    Ok(row.and_then(|row| row.get(0).map(str::to_owned)))
}

/// Runs a statement, and returns its first row.
///
/// # Errors
///
/// When the server does not respond in time, or rejects the statement.
pub async fn row(
    spec: &NodeSpec,
    statement: &str,
    timeout: Duration,
) -> anyhow::Result<Option<SimpleQueryRow>> {
    let mut settings = tokio_postgres::Config::new();
    settings
        .host_path(spec.sockets())
        .port(POSTGRES_PORT)
        .user("postgres")
        .dbname("postgres")
        .application_name("lab");
    let ask = async {
        let (client, connection) = settings.connect(NoTls).await?;
        let answer = client.simple_query(statement);
        // The connection is closed after this query.
        tokio::select! {
            answer = answer => Ok(answer?),
            ended = connection => {
                ended?;
                anyhow::bail!("the server closed the connection")
            }
        }
    };
    let answer = time::timeout(timeout, ask).await;
    let answer = answer.with_context(|| format!("`{}` did not respond", spec.node))??;
    Ok(answer.into_iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        SimpleQueryMessage::CommandComplete(_) | _ => None,
    }))
}
