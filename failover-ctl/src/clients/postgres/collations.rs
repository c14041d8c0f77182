//! Collation versions of the local server: those that it has, and those that its catalogs record.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::failover::collation::{
    CollationProvider, CollationVersion, NodeCollations, StaleCollation,
};
use causeway_runtime::clock;
use causeway_runtime::shutdown::Tasks;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time;
use tracing::warn;

use super::connection::{connect, local};
use super::state::{PostgresState, ServerAnswer};
use crate::config::PostgresSettings;
use crate::data_directory;

/// Interval between two readings: the time until an operator sees the effect of REFRESH VERSION.
const READ_INTERVAL: Duration = Duration::from_secs(15);

/// Time for a reading. It takes milliseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Release from which a database has a recorded version.
const DATABASE_VERSIONS: u32 = 15;

/// Query of the versions. A collation counts as used if it is not one of `initdb`'s, or an index of this database uses
/// it; the databases' default collations are used. Of the others, one of each recorded version stands for all: ICU has
/// 800, and to open one takes 0.1 ms.
const VERSIONS: &str = "
with known as (
       select c.oid, c.collprovider::text as provider, c.collversion as recorded,
              c.oid >= 16384 or c.oid in (select unnest(i.indcollation) from pg_index i) as used
         from pg_collation c
        where c.collprovider <> 'd'),
     version as (
       select provider, recorded, pg_collation_actual_version(oid) as actual, true as used
         from known where used
        union
       select provider, recorded, pg_collation_actual_version(min(oid::bigint)::oid), false
         from known where not used group by provider, recorded
        union
       select d.datlocprovider::text, d.datcollversion, pg_database_collation_actual_version(d.oid), true
         from pg_database d where d.datallowconn)
select coalesce(jsonb_agg(to_jsonb(v)), '[]')::text
  from (select provider, left(recorded, 64) as recorded, left(actual, 64) as actual, used
          from version where actual is not null order by used desc, provider, recorded limit 64) v";

/// Query for a release before 15, whose databases record no version: a collation counts as used also if it has the
/// locale of a database.
const VERSIONS_BEFORE_15: &str = "
with known as (
       select c.oid, c.collprovider::text as provider, c.collversion as recorded,
              c.oid >= 16384 or c.oid in (select unnest(i.indcollation) from pg_index i)
                or coalesce(replace(lower(c.collcollate), '-', '')
                   in (select replace(lower(d.datcollate), '-', '') from pg_database d where d.datallowconn), false)
                as used
         from pg_collation c
        where c.collprovider <> 'd'),
     version as (
       select provider, recorded, pg_collation_actual_version(oid) as actual, true as used
         from known where used
        union
       select provider, recorded, pg_collation_actual_version(min(oid::bigint)::oid), false
         from known where not used group by provider, recorded)
select coalesce(jsonb_agg(to_jsonb(v)), '[]')::text
  from (select provider, left(recorded, 64) as recorded, left(actual, 64) as actual, used
          from version where actual is not null order by used desc, provider, recorded limit 64) v";

/// Row of the query.
#[derive(Deserialize)]
struct Row {
    provider: String,
    recorded: Option<String>,
    actual: String,
    used: bool,
}

/// Reads the versions periodically: REFRESH VERSION changes the recorded ones.
pub(super) async fn watch(
    settings: &PostgresSettings,
    state: &watch::Sender<PostgresState>,
    tasks: &Tasks,
) {
    let mut interval = time::interval(READ_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let answer = state.borrow().answer;
        if matches!(
            answer,
            Some((_, ServerAnswer::Standby(_) | ServerAnswer::Primary(_)))
        ) {
            publish(settings, state, tasks).await;
        }
    }
}

/// Reads the versions and publishes them. After a failure those of the same server stay.
pub(super) async fn publish(
    settings: &PostgresSettings,
    state: &watch::Sender<PostgresState>,
    tasks: &Tasks,
) {
    let sent_at = clock::now();
    let read = time::timeout(READ_TIMEOUT, read(settings, tasks)).await;
    match read.context("PostgreSQL did not answer in time").flatten() {
        Ok(found) => {
            let found = Arc::new(found);
            state.send_modify(|current| current.collations = Some((sent_at, found)));
        }
        Err(error) => warn!(error = format!("{error:#}"), "collation versions not read"),
    }
}

/// Reads the versions over a connection of its own, so that a lock on a catalog delays no other query.
async fn read(settings: &PostgresSettings, tasks: &Tasks) -> anyhow::Result<NodeCollations> {
    let release = data_directory::major_version(&settings.data_directory);
    let query = if release.is_some_and(|release| release < DATABASE_VERSIONS) {
        VERSIONS_BEFORE_15
    } else {
        VERSIONS
    };
    let client = connect(&local(settings, "failover-ctl agent collations"), tasks).await?;
    let row = client.query_one(query, &[]).await?;
    parse(row.try_get(0)?)
}

fn parse(text: &str) -> anyhow::Result<NodeCollations> {
    let rows: Vec<Row> =
        serde_json::from_str(text).context("could not parse collation versions")?;
    let mut found = NodeCollations::default();
    for row in rows {
        let provider = match row.provider.as_str() {
            "c" => CollationProvider::Libc,
            "i" => CollationProvider::Icu,
            "b" => CollationProvider::Builtin,
            // A later release's.
            _ => continue,
        };
        if let Some(recorded) = row
            .recorded
            .filter(|recorded| row.used && *recorded != row.actual)
        {
            found.stale.insert(StaleCollation {
                provider,
                recorded,
                actual: row.actual.clone(),
            });
        }
        found.actual.insert(CollationVersion {
            provider,
            version: row.actual,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
