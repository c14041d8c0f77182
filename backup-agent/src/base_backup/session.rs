//! The connection that holds a backup open: PostgreSQL ends the backup when it ends.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ha_core::backup::WallTime;
use ha_core::lsn::SegmentSize;
use ha_core::{Lsn, Timeline};
use ha_runtime::postgres::{self, SslMode};
use ha_runtime::secret::Secret;
use ha_runtime::shutdown::Tasks;
use tokio_postgres::{Client, Row};

use crate::config::{Host, PostgresConfig};
use crate::error::Failure;

/// A server on this host answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// `pg_backup_start` has had this name since 15.
const RENAMED_IN: u32 = 150_000;

/// A connection to the server.
pub(crate) struct Session {
    client: Client,
    version: u32,
}

/// What the server says of itself.
pub(crate) struct Server {
    /// `server_version_num`.
    pub(crate) version: u32,
    /// How large a segment is.
    pub(crate) segment_size: SegmentSize,
    /// Whether pages carry checksums.
    pub(crate) checksums: bool,
}

/// Where a backup began.
pub(crate) struct Started {
    /// The position from which replay begins.
    pub(crate) lsn: Lsn,
    /// The timeline.
    pub(crate) timeline: Timeline,
    /// The server's clock.
    pub(crate) at: WallTime,
}

/// Where a backup ended.
pub(crate) struct Stopped {
    /// The position at which it is consistent.
    pub(crate) lsn: Lsn,
    /// The timeline at that moment.
    pub(crate) timeline: Timeline,
    /// The server's clock.
    pub(crate) at: WallTime,
    /// The content of `backup_label`.
    pub(crate) backup_label: String,
    /// The content of `tablespace_map`.
    pub(crate) tablespace_map: String,
}

impl Session {
    /// Connects.
    pub(crate) async fn connect(config: &PostgresConfig, tasks: &Tasks) -> Result<Self, Failure> {
        let client = connect(config, tasks).await.map_err(Failure::Postgres)?;
        let version = number(&client, "SHOW server_version_num").await;
        let version = version.map_err(Failure::Postgres)?;
        Ok(Self { client, version })
    }

    /// Returns `server_version_num`.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Returns the value of a setting of the server's.
    pub(crate) async fn setting(&self, name: &str) -> Result<String, Failure> {
        let sql = "SELECT current_setting($1)";
        let row = self.client.query_one(sql, &[&name]).await;
        let value = row.and_then(|it| it.try_get(0));
        value.map_err(|it| Failure::Postgres(it.into()))
    }

    /// Asks the server about itself, and makes sure that its files are the ones of `system_id`.
    pub(crate) async fn describe(&self, system_id: u64) -> Result<Server, Failure> {
        self.try_describe(system_id)
            .await
            .map_err(Failure::Postgres)
    }

    async fn try_describe(&self, system_id: u64) -> anyhow::Result<Server> {
        let sql = "SELECT s.system_identifier::text, i.bytes_per_wal_segment, \
                   i.database_block_size, i.data_page_checksum_version <> 0, \
                   current_setting('full_page_writes')::bool OR NOT pg_is_in_recovery() \
                   FROM pg_control_system() s, pg_control_init() i";
        let row = self.client.query_one(sql, &[]).await?;
        let found: String = row.try_get(0)?;
        ensure!(
            found == system_id.to_string(),
            "the server is cluster {found}, and `data-directory` holds cluster {system_id}"
        );
        let block_bytes: i32 = row.try_get(2)?;
        ensure!(
            block_bytes == 8192,
            "the server has pages of {block_bytes} bytes, and only 8192 are known here"
        );
        let segment_bytes: i32 = row.try_get(1)?;
        let segment_size = u64::try_from(segment_bytes).ok().and_then(SegmentSize::new);
        Ok(Server {
            version: self.version,
            segment_size: segment_size.context("the server names no size of a segment")?,
            checksums: row.try_get(3)?,
        })
    }

    /// Begins a backup, with a checkpoint at once.
    pub(crate) async fn start(&mut self, label: &str) -> Result<Started, Failure> {
        self.try_start(label).await.map_err(Failure::Postgres)
    }

    async fn try_start(&self, label: &str) -> anyhow::Result<Started> {
        // A setting that limits statements must not end a checkpoint of a large cache.
        self.client
            .batch_execute("SET statement_timeout = 0; SET idle_session_timeout = 0")
            .await
            .or(self.client.batch_execute("SET statement_timeout = 0").await)?;
        let now = self.now().await?;
        let sql = if self.version >= RENAMED_IN {
            "SELECT pg_backup_start($1, fast => true)::text"
        } else {
            "SELECT pg_start_backup($1, true, false)::text"
        };
        let row = self.client.query_one(sql, &[&label]).await?;
        let lsn: String = row.try_get(0)?;
        Ok(Started {
            lsn: lsn.parse()?,
            timeline: self.timeline().await?,
            at: now,
        })
    }

    /// Ends the backup. Whether its log is archived is looked for in the archive itself.
    pub(crate) async fn stop(&self) -> Result<Stopped, Failure> {
        self.try_stop().await.map_err(Failure::Postgres)
    }

    async fn try_stop(&self) -> anyhow::Result<Stopped> {
        let sql = if self.version >= RENAMED_IN {
            "SELECT lsn::text, labelfile, spcmapfile FROM pg_backup_stop(wait_for_archive => false)"
        } else {
            "SELECT lsn::text, labelfile, spcmapfile FROM pg_stop_backup(false, false)"
        };
        let row: Row = self.client.query_one(sql, &[]).await?;
        let lsn: String = row.try_get(0)?;
        Ok(Stopped {
            lsn: lsn.parse()?,
            timeline: self.timeline().await?,
            at: self.now().await?,
            backup_label: row.try_get(1)?,
            tablespace_map: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
        })
    }

    async fn timeline(&self) -> anyhow::Result<Timeline> {
        let found = number(
            &self.client,
            "SELECT timeline_id::text FROM pg_control_checkpoint()",
        );
        Timeline::new(found.await?).context("the server names timeline 0")
    }

    async fn now(&self) -> anyhow::Result<WallTime> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let row = self.client.query_one(sql, &[]).await?;
        Ok(WallTime::from_micros(row.try_get(0)?))
    }
}

async fn connect(config: &PostgresConfig, tasks: &Tasks) -> anyhow::Result<Client> {
    let mut settings = tokio_postgres::Config::new();
    settings
        .port(config.port)
        .user(&config.user)
        .dbname(&config.database)
        .application_name("backup-agent")
        .connect_timeout(PATIENCE);
    let mode = match &config.host {
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
    if let Some(path) = &config.password_file {
        settings.password(Secret::from_file(path)?.reveal());
    }
    let tls = postgres::tls(mode, None)?;
    Ok(postgres::connect(&settings, tls, PATIENCE, tasks).await?)
}

async fn number(client: &Client, sql: &str) -> anyhow::Result<u32> {
    let row = client.query_one(sql, &[]).await?;
    let text: String = row.try_get(0)?;
    text.parse().context("the server's answer is not a number")
}
