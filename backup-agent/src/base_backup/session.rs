//! Connection that keeps a backup open: PostgreSQL ends the backup with the connection.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use causeway_core::backup::WallTime;
use causeway_core::lsn::SegmentSize;
use causeway_core::{Lsn, Timeline};
use causeway_runtime::postgres::{self, SslMode};
use causeway_runtime::secret::Secret;
use causeway_runtime::shutdown::Tasks;
use clap::ValueEnum;
use tokio::time;
use tokio_postgres::Client;

use crate::base_backup::bounded_client::BoundedClient;
use crate::base_backup::timeline;
use crate::base_backup::timeline::Timelines;
use crate::config::ServerTimeouts;
use crate::config::postgres::{Host, ServerAddress};
use crate::error::Error;

/// Timeout of a query. A server on this host responds at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// First version with `pg_backup_start` under this name: 15.
const RENAMED_IN: u32 = 150_000;

/// Interval of checking that the connection is open.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Interval of queries meanwhile: a host that has failed closes no connection.
const QUERY_INTERVAL: Duration = Duration::from_secs(5);

const STATEMENT_SETTING: &str = "limits.statement-timeout-secs";
const CHECKPOINT_SETTING: &str = "limits.checkpoint-timeout-secs";

/// Kind of the checkpoint that begins a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Checkpoint {
    /// Immediate: the backup begins sooner, with a peak of disk writes.
    Fast,
    /// Spread like other checkpoints (`checkpoint_completion_target`): takes minutes.
    Spread,
}

/// Connection to the server.
pub(crate) struct Session {
    client: BoundedClient,
    timeouts: ServerTimeouts,
    version: u32,
}

/// Properties of the server.
pub(crate) struct ServerInfo {
    /// `server_version_num`.
    pub(crate) version: u32,
    /// Size of a WAL segment.
    pub(crate) segment_size: SegmentSize,
    /// Whether pages have checksums.
    pub(crate) checksums: bool,
    /// Version of its system catalogs.
    pub(crate) catalog_version: u32,
    /// Whether it is a standby.
    pub(crate) is_standby: bool,
    /// `archive_timeout` in seconds, after which an incomplete segment is ended; 0 for never.
    pub(crate) archive_timeout_secs: u64,
}

impl ServerInfo {
    /// Returns the name of this server's directory in each tablespace
    /// (`TABLESPACE_VERSION_DIRECTORY`).
    pub(crate) fn version_directory(&self) -> String {
        format!("PG_{}_{}", self.version / 10_000, self.catalog_version)
    }
}

/// Start of a backup.
pub(crate) struct StartedBackup {
    /// LSN from which replay begins.
    pub(crate) lsn: Lsn,
    /// Time on the server's clock.
    pub(crate) at: WallTime,
}

/// End of a backup.
pub(crate) struct StoppedBackup {
    /// LSN at which it is consistent.
    pub(crate) lsn: Lsn,
    /// The only timeline of the backup.
    pub(crate) timeline: Timeline,
    /// Time on the server's clock, or the end of the last transaction that it has replayed if that
    /// is later: a standby's clock may be behind its primary's.
    pub(crate) at: WallTime,
    /// Content of `backup_label`.
    pub(crate) backup_label: String,
    /// Content of `tablespace_map`.
    pub(crate) tablespace_map: String,
}

impl Session {
    /// Connects to the server.
    pub(crate) async fn connect(
        server: &ServerAddress,
        timeouts: ServerTimeouts,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let client = connect(server, tasks).await.map_err(Error::Postgres)?;
        let client = BoundedClient::new(client, timeouts.statement, STATEMENT_SETTING);
        let version = number(&client, "SHOW server_version_num").await;
        let version = version.map_err(Error::Postgres)?;
        Ok(Self {
            client,
            timeouts,
            version,
        })
    }

    /// Returns `server_version_num`.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Returns the client.
    pub(super) fn client(&self) -> &BoundedClient {
        &self.client
    }

    /// Queries whether the server is a standby.
    pub(crate) async fn is_standby(&self) -> anyhow::Result<bool> {
        let row = self.client.query_one("SELECT pg_is_in_recovery()", &[]);
        Ok(row.await?.try_get(0)?)
    }

    /// Reads the catalog of the database, and returns the number of relations.
    pub(crate) async fn relations(&self) -> anyhow::Result<i64> {
        let row = self
            .client
            .query_one("SELECT count(*) FROM pg_catalog.pg_class", &[]);
        Ok(row.await?.try_get(0)?)
    }

