//! How a node becomes a standby of the primary: by following, by rewinding what it has too much of,
//! or by a new copy.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ha_core::Timeline;
use ha_core::failover::observation::{Directory, Progress};
use ha_core::lsn::{SegmentName, SegmentSize, WalFileName, parse_history};
use ha_core::rejoin::{self, Way};
use ha_runtime::postgres::{self, RootCert};
use ha_runtime::secret::Secret;
use ha_runtime::shutdown::Tasks;
use tokio::process::Command;
use tokio::time;
use tokio_postgres::Client;
use tracing::{info, warn};

use crate::config::{HostSettings, NodeSettings};
use crate::data_directory;

/// How long another server may take to answer a small question.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the primary may take to write the checkpoint that shows its new timeline, without which
/// `pg_rewind` says that there is nothing to do.
const CHECKPOINT: Duration = Duration::from_mins(5);

/// This node's way to follow `primary`.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    pub(crate) host: HostSettings,
    pub(crate) primary: NodeSettings,
    pub(crate) tasks: Tasks,
}

/// What following takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: the directory can be started, or the server goes on, under these settings.
    Ready,
    /// The server has to be ended first, because what it has too much of must be rewound.
    EndFirst,
}

impl Follower {
    /// Makes replication's settings name the primary. Returns whether they were changed.
    pub(crate) fn settle(&self) -> anyhow::Result<bool> {
        let host = &self.host;
        self.write_password_file()?;
        let mut text = format!(
            "# Written by the agent of `{}`, read by PostgreSQL through guard's file.\n\
             primary_conninfo = '{}'\nrecovery_target_timeline = 'latest'\nhot_standby = on\n",
            host.node.name,
            quoted(&self.conninfo(&host.postgres.replication_user, None)),
        );
        if let Some(command) = &host.postgres.restore_command {
            text.extend(["restore_command = '", &quoted(command), "'\n"]);
        }
        let path = host.replication_conf();
        if fs::read_to_string(&path).is_ok_and(|it| it == text) {
            return Ok(false);
        }
        write_private(&path, &text)?;
        info!(primary = %self.primary.name, "replication follows");
        Ok(true)
    }

    /// Says what a server that runs needs in order to follow onto `timeline`: whether it has log that
    /// the primary's history does not.
    pub(crate) async fn need(&self, own: Progress, timeline: Timeline) -> anyhow::Result<Need> {
        if own.timeline >= timeline {
            return Ok(Need::Ready);
        }
        let client = self.ask_primary().await?;
        let history = history(&client, timeline).await?;
        match rejoin::way(own, &history) {
            Way::Follow => Ok(Need::Ready),
            Way::Rewind(why) => {
                warn!(%why, "this standby has diverged");
                Ok(Need::EndFirst)
            }
        }
    }

    /// Prepares a directory whose server has ended, so that it can be started as a standby.
    pub(crate) async fn prepare(&self, directory: Directory, rebuild: bool) -> anyhow::Result<()> {
        match directory {
            Directory::Standby | Directory::Primary if rebuild => {
                self.save_diverged().await?;
                self.rebuild("a command asked for it").await
            }
            Directory::Standby => Ok(()),
            Directory::Primary => match self.rewind().await {
                Ok(()) => Ok(()),
                Err(error) => {
                    let error = format!("{error:#}");
                    warn!(
                        error,
                        "pg_rewind did not end well, so the directory is built anew"
                    );
                    self.rebuild("pg_rewind failed").await
                }
            },
            Directory::Empty => self.rebuild("the data directory is empty").await,
            Directory::Rewinding => self.rebuild("an earlier attempt was cut off").await,
        }
    }

