//! Settings: one file, which is rejected as a whole if any value is invalid.

pub(crate) mod buckets;
pub(crate) mod error;
pub(crate) mod postgres;

use crate::config::buckets::BucketConfig;
use crate::config::postgres::PostgresConfig;

use std::fs;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_core::NodeId;
use causeway_runtime::reference::settings_file_page;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::buckets::WrittenBucket;
use crate::config::error::BackupConfigError;
use crate::config::postgres::WrittenPostgres;
use crate::encryption::keys::{Identity, KeyError, Recipients, holds_private_key};

const PARALLELISM: RangeInclusive<i64> = 1..=64;

/// Levels above 19 need a window that is too large for a small machine.
const ZSTD_LEVEL: RangeInclusive<i64> = 1..=19;

const PACK_MIB: RangeInclusive<i64> = 8..=4096;
const UP_TO_AN_HOUR: RangeInclusive<i64> = 1..=3600;
const UP_TO_A_DAY: RangeInclusive<i64> = 1..=86_400;

/// One TOML file, `/etc/causeway/backup-agent.toml` unless `--config` or `BACKUP_AGENT_CONFIG` names another.
/// [An example with every key](../examples/backup-agent.toml) is beside this page.
///
/// An unknown key is an error, and invalid settings end the command with exit code 10 before it changes
/// anything. A file with a private key (`AGE-SECRET-KEY-…`) is rejected before a line of it can be printed.
/// AWS credentials come from the SDK's default chain.
///
/// PostgreSQL calls the program with these settings of `postgresql.conf`. `archive_timeout` bounds how much
/// WAL the archive can lack on an idle server (RPO).
///
/// ```text
/// archive_mode = on
/// archive_command = '/usr/bin/backup-agent wal push "%p"'
/// archive_timeout = 60
/// ```
///
/// ## Top level
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    /// First part of every key: 1 to 63 lower-case letters, digits and hyphens, starting with a letter.
    cluster: String,
    /// Public keys (`age1…`) for which every object is encrypted, at least one. A private key is rejected.
    recipients: Vec<String>,
    /// Private keys, only on hosts that decrypt: `restore`, `wal fetch`, and labels in `list`.
    identity_file: Option<PathBuf>,
    /// State between commands: which bucket failed recently, and which objects it lacks. Losing it loses no
    /// data.
    #[serde(default = "default_state_directory")]
    state_directory: PathBuf,
    /// Number of buckets that must store a WAL file or a backup before it is acknowledged; at most the
    /// number of `[[buckets]]`.
    #[serde(default = "one")]
    required_buckets: NonZeroUsize,
    buckets: Vec<WrittenBucket>,
    postgres: WrittenPostgres,
    #[serde(default)]
    limits: WrittenLimits,
    #[serde(default)]
    metrics: WrittenMetrics,
}

/// Without this section, no metrics are written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct WrittenMetrics {
    /// File of [the series](metrics.md#backup-agent) for the textfile collector of `node_exporter`, such as
    /// `/var/lib/prometheus/node-exporter/backup-agent.prom`. PostgreSQL's user must be able to write there.
    #[schemars(extend("format" = "path"))]
    textfile: Option<PathBuf>,
}

/// Limits of resources and times.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct WrittenLimits {
    /// Number of files that are read, or packs that are fetched, concurrently.
    #[schemars(range(min = *PARALLELISM.start(), max = *PARALLELISM.end()))]
    parallelism: i64,
    /// Compression level.
    #[schemars(range(min = *ZSTD_LEVEL.start(), max = *ZSTD_LEVEL.end()))]
    zstd_level: i64,
    /// Payload size at which the next pack begins.
    #[schemars(range(min = *PACK_MIB.start(), max = *PACK_MIB.end()))]
    pack_mib: i64,
    /// Time that a backup waits for the next segment to be archived, of its WAL or before it; by default 60 s
    /// and twice the server's `archive_timeout`.
    #[schemars(range(min = *UP_TO_A_DAY.start(), max = *UP_TO_A_DAY.end()))]
    archive_wait_secs: Option<i64>,
    /// Time for which a call to a bucket that does not respond is retried, beyond the time that its bytes
    /// need. Only the first call of a command waits that long for an unavailable bucket.
    #[schemars(range(min = *UP_TO_AN_HOUR.start(), max = *UP_TO_AN_HOUR.end()))]
    retry_timeout_secs: i64,
    /// Timeout of a statement of a backup. A lock, or a backend that hangs, then fails it with exit code 13.
    #[schemars(range(min = *UP_TO_AN_HOUR.start(), max = *UP_TO_AN_HOUR.end()))]
    statement_timeout_secs: i64,
    /// Timeout of the checkpoint that begins a backup, beside its `checkpoint_timeout` with
    /// `--checkpoint spread`, and of the end of the backup. The default is that of pgBackRest's
    /// [`db-timeout`](https://pgbackrest.org/configuration.html#section-general/option-db-timeout).
    #[schemars(range(min = *UP_TO_A_DAY.start(), max = *UP_TO_A_DAY.end()))]
    checkpoint_timeout_secs: i64,
}

