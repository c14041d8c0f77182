//! Schema migrations: embedded, numbered, with checksums, one transaction each, by one program at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_runtime::retry::RetryPolicy;
use causeway_runtime::telemetry::chain;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::ToSql;
use tracing::{info, warn};

use super::connect::{Connector, WarnThrottle};
use super::primary::Primary;
use super::queries::Effect;
use super::query_error::QueryError;
use crate::config::Database;

/// The name and the text of each step of the schema, numbered from 1. Steps are forward only, and each
/// works beside the release before it.
const MIGRATIONS: [(&str, &str); 2] = [
    ("initial", include_str!("../../migrations/0001_initial.sql")),
    (
        "members_users_beers",
        include_str!("../../migrations/0002_members_users_beers.sql"),
    ),
];
/// The step before which tables of earlier services are adopted.
const ADOPTING: i32 = 2;
/// The key of the advisory lock under which one program at a time changes the schema: "causeway" in
/// ASCII, as a number.
const LOCK_KEY: i64 = 0x6361_7573_6577_6179;
/// The time that a migration waits for a lock before it is repeated: readers queue behind an `ALTER TABLE`
/// that waits.
const SESSION: &str = "SET lock_timeout = '5s'; SET statement_timeout = '60s'";
/// The encodings that store every UTF-8 text; `SQL_ASCII` does not convert.
const HOLDS_EVERY_TEXT: [&str; 2] = ["UTF8", "SQL_ASCII"];
/// The pauses between two attempts.
const RETRY: RetryPolicy = RetryPolicy::constant(Duration::from_millis(250));

/// A schema that could not be brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The database could not be reached in time.
    #[error("no database server that accepts writes was reached within {0:?}: {1}")]
    Unreachable(Duration, String),
    /// The server refused a migration.
    #[error("the schema could not be brought up to date{}", hint(.0))]
    Refused(#[source] tokio_postgres::Error),
    /// The database cannot store every text that a client may send.
    #[error(
        "the database's encoding is {0}, which cannot store every name: create a database with \
         `CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0`, and move the data there"
    )]
    Encoding(String),
    /// An applied migration differs from the one in this program.
    #[error(
        "migration {0} in the database is not the one in this program; restore the file as it was \
         applied, and write what should change as a new migration"
    )]
    Changed(i32),
    /// The tables are missing, and this program may not create them now.
    #[error("the tables are missing, and `MIGRATE` is `off` or no server accepts writes")]
    Missing,
    /// A pooler keeps no session.
    #[error("{0}")]
    Pooled(String),
}

/// Returns the remedy for an error, where there is one.
fn hint(error: &tokio_postgres::Error) -> String {
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return "; run `api migrate` as the role that owns the schema".to_owned();
    }
    let hint = error.as_db_error().and_then(DbError::hint);
    hint.map_or_else(String::new, |hint| format!("; {hint}"))
}

/// Waits for the primary and brings its schema up to date, or waits until another program has.
///
/// A read-only server is waited for as long as it answers: a failover may be under way.
pub(super) async fn prepare(
    primary: &Primary,
    connector: &Connector,
    settings: &Database,
) -> Result<(), SchemaError> {
    let mut deadline = Instant::now() + settings.startup_timeout;
    let mut backoff = RETRY.backoff();
    let mut warn_throttle = WarnThrottle::default();
    loop {
        let error = match attempt(primary, connector, settings, deadline).await {
            Ok(()) => return Ok(()),
            Err(error) if !error.may_pass() => return Err(error),
            Err(error) => error,
        };
        if warn_throttle.is_due() {
            let error = chain(&error);
            warn!(error, "schema not up to date");
        }
        if matches!(error, SchemaError::Missing) {
            deadline = Instant::now() + settings.startup_timeout;
            backoff.pause().await;
        } else if !backoff.pause_before(deadline).await {
            return Err(error);
        }
    }
}

