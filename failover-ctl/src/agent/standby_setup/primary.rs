//! Queries of the primary before this node's directory is changed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_core::lease::SystemId;
use causeway_core::lsn::{Ancestor, WalFileName, parse_history};
use causeway_core::{Lsn, Timeline};
use causeway_runtime::postgres::{self, RootCertificates};
use causeway_runtime::secret::Secret;
use tokio::time;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::agent::standby_setup::StandbySetup;

/// Timeout of a query of the primary.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time for the primary's first checkpoint on its timeline, without which `pg_rewind` finds nothing to do. The primary's
/// agent requests it after the promotion.
const CHECKPOINT: Duration = Duration::from_mins(5);

/// Interval at which that checkpoint is queried.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Connection to the primary as the role of `pg_rewind`.
pub(super) struct PrimarySession {
    client: Client,
    /// Timeline of the primary.
    pub(super) timeline: Timeline,
    /// Flushed WAL position.
    pub(super) flushed: Lsn,
}

/// Timeline history of the primary.
#[derive(Clone, Debug)]
pub(super) enum PrimaryHistory {
    /// Timeline of the primary, and its ancestors.
    Known(Timeline, Vec<Ancestor>),
    /// The primary denies access to its history.
    Hidden(String),
}

impl PrimaryHistory {
    pub(super) fn known_history(&self) -> Option<(Timeline, &[Ancestor])> {
        match self {
            Self::Known(timeline, ancestors) => Some((*timeline, ancestors)),
            Self::Hidden(_) => None,
        }
    }
}

impl StandbySetup {
    /// Connects to the primary, and checks that it accepts writes.
    pub(super) async fn connect_to_primary(&self) -> anyhow::Result<PrimarySession> {
        let name = &self.primary.name;
        let client = self.connect().await;
        let client = client.with_context(|| format!("could not query the primary `{name}`"))?;
        let asking = time::timeout(PATIENCE, client.query_one(POSITION, &[]));
        let row = asking
            .await
            .context("the primary did not respond in time")??;
        let (Some(timeline), Some(flushed)) = (row.try_get(0)?, row.try_get(1)?) else {
            bail!("`{name}` is still in recovery, so not the primary yet");
        };
        let system_id: i64 = row.try_get(2)?;
        let found = SystemId(system_id.cast_unsigned());
        if found != self.system_id {
            bail!(
                "`{name}` has another database: system identifier {found}, and the lease has {}",
                self.system_id
            );
        }
        let (timeline, flushed): (i32, String) = (timeline, flushed);
        let timeline = u32::try_from(timeline).ok().and_then(Timeline::new);
        Ok(PrimarySession {
            client,
            timeline: timeline.context("the primary returned no timeline")?,
            flushed: flushed.parse()?,
        })
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let postgres = &self.host.postgres;
        let password = Secret::from_file(&postgres.rewind_password_file)?;
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.primary.address)
            .port(self.primary.port)
            .user(&postgres.rewind_user)
            .password(password.reveal())
            .dbname(&postgres.database)
            .application_name("failover-ctl rejoin")
            .ssl_mode(postgres.sslmode.on_the_wire());
        let root_cert = postgres.sslrootcert.clone().map(RootCertificates::File);
        let tls = postgres::tls(postgres.sslmode, root_cert.as_ref())?;
        Ok(postgres::connect(&config, tls, PATIENCE, &self.tasks).await?)
    }
}

impl PrimarySession {
    /// Returns the primary's history. Denied access is a result; a missing answer is an error.
    pub(super) async fn path(&self) -> anyhow::Result<PrimaryHistory> {
        if self.timeline == Timeline::FIRST {
            return Ok(PrimaryHistory::Known(self.timeline, Vec::new()));
        }
        let file = format!("pg_wal/{}", WalFileName::History(self.timeline));
        // `pg_rewind` needs this function as well, unlike `pg_read_file`.
        let answer = self
            .query_row("select pg_read_binary_file($1)", &[&file])
            .await;
        let row = match answer.context("the primary did not respond in time")? {
            Ok(row) => row,
            Err(error) if error.as_db_error().is_some() => {
                let why = causeway_runtime::telemetry::chain(&error);
                return Ok(PrimaryHistory::Hidden(format!(
                    "could not read `{file}`: {why}"
                )));
            }
            Err(error) => return Err(error.into()),
        };
        let text: Vec<u8> = row.try_get(0)?;
        let ancestors = parse_history(&String::from_utf8_lossy(&text))?;
        Ok(PrimaryHistory::Known(self.timeline, ancestors))
    }

    async fn query_row(
        &self,
        question: &str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Result<Row, tokio_postgres::Error>, time::error::Elapsed> {
        time::timeout(PATIENCE, self.client.query_one(question, with)).await
    }

    /// Returns whether the primary still has one of these files in `pg_wal`.
    pub(super) async fn has_one_of(&self, names: &[String]) -> anyhow::Result<bool> {
        let row = self.query_row(HAS, &[&names]).await;
        Ok(row
            .context("the primary did not respond in time")??
            .try_get(0)?)
    }

    /// Waits until the primary's control file names its current timeline.
    pub(super) async fn checkpointed(&self) -> anyhow::Result<()> {
        // Not `poll::until`: the statements have no timeouts of their own, as a checkpoint may take minutes.
        let waiting = async {
            while !self.is_checkpointed().await? {
                // Only a superuser may request one, or since release 15 a member of `pg_checkpoint`. Without the
                // privilege, the agent waits for the checkpoint that the primary's own agent requests.
                self.client.batch_execute("checkpoint").await.ok();
                time::sleep(POLL_INTERVAL).await;
            }
            anyhow::Ok(())
        };
        time::timeout(CHECKPOINT, waiting)
            .await
            .context("the primary's first checkpoint on its timeline timed out")?
    }

    async fn is_checkpointed(&self) -> anyhow::Result<bool> {
        let row = self.client.query_one(CHECKPOINTED, &[]).await?;
        Ok(row.try_get(0)?)
    }

    /// Returns the tablespace directories of the primary by OID.
    pub(super) async fn tablespaces(&self) -> anyhow::Result<BTreeMap<u32, PathBuf>> {
        let mut tablespaces = BTreeMap::new();
        for row in self.client.query(TABLESPACES, &[]).await? {
            let place: String = row.try_get(1)?;
            tablespaces.insert(row.try_get(0)?, PathBuf::from(place));
        }
        Ok(tablespaces)
    }
}

const POSITION: &str = "
select case when not r.in_recovery
            then ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end,
       case when not r.in_recovery then pg_current_wal_flush_lsn() end::text,
       (pg_control_system()).system_identifier
  from (select pg_is_in_recovery() as in_recovery) r";

const CHECKPOINTED: &str = "select ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int \
                            = (pg_control_checkpoint()).timeline_id";

const HAS: &str = "select coalesce(bool_or((pg_stat_file('pg_wal/' || name, true)).size is not null), false) \
                   from unnest($1::text[]) name";

const TABLESPACES: &str = "select oid, pg_tablespace_location(oid) from pg_tablespace \
                           where pg_tablespace_location(oid) <> ''";
