//! Bringing the schema up to date: embedded, numbered, checksummed, one transaction each, and one
//! program at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_runtime::telemetry::chain;
use sha2::{Digest as _, Sha256};
use tokio::time::{self, Instant};
use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};
use tracing::{info, warn};

use super::connect::{Connector, WarnThrottle};
use super::primary::Primary;
use super::queries::Effect;
use super::query_error::QueryError;
use crate::config::Migrate;

/// One step of the schema. Steps are forward only, and each works beside the release before it.
struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "initial",
        sql: include_str!("../../migrations/0001_initial.sql"),
    },
    Migration {
        version: 2,
        name: "members_users_beers",
        sql: include_str!("../../migrations/0002_members_users_beers.sql"),
    },
];

/// The migration before which the tables of earlier services are taken over.
const ADOPTING: i32 = 2;
/// The key of the advisory lock under which one program at a time changes the schema: "causeway" in
/// ASCII, as a number.
const LOCK_KEY: i64 = 0x6361_7573_6577_6179;
/// How long a migration waits for a table that is in use, or for another program's migration, before
/// everything begins anew: a queue behind a waiting `ALTER TABLE` stops every reader.
const SESSION: &str = "SET lock_timeout = '5s'; SET statement_timeout = '60s'";
/// The encodings that take every text in UTF-8; `SQL_ASCII` keeps bytes as they come.
const HOLDS_EVERY_TEXT: [&str; 2] = ["UTF8", "SQL_ASCII"];
/// How often the database is asked while it is away, or its tables are not there.
const PAUSE: Duration = Duration::from_millis(250);

/// A schema that could not be brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The database could not be reached in time.
    #[error(
        "no database server that accepts writes was reached within {waited:?}: {server_errors}"
    )]
    Unreachable {
        /// How long was waited.
        waited: Duration,
        /// Each server, and why it cannot be used.
        server_errors: String,
    },
    /// The server refused a migration.
    #[error("the schema could not be brought up to date{}", hint(.0))]
    Refused(#[from] tokio_postgres::Error),
    /// The server says that this role may not change the schema.
    #[error(
        "the schema is not up to date, and this role may not change it; run `api migrate` as the \
         role that owns the schema"
    )]
    NotOwner(#[source] tokio_postgres::Error),
    /// The database cannot hold every text that a client may send.
    #[error(
        "the database's encoding is {0}, which cannot hold every name: make a database with \
         `CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0`, and move there what is in this one"
    )]
    Encoding(String),
    /// A migration that was applied is not the one that this program has.
    #[error(
        "migration {0} in the database is not the one in this program; restore the file as it was \
         applied, and write what should change as a new migration"
    )]
    Changed(i32),
    /// The tables are not there, and are made elsewhere or not before the database accepts writes.
    #[error(
        "the tables are not there, and are somebody else's to make, or no server accepts writes"
    )]
    Missing,
    /// What is connected to keeps no session.
    #[error("{0}")]
    Pooled(String),
}

/// What to do about an error, where the server says so.
fn hint(error: &tokio_postgres::Error) -> String {
    let hint = error.as_db_error().and_then(DbError::hint);
    hint.map(|it| format!("; {it}")).unwrap_or_default()
}

/// Waits for the primary and brings its schema up to date, or waits until somebody else has.
///
/// A server that accepts no writes is waited for as long as it answers: a failover may be under way.
pub(super) async fn prepare(
    primary: &Primary,
    connector: &Connector,
    migrate: Migrate,
    patience: Duration,
) -> Result<(), SchemaError> {
    let mut deadline = Instant::now() + patience;
    let mut warn_throttle = WarnThrottle::default();
    loop {
        let error = match attempt(primary, connector, migrate, patience, deadline).await {
            Ok(()) => return Ok(()),
            Err(error) if !error.may_pass() => return Err(error),
            Err(error) => error,
        };
        if warn_throttle.is_due() {
            let error = chain(&error);
            warn!(error, "the schema is not up to date; trying again");
        }
        if matches!(error, SchemaError::Missing) {
            deadline = Instant::now() + patience;
        } else if Instant::now() + PAUSE >= deadline {
            return Err(error);
        }
        time::sleep(PAUSE).await;
    }
}

async fn attempt(
    primary: &Primary,
    connector: &Connector,
    migrate: Migrate,
    waited: Duration,
    deadline: Instant,
) -> Result<(), SchemaError> {
    let unreachable = |server_errors| SchemaError::Unreachable {
        waited,
        server_errors,
    };
    let away = |error| unreachable(chain(&error));
    let known = match primary.known(Effect::Reads, deadline).await {
        Ok(known) => known,
        Err(QueryError::NoPrimary { read_only: true }) => return Err(SchemaError::Missing),
        Err(_away) => return Err(unreachable(primary.server_errors())),
    };
    // A connection of its own, straight to the server: the lock belongs to its session.
    let connected = connector.connect(&known.address, &known.ends).await;
    let (mut connection, answer) = connected.map_err(away)?;
    let is_shared =
        (&answer.backend, &answer.started_at) == (&known.answer.backend, &known.answer.started_at);
    let checked = if is_shared {
        Err(QueryError::Pooled)
    } else {
        connection.check_session().await
    };
    match checked {
        Err(error @ QueryError::Pooled) => {
            // What was set at the connect is not left for whoever comes next.
            connection.client.batch_execute("RESET ALL").await.ok();
            return Err(SchemaError::Pooled(error.to_string()));
        }
        checked => checked.map_err(away)?,
    }
    match bring_up_to_date(&mut connection.client, migrate).await {
        Err(SchemaError::Refused(error)) if is(&error, &SqlState::READ_ONLY_SQL_TRANSACTION) => {
            Err(SchemaError::Missing)
        }
        Err(SchemaError::Refused(error)) if is(&error, &SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(SchemaError::NotOwner(error))
        }
        ended => ended,
    }
}