    /// Rewinds a directory that has ended to where the primary's history left it. What it had beyond
    /// that is saved first.
    pub(crate) async fn rewind(&self) -> anyhow::Result<()> {
        let client = self.ask_primary().await?;
        checkpointed(&client).await?;
        self.save_diverged().await?;
        let host = &self.host;
        let data = &host.postgres.data_directory;
        self.write_password_file()?;
        mark(&host.rewinding_marker())?;
        // A single-user server, by which pg_rewind recovers a directory that was not shut down,
        // refuses standby mode.
        data_directory::remove_standby_signal(data)?;
        let mut command = Command::new(host.program("pg_rewind"));
        command
            .arg("--target-pgdata")
            .arg(data)
            .arg("--source-server")
            .arg(self.conninfo(&host.postgres.rewind_user, Some(&host.postgres.database)))
            .arg(format!(
                "--config-file={}",
                host.postgres.config_file.display()
            ));
        if host.postgres.restore_command.is_some() {
            command.arg("--restore-target-wal");
        }
        info!(source = %self.primary.name, "pg_rewind begins");
        run(command, "pg_rewind").await?;
        data_directory::put_standby_signal(data)?;
        unmark(&host.rewinding_marker())
    }

    /// Copies the whole primary into an emptied directory.
    async fn rebuild(&self, why: &'static str) -> anyhow::Result<()> {
        self.ask_primary().await?; // Nothing is emptied while there is nobody to copy.
        let host = &self.host;
        let data = &host.postgres.data_directory;
        self.write_password_file()?;
        mark(&host.rewinding_marker())?;
        info!(why, source = %self.primary.name, "the data directory is built anew");
        empty(data).await?;
        let mut command = Command::new(host.program("pg_basebackup"));
        command
            .arg("--pgdata")
            .arg(data)
            .arg("--dbname")
            .arg(self.conninfo(&host.postgres.replication_user, None))
            .args(["--wal-method=stream", "--checkpoint=fast", "--no-password"]);
        run(command, "pg_basebackup").await?;
        data_directory::put_standby_signal(data)?;
        unmark(&host.rewinding_marker())
    }

    /// Keeps the log that only this directory has, so that what was lost can be examined.
    async fn save_diverged(&self) -> anyhow::Result<()> {
        let data = &self.host.postgres.data_directory;
        let Some(timeline) = data_directory::control(data)
            .ok()
            .and_then(|it| it.timeline)
        else {
            return Ok(());
        };
        let client = self.ask_primary().await?;
        let row = client.query_one(SAVING, &[]).await?;
        let newest: i32 = row.try_get(0)?;
        let size: i64 = row.try_get(1)?;
        let newest = u32::try_from(newest)
            .ok()
            .and_then(Timeline::new)
            .context("no timeline")?;
        let size = u64::try_from(size)
            .ok()
            .and_then(SegmentSize::new)
            .unwrap_or(SegmentSize::DEFAULT);
        let history = history(&client, newest).await?;
        let Some(fork) = history.iter().find(|it| it.timeline == timeline) else {
            return Ok(());
        };
        let first = SegmentName::containing(timeline, fork.left_at, size);
        let to = self.host.agent.state_directory.join(format!(
            "diverged/{timeline}-{}",
            fork.left_at.to_string().replace('/', "-")
        ));
        let from = data.join("pg_wal");
        let copied = tokio::task::spawn_blocking(move || copy_from(&from, &to, first)).await??;
        info!(copied, %timeline, left_at = %fork.left_at, "diverged log is saved");
        Ok(())
    }

    async fn ask_primary(&self) -> anyhow::Result<Client> {
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
        let root_cert = postgres.root_certificate.clone().map(RootCert::File);
        let tls = postgres::tls(postgres.sslmode, root_cert.as_ref())?;
        let client = postgres::connect(&config, tls, PATIENCE, &self.tasks).await;
        client.with_context(|| format!("could not ask the primary, `{}`", self.primary.name))
    }

    /// Returns a libpq connection string; the password is in the file that it names.
    fn conninfo(&self, user: &str, database: Option<&str>) -> String {
        let postgres = &self.host.postgres;
        let mut text = format!(
            "host={} port={} user={user} passfile={} application_name={} sslmode={} connect_timeout=3 \
             keepalives_idle=5 keepalives_interval=2 keepalives_count=3",
            self.primary.address,
            self.primary.port,
            self.password_file().display(),
            self.host.node.name,
            sslmode(postgres.sslmode),
        );
        if let Some(certificate) = &postgres.root_certificate {
            text.extend([" sslrootcert=", &certificate.to_string_lossy()]);
        }
        if let Some(database) = database {
            text.extend([" dbname=", database]);
        }
        text
    }