    /// Returns the value of a setting, or `None` if it does not exist or this user may not read it.
    pub(super) async fn visible_setting(&self, name: &str) -> anyhow::Result<Option<String>> {
        let sql = "SELECT setting FROM pg_settings WHERE name = $1";
        let row = self.client.query_opt(sql, &[&name]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Returns the value of a setting of the server.
    pub(crate) async fn setting(&self, name: &str) -> Result<String, Error> {
        let sql = "SELECT current_setting($1)";
        let row = self.client.query_one(sql, &[&name]).await;
        let value = row.and_then(|row| Ok(row.try_get(0)?));
        value.map_err(Error::Postgres)
    }

    /// Returns the file that the archiver failed to archive last, unless it has archived one since.
    pub(crate) async fn failing_segment(&self) -> Result<Option<String>, Error> {
        let sql = "SELECT last_failed_wal FROM pg_stat_archiver \
                   WHERE last_failed_time > coalesce(last_archived_time, '-infinity')";
        let row = self.client.query_opt(sql, &[]).await;
        let name = row.and_then(|row| Ok(row.map(|row| row.try_get(0)).transpose()?));
        name.map_err(Error::Postgres)
    }

    /// Queries the properties of the server.
    pub(crate) async fn describe(&self) -> Result<ServerInfo, Error> {
        self.try_describe().await.map_err(Error::Postgres)
    }

    async fn try_describe(&self) -> anyhow::Result<ServerInfo> {
        let sql = "SELECT i.bytes_per_wal_segment, i.database_block_size, \
                   i.data_page_checksum_version <> 0, s.catalog_version_no, pg_is_in_recovery() \
                   FROM pg_control_system() s, pg_control_init() i";
        let row = self.client.query_one(sql, &[]).await?;
        let block_bytes: i32 = row.try_get(1)?;
        ensure!(
            block_bytes == 8192,
            "the server has pages of {block_bytes} bytes, and only 8192 are supported"
        );
        let segment_bytes: i32 = row.try_get(0)?;
        let segment_size = u64::try_from(segment_bytes).ok().and_then(SegmentSize::new);
        let catalog_version: i32 = row.try_get(3)?;
        let archive_timeout = self.visible_setting("archive_timeout").await?;
        Ok(ServerInfo {
            version: self.version,
            segment_size: segment_size.context("the server reports no segment size")?,
            checksums: row.try_get(2)?,
            catalog_version: u32::try_from(catalog_version)?,
            is_standby: row.try_get(4)?,
            archive_timeout_secs: archive_timeout.map_or(Ok(0), |seconds| seconds.parse())?,
        })
    }

    /// Waits until the backup cannot be completed any more, and returns why: the connection is
    /// lost, or a standby was promoted.
    pub(crate) async fn lost(&self, server: &ServerInfo) -> Error {
        let mut asked_at = time::Instant::now();
        loop {
            time::sleep(CHECK_INTERVAL).await;
            if self.client.is_closed() {
                return Error::Postgres(anyhow::anyhow!(
                    "the connection that holds the backup open was lost"
                ));
            }
            if asked_at.elapsed() < QUERY_INTERVAL {
                continue;
            }
            asked_at = time::Instant::now();
            match self.is_standby().await {
                Ok(is_standby) if is_standby == server.is_standby => {}
                Ok(_) => return timeline::promoted_error(),
                Err(error) => return Error::Postgres(error),
            }
        }
    }

    /// Begins a backup.
    pub(crate) async fn start(
        &self,
        server: &ServerInfo,
        label: &str,
        checkpoint: Checkpoint,
    ) -> Result<StartedBackup, Error> {
        let started = self.try_start(label, checkpoint).await;
        let started = started.map_err(Error::Postgres)?;
        let timelines = self.timelines(server).await.map_err(Error::Postgres)?;
        timelines.only(timelines.of_checkpoint)?;
        Ok(started)
    }

    async fn try_start(
        &self,
        label: &str,
        checkpoint: Checkpoint,
    ) -> anyhow::Result<StartedBackup> {
        // A statement timeout must not end the checkpoint of a large cache.
        self.client
            .batch_execute("SET statement_timeout = 0; SET idle_session_timeout = 0")
            .await
            .or(self.client.batch_execute("SET statement_timeout = 0").await)?;
        let now = self.micros("clock_timestamp()").await?;
        let sql = if self.version >= RENAMED_IN {
            "SELECT pg_backup_start($1, fast => $2)::text"
        } else {
            "SELECT pg_start_backup($1, $2, false)::text"
        };
        let is_fast = checkpoint == Checkpoint::Fast;
        let mut timeout = self.timeouts.checkpoint;
        if !is_fast {
            timeout += self.checkpoint_timeout().await?;
        }
        let client = self.client.with_timeout(timeout, CHECKPOINT_SETTING);
        let row = client.query_one(sql, &[&label, &is_fast]).await?;
        let lsn: String = row.try_get(0)?;
        Ok(StartedBackup {
            lsn: lsn.parse()?,
            at: now,
        })
    }

    /// Returns the maximum duration of a spread checkpoint.
    async fn checkpoint_timeout(&self) -> anyhow::Result<Duration> {
        let sql = "SELECT setting::bigint FROM pg_settings WHERE name = 'checkpoint_timeout'";
        let seconds: i64 = self.client.query_one(sql, &[]).await?.try_get(0)?;
        Ok(Duration::from_secs(u64::try_from(seconds)?))
    }

    /// Ends the backup. Its WAL is awaited in the archive itself.
    pub(crate) async fn stop(&self, server: &ServerInfo) -> Result<StoppedBackup, Error> {
        let stopped = self.try_stop().await;
        // PostgreSQL refuses to end a backup after a promotion, which the timelines identify.
        let timelines = self.timelines(server).await;
        if let Ok(timelines) = &timelines {
            timelines.refuse_promotion()?;
        }
        let mut stopped = stopped.map_err(Error::Postgres)?;
        let timelines = timelines.map_err(Error::Postgres)?;
        stopped.timeline = timelines.only(stopped.timeline.get())?;
        Ok(stopped)
    }

    async fn try_stop(&self) -> anyhow::Result<StoppedBackup> {
        // The map is NULL in a cluster without tablespaces.
        let sql = if self.version >= RENAMED_IN {
            "SELECT lsn::text, labelfile, coalesce(spcmapfile, '') \
             FROM pg_backup_stop(wait_for_archive => false)"
        } else {
            "SELECT lsn::text, labelfile, coalesce(spcmapfile, '') FROM pg_stop_backup(false, false)"
        };
        let client = self
            .client
            .with_timeout(self.timeouts.checkpoint, CHECKPOINT_SETTING);
        let row = client.query_one(sql, &[]).await?;
        let lsn: String = row.try_get(0)?;
        let backup_label: String = row.try_get(1)?;
        let at = "greatest(clock_timestamp(), pg_last_xact_replay_timestamp())";
        Ok(StoppedBackup {
            lsn: lsn.parse()?,
            timeline: timeline::timeline_of_label(&backup_label)?,
            at: self.micros(at).await?,
            backup_label,
            tablespace_map: row.try_get(2)?,
        })
    }

    /// Ends the current segment, on a primary.
    pub(crate) async fn end_segment(&self) -> Result<(), Error> {
        let ended = self.client.query_one("SELECT pg_switch_wal()", &[]).await;
        ended.map(drop).map_err(Error::Postgres)
    }

    async fn timelines(&self, server: &ServerInfo) -> anyhow::Result<Timelines> {
        let sql = "SELECT pg_is_in_recovery(), c.timeline_id, r.min_recovery_end_timeline \
                   FROM pg_control_checkpoint() c, pg_control_recovery() r";
        let row = self.client.query_one(sql, &[]).await?;
        Ok(Timelines {
            was_standby: server.is_standby,
            is_standby: row.try_get(0)?,
            of_checkpoint: u32::try_from(row.try_get::<_, i32>(1)?)?,
            of_consistency: u32::try_from(row.try_get::<_, i32>(2)?)?,
        })
    }

    /// Returns a time of the server.
    async fn micros(&self, time: &str) -> anyhow::Result<WallTime> {
        let sql = format!("SELECT (extract(epoch FROM {time}) * 1000000)::bigint");
        let row = self.client.query_one(&sql, &[]).await?;
        Ok(WallTime::from_micros(row.try_get(0)?))
    }
}

async fn connect(server: &ServerAddress, tasks: &Tasks) -> anyhow::Result<Client> {
    let mut settings = tokio_postgres::Config::new();
    settings
        .port(server.port)
        .user(&server.user)
        .dbname(&server.database)
        .application_name("backup-agent")
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(30));
    let mode = match &server.host {
        Host::Socket(directory) => {
            settings.host_path(directory);
            SslMode::Disable
        }
        Host::Address(address) => {
            settings.host(address);
            SslMode::Prefer
        }
    };
    settings.ssl_mode(mode.on_the_wire());
    if let Some(path) = &server.password_file {
        settings.password(Secret::from_file(path)?.reveal());
    }
    let tls = postgres::tls(mode, None)?;
    Ok(postgres::connect(&settings, tls, CONNECT_TIMEOUT, tasks).await?)
}

async fn number(client: &BoundedClient, sql: &str) -> anyhow::Result<u32> {
    let row = client.query_one(sql, &[]).await?;
    let text: String = row.try_get(0)?;
    text.parse().context("the server's answer is not a number")
}