fn is(error: &tokio_postgres::Error, state: &SqlState) -> bool {
    error.code() == Some(state)
}

impl SchemaError {
    /// Returns whether another try may end otherwise: the connection ended, a lock was waited for, the
    /// tables are somebody else's to make. What the server says about the tables it says again.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Missing => true,
            Self::Refused(error) => error.code().is_none_or(|it| {
                let class = it.code().get(..2).unwrap_or_default();
                ["08", "25", "40", "53", "55", "57", "58"].contains(&class)
                    || *it == SqlState::UNIQUE_VIOLATION
            }),
            Self::NotOwner(_) | Self::Encoding(_) | Self::Changed(_) | Self::Pooled(_) => false,
        }
    }
}

/// Applies what is missing, or says that it is missing when that is somebody else's work. Where
/// nothing is missing, nothing is locked, and a role that may only read the list of migrations will do.
async fn bring_up_to_date(client: &mut Client, migrate: Migrate) -> Result<(), SchemaError> {
    let encoding = client.query_one("SHOW server_encoding", &[]).await?;
    let encoding: String = encoding.try_get(0)?;
    if !HOLDS_EVERY_TEXT.contains(&encoding.as_str()) {
        return Err(SchemaError::Encoding(encoding));
    }
    if missing(client).await?.is_empty() {
        return Ok(());
    }
    if migrate == Migrate::Off {
        return Err(SchemaError::Missing);
    }
    client.batch_execute(SESSION).await?;
    let lock = include_str!("queries/schema_lock.sql");
    client.execute(lock, &[&LOCK_KEY]).await?;
    let table = include_str!("queries/schema_table.sql");
    client.batch_execute(table).await?;
    // While the lock was waited for, another program may have done some of it.
    for migration in missing(client).await? {
        let transaction = client.transaction().await?;
        if migration.version == ADOPTING {
            let adopt = include_str!("queries/schema_adopt.sql");
            transaction.batch_execute(adopt).await?;
        }
        transaction.batch_execute(&migration.text()).await?;
        let record = include_str!("queries/schema_record.sql");
        transaction
            .execute(
                record,
                &[&migration.version, &migration.name, &migration.checksum()],
            )
            .await?;
        transaction.commit().await?;
        info!(
            version = migration.version,
            name = migration.name,
            "migration applied"
        );
    }
    Ok(())
}

impl Migration {
    fn checksum(&self) -> String {
        let digest = Sha256::digest(self.sql);
        let add = |text: String, byte: &u8| text + &format!("{byte:02x}");
        digest.iter().fold(String::new(), add)
    }

    /// Returns what is run: tables of earlier services that were taken over are not made again.
    fn text(&self) -> String {
        let adopted = ["members", "users", "beers"].iter();
        adopted.fold(self.sql.to_owned(), |sql, table| {
            let make = |how| format!("CREATE TABLE {how}{table} (");
            sql.replace(&make(""), &make("IF NOT EXISTS "))
        })
    }
}

/// Returns the migrations that are not applied.
async fn missing(client: &Client) -> Result<Vec<&'static Migration>, SchemaError> {
    let applied = applied(client).await?;
    let changed = |it: &&Migration| {
        applied
            .get(&it.version)
            .is_some_and(|at| *at != it.checksum())
    };
    if let Some(changed) = MIGRATIONS.iter().find(changed) {
        return Err(SchemaError::Changed(changed.version));
    }
    let ours = MIGRATIONS.iter().map(|it| it.version).max();
    let newest = applied.keys().max().copied();
    if newest > ours {
        warn!(
            newest,
            ours, "the schema is newer than this program, which works beside it"
        );
    }
    let is_missing = |it: &&Migration| !applied.contains_key(&it.version);
    Ok(MIGRATIONS.iter().filter(is_missing).collect())
}

/// Returns the number and the checksum of each migration that is applied.
async fn applied(client: &Client) -> Result<BTreeMap<i32, String>, tokio_postgres::Error> {
    let exists = include_str!("queries/schema_exists.sql");
    if !client.query_one(exists, &[]).await?.try_get(0)? {
        return Ok(BTreeMap::new());
    }
    let rows = client
        .query(include_str!("queries/schema_applied.sql"), &[])
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one_without_a_gap() {
        let numbers: Vec<i32> = MIGRATIONS.iter().map(|it| it.version).collect();
        let expected: Vec<i32> = (1..).take(MIGRATIONS.len()).collect();
        assert_eq!(numbers, expected);
    }
}
