//! Every command and flag, and nothing else: the manual page is made from it.

use std::path::PathBuf;

use causeway_core::backup::{BackupId, RecoveryTarget, WallTime};
use causeway_core::lsn::{SegmentName, WalFileName};
use causeway_core::{Lsn, Timeline};
use causeway_runtime::telemetry::LogFormat;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;

use crate::base_backup::session::Checkpoint;
use crate::restore::request::{Archiving, TargetAction};

/// Encrypted base backups and write-ahead log of PostgreSQL, in S3, in two regions.
#[derive(Debug, Parser)]
#[command(name = "backup-agent", version)]
pub(crate) struct Cli {
    /// The settings
    #[arg(
        long,
        global = true,
        env = "BACKUP_AGENT_CONFIG",
        default_value = "/etc/causeway/backup-agent.toml"
    )]
    pub(crate) config: PathBuf,
    /// What to log, such as `info` or `backup_agent=debug,warn`
    #[arg(
        long,
        global = true,
        env = "BACKUP_AGENT_LOG",
        default_value = "warn,backup_agent=info"
    )]
    pub(crate) log: String,
    /// Log one JSON object a line
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Returns how log lines are written.
    pub(crate) fn log_format(&self) -> LogFormat {
        if self.log_json {
            return LogFormat::Json;
        }
        LogFormat::Logfmt
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a base backup
    Backup(BackupArgs),
    /// Archive log files, and fetch them back
    #[command(subcommand)]
    Wal(WalCommand),
    /// Restore a backup into an empty directory, ready to be started
    Restore(RestoreArgs),
    /// List the backups
    List(ListArgs),
    /// Check the settings, the buckets and the server
    Check(CheckArgs),
    /// Make a key pair: a file for whoever restores, and a recipient for the settings
    Keygen(KeygenArgs),
    /// Write this program's reference, man pages and completions
    #[command(hide = true)]
    Reference {
        /// Where they are written
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// What to call it; the label is stored encrypted
    #[arg(long, default_value = "causeway")]
    pub(crate) label: String,
    /// How PostgreSQL makes the checkpoint that the backup begins with
    #[arg(long, value_enum, default_value_t = Checkpoint::Fast)]
    pub(crate) checkpoint: Checkpoint,
    /// Store this file although pages in it are damaged, as the error names it; once for each
    #[arg(long, value_name = "FILE")]
    pub(crate) accept_damaged: Vec<String>,
    /// Print what was made as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Archive one file: PostgreSQL's `archive_command`, with `%p`
    Push {
        /// The file
        path: PathBuf,
    },
    /// Fetch one file: PostgreSQL's `restore_command`, with `%f` and `%p`
    Fetch(WalFetchArgs),
    /// Copy to each bucket the objects that it lacks and another has
    Backfill(WalBackfillArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WalFetchArgs {
    /// Which file
    pub(crate) name: String,
    /// Where to put it
    pub(crate) path: PathBuf,
    /// Read from this bucket or region alone
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// End with 1 only where the archive ends, and with 255, which stops PostgreSQL, for any failure
    #[arg(long)]
    pub(crate) recovery: bool,
    /// The timeline that recovery follows: what other timelines hold does not matter to it
    #[arg(long, requires = "recovery", value_parser = timeline)]
    pub(crate) target_timeline: Option<Timeline>,
    /// The last segment that `restore` saw: if one on the way to it is missing, recovery is stopped
    #[arg(long, requires = "target_timeline", value_parser = segment)]
    pub(crate) known_end: Option<SegmentName>,
    /// For how long to ask a bucket that fails again [default: 0; 300 with `--recovery`]
    #[arg(long)]
    pub(crate) retry_timeout_secs: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct WalBackfillArgs {
    /// Which PostgreSQL cluster, where several are stored under one name
    #[arg(long)]
    pub(crate) system_id: Option<u64>,
    /// Copy also what is older than all that a bucket holds, as to one that is new
    #[arg(long)]
    pub(crate) all: bool,
    /// Copy what pushes and backups have noted until nothing is left, or, with a system identifier,
    /// compare the buckets, unless another process does it
    #[arg(long, hide = true, conflicts_with = "all")]
    pub(crate) background: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The directory: empty, not there, or one in which a restore was interrupted
    #[arg(long)]
    pub(crate) target_directory: PathBuf,
    #[command(flatten)]
    pub(crate) target: RestoreTarget,
    /// The timeline to follow, instead of the newest
    #[arg(long, value_parser = timeline)]
    pub(crate) target_timeline: Option<Timeline>,
    /// The backup to begin from, instead of the newest that reaches the target
    #[arg(long)]
    pub(crate) backup: Option<BackupId>,
    /// Read from this bucket or region alone
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Stop before what lies at the target time, position or transaction, instead of after it
    #[arg(long)]
    pub(crate) target_exclusive: bool,
    /// What to do once the target is reached [default: pause; without a target PostgreSQL promotes]
    #[arg(long, value_enum)]
    pub(crate) target_action: Option<TargetAction>,
    /// Make a standby, which goes on to follow a primary
    #[arg(long, conflicts_with_all = ["target_action", "target_exclusive", "target_time", "target_lsn", "target_name", "target_xid", "target_immediate"])]
    pub(crate) standby: bool,
    /// Whether the restored server archives its own WAL [default: off; preserve for a standby]
    #[arg(long, value_enum)]
    pub(crate) archive_mode: Option<Archiving>,
    /// Where to put a tablespace: OLD=NEW, once for each that the backup has; OLD=OLD puts it where
    /// it was
    #[arg(long, value_parser = mapping)]
    pub(crate) tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Put each tablespace that has no mapping below this directory, named by its OID
    #[arg(long)]
    pub(crate) tablespace_directory: Option<PathBuf>,
    /// Which PostgreSQL cluster, where several are stored under one name
    #[arg(long)]
    pub(crate) system_id: Option<u64>,
    /// How long to retry while no bucket gives anything
    #[arg(long, default_value_t = 300)]
    pub(crate) retry_timeout_secs: u64,
    /// Print what was restored as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How far to replay; to the end of the archive, unless one is given.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct RestoreTarget {
    /// To the last commit at or before this time, such as `2026-11-20T20:15:00Z`
    #[arg(long, value_parser = time)]
    target_time: Option<WallTime>,
    /// Past the record at this position, such as `16/B374D848`
    #[arg(long)]
    target_lsn: Option<Lsn>,
    /// To the restore point of this name
    #[arg(long)]
    target_name: Option<String>,
    /// To the commit of this transaction
    #[arg(long, value_parser = clap::value_parser!(u64).range(3..))]
    target_xid: Option<u64>,
    /// To the end of the backup, and no farther
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
    /// Which PostgreSQL cluster, where several are stored under one name
    #[arg(long)]
    pub(crate) system_id: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The identity file to write, readable by its owner alone
    #[arg(long)]
    pub(crate) output: PathBuf,
}

fn time(text: &str) -> Result<WallTime, String> {
    let time: Timestamp = text.parse().map_err(|it: jiff::Error| {
        format!("{it}; write it with its offset, such as `2026-11-20T20:15:00Z`")
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