impl Default for WrittenLimits {
    fn default() -> Self {
        Self {
            parallelism: 2,
            zstd_level: 1,
            pack_mib: 64,
            archive_wait_secs: None,
            retry_timeout_secs: 30,
            statement_timeout_secs: 60,
            checkpoint_timeout_secs: 1800,
        }
    }
}

/// Returns the reference of the settings.
pub(crate) fn reference() -> String {
    settings_file_page::<Written>("backup-agent", "`backup-agent/src/config.rs` and `config/`")
}

fn default_state_directory() -> PathBuf {
    PathBuf::from("/var/lib/causeway/backup-agent")
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// File that they were read from, for commands that are written to other files.
    pub(crate) path: PathBuf,
    /// First part of every key.
    pub(crate) cluster: NodeId,
    /// Public keys for which objects are encrypted.
    pub(crate) recipients: Recipients,
    /// Path of the identity. Hosts that only write have none.
    identity_file: Option<PathBuf>,
    /// Directory of the records about unavailable buckets and missing objects.
    pub(crate) state_directory: PathBuf,
    /// Number of buckets that must store an object.
    pub(crate) required_buckets: usize,
    /// The buckets, nearest first.
    pub(crate) buckets: Vec<BucketConfig>,
    /// Server that is backed up.
    pub(crate) postgres: PostgresConfig,
    /// Resource limits.
    pub(crate) limits: ResourceLimits,
    /// Output file for `node_exporter`'s textfile collector.
    pub(crate) metrics_textfile: Option<PathBuf>,
}

/// Timeouts of calls to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerTimeouts {
    /// Timeout of a statement.
    pub(crate) statement: Duration,
    /// Timeout of the checkpoint that begins a backup, in addition to `checkpoint_timeout` if it is
    /// spread, and of the end of the backup.
    pub(crate) checkpoint: Duration,
}

/// Resource limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceLimits {
    /// Number of files that are read, or packs that are fetched, concurrently.
    pub(crate) parallelism: usize,
    /// Compression level of zstd.
    pub(crate) zstd_level: i32,
    /// Maximum size of a pack's payload.
    pub(crate) pack_bytes: u64,
    /// Time that a backup waits for the next segment of its WAL; by default twice as long as the
    /// server leaves a segment open.
    pub(crate) archive_wait_secs: Option<u64>,
    /// Retry timeout of a call to an unresponsive bucket.
    pub(crate) retry_timeout: Duration,
    /// Timeouts of calls to the server.
    pub(crate) server: ServerTimeouts,
}

impl Config {
    /// Reads the settings in `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, BackupConfigError> {
        // TOML's errors quote the failing line, and this file may contain a private key by mistake:
        // it is searched for one before anything could print it.
        if fs::read_to_string(path).is_ok_and(|text| holds_private_key(&text)) {
            return Err(KeyError::PrivateKey.into());
        }
        let written: Written = causeway_runtime::config::read(path)?;
        written.validated(path)
    }

    /// Reads the identity, which only hosts that read the archive have.
    pub(crate) fn identity(&self) -> Result<Identity, KeyError> {
        let path = self.identity_file.as_deref();
        Identity::from_file(path.ok_or(KeyError::NoIdentity)?)
    }

    /// Reads the identity, or returns `None` if no `identity-file` is set.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is set and cannot be read: it must not pass for a host without an identity.
    pub(crate) fn identity_if_set(&self) -> Result<Option<Identity>, KeyError> {
        let path = self.identity_file.as_deref();
        path.map(Identity::from_file).transpose()
    }

    /// Returns whether an identity is configured.
    pub(crate) fn has_identity(&self) -> bool {
        self.identity_file.is_some()
    }

    /// Returns whether the file of the configured identity exists.
    pub(crate) fn identity_exists(&self) -> bool {
        self.identity_file.as_deref().is_some_and(Path::exists)
    }
}

impl Written {
    fn validated(self, path: &Path) -> Result<Config, BackupConfigError> {
        let recipients = Recipients::parse(&self.recipients)?;
        let required_buckets = self.required_buckets.get();
        if self.buckets.is_empty() {
            return Err(BackupConfigError::NoBucket);
        }
        if required_buckets > self.buckets.len() {
            return Err(BackupConfigError::TooManyRequired {
                required: required_buckets,
                buckets: self.buckets.len(),
            });
        }
        let buckets = buckets::validated(self.buckets)?;
        Ok(Config {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            cluster: self.cluster.parse().map_err(BackupConfigError::Cluster)?,
            recipients,
            identity_file: self.identity_file,
            state_directory: self.state_directory,
            required_buckets,
            buckets,
            postgres: self.postgres.validated()?,
            limits: self.limits.validated()?,
            metrics_textfile: self.metrics.textfile,
        })
    }
}