    fn password_file(&self) -> PathBuf {
        self.host.agent.state_directory.join("pgpass")
    }

    /// Writes libpq's password file, which is how a password reaches PostgreSQL's own programs without
    /// being in a command line or in its settings.
    fn write_password_file(&self) -> anyhow::Result<()> {
        let postgres = &self.host.postgres;
        let mut text = String::new();
        for (user, file) in [
            (
                &postgres.replication_user,
                &postgres.replication_password_file,
            ),
            (&postgres.rewind_user, &postgres.rewind_password_file),
        ] {
            let password = Secret::from_file(file)?;
            let escaped = password.reveal().replace('\\', "\\\\").replace(':', "\\:");
            text.extend(["*:*:*:", user, ":", &escaped, "\n"]);
        }
        let path = self.password_file();
        if fs::read_to_string(&path).is_ok_and(|it| it == text) {
            return Ok(());
        }
        write_private(&path, &text)
    }
}

const SAVING: &str = "select (pg_control_checkpoint()).timeline_id, \
                      (select setting::bigint from pg_settings where name = 'wal_segment_size')";

async fn history(
    client: &Client,
    timeline: Timeline,
) -> anyhow::Result<Vec<ha_core::lsn::Ancestor>> {
    if timeline == Timeline::FIRST {
        return Ok(Vec::new());
    }
    let file = format!("pg_wal/{}", WalFileName::History(timeline));
    let row = client.query_one("select pg_read_file($1)", &[&file]).await;
    let text: String = row
        .context("could not read the primary's timeline history")?
        .try_get(0)?;
    Ok(parse_history(&text)?)
}

/// Waits until the primary's control file shows the timeline that it writes on.
async fn checkpointed(client: &Client) -> anyhow::Result<()> {
    const QUESTION: &str = "select ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int \
                            = (pg_control_checkpoint()).timeline_id";
    let waiting = async {
        loop {
            if client
                .query_one(QUESTION, &[])
                .await?
                .try_get::<_, bool>(0)?
            {
                return anyhow::Ok(());
            }
            // The checkpoint itself is what is waited for: the statement returns when it is there.
            client.batch_execute("checkpoint").await?;
        }
    };
    time::timeout(CHECKPOINT, waiting)
        .await
        .context("the primary's first checkpoint took too long")?
}

fn copy_from(from: &Path, to: &Path, first: SegmentName) -> anyhow::Result<usize> {
    fs::create_dir_all(to)?;
    let mut copied = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let parsed = name.to_str().and_then(|it| it.parse::<WalFileName>().ok());
        if let Some(WalFileName::Segment(segment)) = parsed
            && segment.timeline == first.timeline
            && segment >= first
        {
            fs::copy(entry.path(), to.join(&name))?;
            copied += 1;
        }
    }
    Ok(copied)
}

async fn empty(data: &Path) -> anyhow::Result<()> {
    let data = data.to_owned();
    let emptying = move || -> anyhow::Result<()> {
        fs::create_dir_all(&data)?;
        for entry in fs::read_dir(&data)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&data, mode)?;
        Ok(())
    };
    tokio::task::spawn_blocking(emptying)
        .await?
        .context("could not empty the data directory")
}

async fn run(mut command: Command, name: &'static str) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .env("PGCONNECT_TIMEOUT", "5")
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("could not run `{name}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        info!(program = name, said = said.trim(), "ended well");
        return Ok(());
    }
    bail!("`{name}` ended with {}: {}", output.status, said.trim())
}

fn mark(path: &Path) -> anyhow::Result<()> {
    File::create(path)?.sync_all()?;
    sync_parent(path)
}

fn unmark(path: &Path) -> anyhow::Result<()> {
    fs::remove_file(path)?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Writes a file that only this user reads, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path).with_context(|| format!("could not write `{}`", path.display()))
}

fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}

fn sslmode(mode: postgres::SslMode) -> &'static str {
    match mode {
        postgres::SslMode::Disable => "disable",
        postgres::SslMode::Prefer => "prefer",
        postgres::SslMode::Require => "require",
        postgres::SslMode::VerifyCa => "verify-ca",
        postgres::SslMode::VerifyFull => "verify-full",
    }
}