async fn attempt(
    primary: &Primary,
    connector: &Connector,
    settings: &Database,
    deadline: Instant,
) -> Result<(), SchemaError> {
    let unreachable = |errors| SchemaError::Unreachable(settings.startup_timeout, errors);
    let away = |error| unreachable(chain(&error));
    let known = match primary.server_for(Effect::Reads, deadline).await {
        Ok(known) => known,
        Err(QueryError::NoPrimary { read_only: true }) => return Err(SchemaError::Missing),
        Err(_away) => return Err(unreachable(primary.server_errors())),
    };
    // A connection of its own: the advisory lock belongs to its session.
    let connected = connector.connect(&known.address, &known.ends).await;
    let (mut connection, status) = connected.map_err(away)?;
    let is_shared =
        (&status.backend, &status.started_at) == (&known.status.backend, &known.status.started_at);
    let checked = if is_shared {
        Err(QueryError::Pooled)
    } else {
        connection.check_session().await
    };
    if let Err(error) = checked {
        if !matches!(error, QueryError::Pooled) {
            return Err(away(error));
        }
        // The settings must not be left for the next client of the pooler.
        connection.client.batch_execute("RESET ALL").await.ok();
        return Err(SchemaError::Pooled(error.to_string()));
    }
    bring_up_to_date(&mut connection.client, settings.migrate).await
}

impl From<tokio_postgres::Error> for SchemaError {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            return Self::Missing;
        }
        Self::Refused(error)
    }
}

impl SchemaError {
    /// Returns whether another attempt may succeed: the connection ended, a lock was not available, or the
    /// tables are missing.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(..) | Self::Missing => true,
            Self::Refused(error) => error.code().is_none_or(|state| {
                let class = state.code().get(..2).unwrap_or("");
                ["08", "25", "40", "53", "55", "57", "58"].contains(&class)
                    || *state == SqlState::UNIQUE_VIOLATION
            }),
            Self::Encoding(_) | Self::Changed(_) | Self::Pooled(_) => false,
        }
    }
}

/// Applies the missing migrations, unless `migrate` is off. Where none is missing, no lock is taken, and a
/// role that may only read the list of migrations suffices.
async fn bring_up_to_date(client: &mut Client, migrate: bool) -> Result<(), SchemaError> {
    let encoding = client.query_one("SHOW server_encoding", &[]).await?;
    let encoding: String = encoding.try_get(0)?;
    if !HOLDS_EVERY_TEXT.contains(&encoding.as_str()) {
        return Err(SchemaError::Encoding(encoding));
    }
    if missing(client).await?.is_empty() {
        return Ok(());
    }
    if !migrate {
        return Err(SchemaError::Missing);
    }
    client.batch_execute(SESSION).await?;
    let lock = include_str!("queries/schema_lock.sql");
    client.execute(lock, &[&LOCK_KEY]).await?;
    let table = include_str!("queries/schema_table.sql");
    client.batch_execute(table).await?;
    // Read again under the lock: another program may have applied some.
    for (version, name, sql) in missing(client).await? {
        let transaction = client.transaction().await?;
        if version == ADOPTING {
            let adopt = include_str!("queries/schema_adopt.sql");
            transaction.batch_execute(adopt).await?;
        }
        transaction.batch_execute(sql).await?;
        let record = include_str!("queries/schema_record.sql");
        let checksum = checksum(sql);
        let params: [&(dyn ToSql + Sync); 3] = [&version, &name, &checksum];
        transaction.execute(record, &params).await?;
        transaction.commit().await?;
        info!(version, name, "migration applied");
    }
    Ok(())
}

fn checksum(sql: &str) -> String {
    hex::encode(Sha256::digest(sql))
}

/// Returns the number, the name and the text of each migration that is not applied.
async fn missing(client: &Client) -> Result<Vec<(i32, &'static str, &'static str)>, SchemaError> {
    let mut applied = applied(client).await?;
    let mut missing = Vec::new();
    for (version, (name, sql)) in (1..).zip(MIGRATIONS) {
        match applied.remove(&version) {
            None => missing.push((version, name, sql)),
            Some(of) if of != checksum(sql) => return Err(SchemaError::Changed(version)),
            Some(_same) => {}
        }
    }
    if let Some((newest, _)) = applied.last_key_value() {
        warn!(newest, "schema newer than this program");
    }
    Ok(missing)
}

/// Returns the number and the checksum of each migration that is applied.
async fn applied(client: &Client) -> Result<BTreeMap<i32, String>, tokio_postgres::Error> {
    let exists = include_str!("queries/schema_exists.sql");
    if !client.query_one(exists, &[]).await?.try_get(0)? {
        return Ok(BTreeMap::new());
    }
    let rows = client.query(include_str!("queries/schema_applied.sql"), &[]);
    let rows = rows.await?.into_iter();
    rows.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}