impl WrittenLimits {
    fn validated(&self) -> Result<ResourceLimits, BackupConfigError> {
        let archive_wait = |secs| within("limits.archive-wait-secs", secs, UP_TO_A_DAY);
        let (statement, checkpoint) = (self.statement_timeout_secs, self.checkpoint_timeout_secs);
        Ok(ResourceLimits {
            parallelism: within("limits.parallelism", self.parallelism, PARALLELISM)?,
            zstd_level: within("limits.zstd-level", self.zstd_level, ZSTD_LEVEL)?,
            pack_bytes: within::<u64>("limits.pack-mib", self.pack_mib, PACK_MIB)? << 20,
            archive_wait_secs: self.archive_wait_secs.map(archive_wait).transpose()?,
            retry_timeout: secs(
                "limits.retry-timeout-secs",
                self.retry_timeout_secs,
                UP_TO_AN_HOUR,
            )?,
            server: ServerTimeouts {
                statement: secs("limits.statement-timeout-secs", statement, UP_TO_AN_HOUR)?,
                checkpoint: secs("limits.checkpoint-timeout-secs", checkpoint, UP_TO_A_DAY)?,
            },
        })
    }
}

fn secs(
    setting: &'static str,
    found: i64,
    range: RangeInclusive<i64>,
) -> Result<Duration, BackupConfigError> {
    within(setting, found, range).map(Duration::from_secs)
}

fn within<T: TryFrom<i64>>(
    setting: &'static str,
    found: i64,
    range: RangeInclusive<i64>,
) -> Result<T, BackupConfigError> {
    let out_of_range = || BackupConfigError::OutOfRange {
        setting,
        found,
        least: *range.start(),
        most: *range.end(),
    };
    if !range.contains(&found) {
        return Err(out_of_range());
    }
    T::try_from(found).map_err(|_| out_of_range())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;
    use crate::encryption::keys::generate_key_pair;

    #[test]
    fn documented_settings_then_accepted() {
        let config = read(&example()).unwrap();

        assert_eq!(config.cluster.as_str(), "main");
        assert_eq!(config.buckets.len(), 2);
        assert_eq!((config.required_buckets, config.limits.zstd_level), (1, 1));
    }

    #[test]
    fn contradictory_settings_then_refused() {
        for (find, replace, expected) in [
            ("cluster = \"main\"", "cluster = \"../x\"", "`cluster`"),
            (
                "required-buckets = 1",
                "required-buckets = 3",
                "is 3 and there are 2",
            ),
            (
                "required-buckets = 1",
                "requird-buckets = 1",
                "requird-buckets",
            ),
            (
                "causeway-backup-eu-central-1",
                "causeway-backup-eu-west-1",
                "named twice",
            ),
            ("causeway-backup-eu-west-1", "../x", "not the name"),
            ("zstd-level = 1", "zstd-level = 22", "from 1 to 19"),
            (
                "#ca-certificate = \"/etc/ssl/our-ca.pem\"",
                "ca-certificate = \"/nowhere/ca.pem\"",
                "could not read the CA certificates in `/nowhere/ca.pem`",
            ),
            ("socket-directory = \"/run/postgresql\"", "", "exactly one"),
        ] {
            let text = example().replace(find, replace);
            assert_ne!(text, example(), "`{find}` is in the example");
            let refused = read(&text).unwrap_err();
            let message = causeway_runtime::telemetry::chain(&refused);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn private_key_in_settings_then_not_printed() {
        let pair = generate_key_pair();
        let private = pair
            .identity_file
            .reveal()
            .lines()
            .last()
            .unwrap()
            .to_owned();
        let broken = format!("recipients = [\"{private}\"\ncluster = ");

        let refused = read(&broken).unwrap_err();

        let message = format!("{refused} {refused:?}");
        assert!(!message.contains(&private[15..]), "{message}");
        assert!(matches!(
            refused,
            BackupConfigError::Recipients(KeyError::PrivateKey)
        ));
    }

    proptest! {
        #[test]
        fn damaged_settings_then_no_panic(text in damaged_text(&example())) {
            read(&text).ok();
        }
    }

    fn example() -> String {
        let recipient = generate_key_pair().recipient;
        include_str!("../backup-agent.example.toml").replace("age1…", &recipient)
    }

    fn read(text: &str) -> Result<Config, BackupConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup-agent.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }
}
