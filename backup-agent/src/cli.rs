//! The command line: all commands and flags, from which the reference and the man pages are
//! generated.

use std::path::PathBuf;

use causeway_core::backup::{BackupId, RecoveryTarget, WallTime};
use causeway_core::lsn::{SegmentName, WalFileName};
use causeway_core::{Lsn, Timeline};
use causeway_runtime::telemetry::LogFormat;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;

use crate::base_backup::session::Checkpoint;
use crate::restore::request::{Archiving, TargetAction};

/// Encrypted base backups and WAL archive of PostgreSQL, in S3 buckets of two regions.
#[derive(Debug, Parser)]
#[command(name = "backup-agent", version)]
pub(crate) struct Cli {
    /// Settings file
    #[arg(
        long,
        global = true,
        env = "BACKUP_AGENT_CONFIG",
        default_value = "/etc/causeway/backup-agent.toml"
    )]
    pub(crate) config: PathBuf,
    /// Log filter, such as `info` or `backup_agent=debug,warn`
    #[arg(
        long,
        global = true,
        env = "BACKUP_AGENT_LOG",
        default_value = "warn,backup_agent=info"
    )]
    pub(crate) log: String,
    /// Log one JSON object per line
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Returns the format of log lines.
    pub(crate) fn log_format(&self) -> LogFormat {
        if self.log_json {
            return LogFormat::Json;
        }
        LogFormat::Logfmt
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take a base backup
    Backup(BackupArgs),
    /// Archive, fetch and backfill WAL files
    #[command(subcommand)]
    Wal(WalCommand),
    /// Restore a backup into an empty directory, without starting PostgreSQL
    Restore(RestoreArgs),
    /// Query a restored server, and record for the metrics that the restore is verified
    VerifyRestore(VerifyRestoreArgs),
    /// List the backups
    List(ListArgs),
    /// Check the settings, the buckets and the server
    Check(CheckArgs),
    /// Print `primary` or `standby`, as the server is; a schedule skips the standbys
    Role,
    /// Generate a key pair: an identity file for hosts that restore, and a recipient for the settings
    Keygen(KeygenArgs),
    /// Write this program's reference, man pages and completions
    #[command(hide = true)]
    Reference {
        /// Output directory
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Label of the backup, stored encrypted
    #[arg(long, default_value = "causeway")]
    pub(crate) label: String,
    /// Checkpoint mode at the start of the backup
    #[arg(long, value_enum, default_value_t = Checkpoint::Fast)]
    pub(crate) checkpoint: Checkpoint,
    /// Store this file despite its damaged pages, named as in the error; once per file
    #[arg(long, value_name = "FILE")]
    pub(crate) accept_damaged: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Archive one file: the `archive_command` of PostgreSQL, with `%p`
    Push {
        /// Path of the file
        path: PathBuf,
    },
    /// Fetch one file: the `restore_command` of PostgreSQL, with `%f` and `%p`
    Fetch(WalFetchArgs),
    /// Copy to each bucket the objects that it lacks and another has
    Backfill(WalBackfillArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WalFetchArgs {
    /// Name of the file
    pub(crate) name: String,
    /// Path to write it to
    pub(crate) path: PathBuf,
    /// Read only from this bucket or region
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Exit with 1 only at the end of the archive, and with 255, which stops PostgreSQL, on any failure
    #[arg(long)]
    pub(crate) recovery: bool,
    /// Timeline that recovery follows; WAL of other timelines does not count
    #[arg(long, requires = "recovery", value_parser = timeline)]
    pub(crate) target_timeline: Option<Timeline>,
    /// Last segment that `restore` found; recovery stops if a segment before it is missing
    #[arg(long, requires = "target_timeline", value_parser = segment)]
    pub(crate) known_end: Option<SegmentName>,
    /// Newest timeline that `restore --standby` found: until the server is on a later one, wait for each bucket that does
    /// not respond, because PostgreSQL could take a failure for the end of the archive
    #[arg(long, conflicts_with = "recovery", value_parser = timeline)]
    pub(crate) restored_on: Option<Timeline>,
    /// How long to retry a failing bucket, in seconds [default: 0; 300 with `--recovery`]
    #[arg(long)]
    pub(crate) retry_timeout_secs: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct WalBackfillArgs {
    /// System identifier, where several PostgreSQL clusters are stored under one name
    #[arg(long)]
    pub(crate) system_id: Option<u64>,
    /// Also copy objects older than everything in a bucket, for a new bucket
    #[arg(long)]
    pub(crate) all: bool,
    /// Copy the objects that pushes and backups recorded as missing or, with a system identifier,
    /// compare the buckets, unless another process does so
    #[arg(long, hide = true, conflicts_with = "all")]
    pub(crate) background: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Directory to restore into: empty but for a link `pg_wal`, missing, or with an interrupted restore
    #[arg(long)]
    pub(crate) target_directory: PathBuf,
    #[command(flatten)]
    pub(crate) target: RestoreTarget,
    /// Timeline to follow [default: the newest]
    #[arg(long, value_parser = timeline)]
    pub(crate) target_timeline: Option<Timeline>,
    /// Backup to start from [default: the newest that reaches the target]
    #[arg(long)]
    pub(crate) backup: Option<BackupId>,
    /// Read only from this bucket or region
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Stop before the target time, position or transaction instead of after it
    #[arg(long)]
    pub(crate) target_exclusive: bool,
    /// Action once the target is reached [default: pause; without a target PostgreSQL promotes]
    #[arg(long, value_enum)]
    pub(crate) target_action: Option<TargetAction>,
    /// Restore a standby, which follows a primary
    #[arg(long, conflicts_with_all = ["target_action", "target_exclusive", "target_time", "target_lsn", "target_name", "target_xid", "target_immediate"])]
    pub(crate) standby: bool,
    /// Whether the restored server archives its own WAL [default: off; preserve for a standby]
    #[arg(long, value_enum)]
    pub(crate) archive_mode: Option<Archiving>,
    /// New location of a tablespace, as OLD=NEW, once per tablespace; OLD=OLD keeps the location
    #[arg(long, value_parser = mapping)]
    pub(crate) tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Parent directory for tablespaces without a mapping, each named by its OID
    #[arg(long)]
    pub(crate) tablespace_directory: Option<PathBuf>,
    /// System identifier, where several PostgreSQL clusters are stored under one name
    #[arg(long)]
    pub(crate) system_id: Option<u64>,
    /// How long to retry while no bucket responds, in seconds
    #[arg(long, default_value_t = 300)]
    pub(crate) retry_timeout_secs: u64,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyRestoreArgs {
    /// Target directory of the last `restore` on this host, on which PostgreSQL runs
    #[arg(long)]
    pub(crate) target_directory: PathBuf,
    /// Directory of the restored server's Unix socket
    #[arg(long)]
    pub(crate) socket_directory: PathBuf,
    /// Port of the restored server
    #[arg(long, default_value_t = 5432)]
    pub(crate) port: u16,
    /// Time at which it first answered after its recovery, in seconds since 1970 [default: now]
    #[arg(long)]
    pub(crate) answered_at: Option<i64>,
}

/// Recovery target; without one, the end of the archive.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct RestoreTarget {
    /// Last commit at or before this time, such as `2026-11-20T20:15:00Z`
    #[arg(long, value_parser = time)]
    target_time: Option<WallTime>,
    /// WAL position, such as `16/B374D848`
    #[arg(long)]
    target_lsn: Option<Lsn>,
    /// Name of a restore point
    #[arg(long)]
    target_name: Option<String>,
    /// Commit of this transaction
    #[arg(long, value_parser = clap::value_parser!(u64).range(3..))]
    target_xid: Option<u64>,
    /// End of the backup, the first consistent state
    #[arg(long)]
    target_immediate: bool,
}

impl From<RestoreTarget> for RecoveryTarget {
    fn from(written: RestoreTarget) -> Self {
        let time = written.target_time.map(Self::Time);
        let lsn = written.target_lsn.map(Self::Lsn);
        let name = written.target_name.map(Self::Name);
        let xid = written.target_xid.map(Self::Xid);
        let immediate = written.target_immediate.then_some(Self::Immediate);
        let target = time.or(lsn).or(name).or(xid).or(immediate);
        target.unwrap_or(Self::Latest)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// System identifier, where several PostgreSQL clusters are stored under one name
    #[arg(long)]
    pub(crate) system_id: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Check nothing but the settings file
    #[arg(long, conflicts_with = "before_install")]
    pub(crate) settings_only: bool,
    /// Skip what an installation brings: PostgreSQL, its directories, and an identity file that is missing. The buckets
    /// must then hold no database under the cluster's name
    #[arg(long)]
    pub(crate) before_install: bool,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl CheckArgs {
    /// Returns whether the files are those of an installed host, which the units must be able to read.
    pub(crate) fn judges_files(&self) -> bool {
        !self.settings_only && !self.before_install
    }
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Identity file to create, readable only by its owner
    #[arg(long)]
    pub(crate) output: PathBuf,
}

fn time(text: &str) -> Result<WallTime, String> {
    let time: Timestamp = text.parse().map_err(|error: jiff::Error| {
        format!("{error}; write it with its offset, such as `2026-11-20T20:15:00Z`")
    })?;
    Ok(WallTime::from_micros(time.as_microsecond()))
}

fn timeline(text: &str) -> Result<Timeline, String> {
    let number = text.parse().ok().and_then(Timeline::new);
    number.ok_or_else(|| "a timeline is a number from 1".to_owned())
}

fn segment(text: &str) -> Result<SegmentName, String> {
    match text.parse() {
        Ok(WalFileName::Segment(segment)) => Ok(segment),
        _ => Err("a segment is named by 24 hexadecimal digits".to_owned()),
    }
}

fn mapping(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (old, new) = text.split_once('=').ok_or("write it as OLD=NEW")?;
    Ok((PathBuf::from(old), PathBuf::from(new)))
}
