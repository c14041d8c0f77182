//! Bringing the schema up to date: embedded, numbered, checksummed, one transaction each, and one
//! program at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{self, Instant};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tracing::{debug, info, warn};

use super::connect::{ConnectError, Connector};
use super::primary::Primary;
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
    #[error("no database server that accepts writes was reached within {waited:?}: {troubles}")]
    Unreachable {
        /// How long was waited.
        waited: Duration,
        /// Each server, and why it cannot be used.
        troubles: String,
    },
    /// The server refused a migration.
    #[error("the schema could not be brought up to date within {waited:?}")]
    Refused {
        /// How long it was tried.
        waited: Duration,
        /// Why, at the last try.
        source: tokio_postgres::Error,
    },
    /// The server says that this role may not change the schema.
    #[error(
        "the schema is not up to date, and this role may not change it; run `api migrate` as the \
         role that owns the schema"
    )]
    NotOwner(#[source] tokio_postgres::Error),
    /// The database cannot hold every text that a client may send.
    #[error(
        "the database's encoding is {encoding}, which cannot hold every name: make a database with \
         `CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0`, and move there what is in this one"
    )]
    Encoding {
        /// Its name, as PostgreSQL has it.
        encoding: String,
    },
    /// A migration that was applied is not the one that this program has.
    #[error(
        "migration {version} in the database is not the one in this program; restore the file as it \
         was applied, and write what should change as a new migration"
    )]
    Changed {
        /// The number.
        version: i32,
    },
}

/// Why one try ended.
#[derive(Debug, thiserror::Error)]
enum Attempt {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Statement(#[from] tokio_postgres::Error),
    #[error("the encoding is {0}")]
    Encoding(String),
    #[error("migration {0} is another one")]
    Changed(i32),
    #[error("the tables are not there")]
    Missing,
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
    loop {
        let known = match primary.known(deadline).await {
            Ok(known) => known,
            Err(super::failure::Failure::NoPrimary { read_only: true }) => {
                warn!("the database accepts no writes yet; waiting until it does");
                deadline = Instant::now() + patience;
                continue;
            }
            Err(_away) => {
                return Err(SchemaError::Unreachable {
                    waited: patience,
                    troubles: primary.troubles(),
                });
            }
        };
        // A connection of its own, straight to the server: the lock belongs to its session.
        let attempt = async {
            let (mut connection, _answer) = connector.connect(&known.address, &known.ends).await?;
            bring_up_to_date(connection.client(), migrate).await
        };
        match attempt.await {
            Ok(()) => return Ok(()),
            Err(Attempt::Encoding(encoding)) => return Err(SchemaError::Encoding { encoding }),
            Err(Attempt::Changed(version)) => return Err(SchemaError::Changed { version }),
            Err(Attempt::Missing) => {
                debug!("waiting for somebody else to bring the schema up to date");
                deadline = Instant::now() + patience;
            }
            Err(Attempt::Statement(source)) if Instant::now() + PAUSE >= deadline => {
                return Err(match source.code() {
                    Some(&SqlState::INSUFFICIENT_PRIVILEGE) => SchemaError::NotOwner(source),
                    _ => SchemaError::Refused {
                        waited: patience,
                        source,
                    },
                });
            }
            Err(Attempt::Connect(error)) if Instant::now() + PAUSE >= deadline => {
                return Err(SchemaError::Unreachable {
                    waited: patience,
                    troubles: ha_runtime::telemetry::chain(&error),
                });
            }
            Err(error @ (Attempt::Connect(_) | Attempt::Statement(_))) => {
                warn!(
                    error = ha_runtime::telemetry::chain(&error),
                    "the schema is not up to date; trying again"
                );
            }
        }
        time::sleep(PAUSE).await;
    }
}

/// Applies what is missing, or says that it is missing when that is somebody else's work. Where
/// nothing is missing, nothing is locked, and a role that may only read the list of migrations will do.
async fn bring_up_to_date(client: &mut Client, migrate: Migrate) -> Result<(), Attempt> {
    let encoding = client.query_one("SHOW server_encoding", &[]).await?;
    let encoding: String = encoding.try_get(0)?;
    if !HOLDS_EVERY_TEXT.contains(&encoding.as_str()) {
        return Err(Attempt::Encoding(encoding));
    }
    if missing(client).await?.is_empty() {
        return Ok(());
    }
    if migrate == Migrate::Off {
        return Err(Attempt::Missing);
    }
    client.batch_execute(SESSION).await?;
    let lock = include_str!("queries/schema_lock.sql");
    client.execute(lock, &[&LOCK_KEY]).await?;
    let table = include_str!("queries/schema_table.sql");
    client.batch_execute(table).await?;
    // While the lock was waited for, another program may have done some of it.
    for (migration, checksum) in missing(client).await? {
        let transaction = client.transaction().await?;
        transaction.batch_execute(migration.sql).await?;
        let record = include_str!("queries/schema_record.sql");
        transaction
            .execute(record, &[&migration.version, &migration.name, &checksum])
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

/// Returns the migrations that are not applied, each with its checksum.
async fn missing(client: &Client) -> Result<Vec<(&'static Migration, String)>, Attempt> {
    let applied = applied(client).await?;
    let texts: Vec<&str> = MIGRATIONS.iter().map(|it| it.sql).collect();
    let checksums = include_str!("queries/schema_checksums.sql");
    let rows = client.query(checksums, &[&texts]).await?;
    let mut missing = Vec::new();
    for (migration, row) in MIGRATIONS.iter().zip(&rows) {
        let checksum: String = row.try_get(0)?;
        match applied.get(&migration.version) {
            None => missing.push((migration, checksum)),
            Some(of_applied) if *of_applied == checksum => {}
            Some(_another) => return Err(Attempt::Changed(migration.version)),
        }
    }
    warn_of_newer(&applied);
    Ok(missing)
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

fn warn_of_newer(applied: &BTreeMap<i32, String>) {
    let ours = MIGRATIONS.iter().map(|it| it.version).max();
    let newest = applied.keys().max().copied();
    if newest > ours {
        warn!(
            newest,
            ours, "the schema is newer than this program, which works beside it"
        );
    }
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
