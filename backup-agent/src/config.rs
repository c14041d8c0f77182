//! Settings: one file, which is rejected as a whole if any value is invalid.

pub(crate) mod buckets;
pub(crate) mod error;
pub(crate) mod postgres;

use crate::config::buckets::BucketConfig;
use crate::config::postgres::PostgresConfig;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_core::NodeId;
use serde::Deserialize;

use crate::config::buckets::WrittenBucket;
use crate::config::error::BackupConfigError;
use crate::config::postgres::WrittenPostgres;
use crate::encryption::keys::{Identity, KeyError, Recipients, holds_private_key};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    cluster: String,
    recipients: Vec<String>,
    identity_file: Option<PathBuf>,
    #[serde(default = "default_state_directory")]
    state_directory: PathBuf,
    #[serde(default = "one")]
    required_buckets: NonZeroUsize,
    buckets: Vec<WrittenBucket>,
    postgres: WrittenPostgres,
    #[serde(default)]
    limits: WrittenLimits,
    #[serde(default)]
    metrics: WrittenMetrics,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct WrittenMetrics {
    textfile: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct WrittenLimits {
    parallelism: i64,
    zstd_level: i64,
    pack_mib: i64,
    archive_wait_secs: Option<i64>,
    retry_timeout_secs: i64,
    statement_timeout_secs: i64,
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
        Ok(ResourceLimits {
            parallelism: within("limits.parallelism", self.parallelism, 1, 64)?,
            // Levels above 19 need a window that is too large for a small machine.
            zstd_level: within("limits.zstd-level", self.zstd_level, 1, 19)?,
            pack_bytes: within::<u64>("limits.pack-mib", self.pack_mib, 8, 4096)? << 20,
            archive_wait_secs: self
                .archive_wait_secs
                .map(|secs| within("limits.archive-wait-secs", secs, 1, 86_400))
                .transpose()?,
            retry_timeout: secs("limits.retry-timeout-secs", self.retry_timeout_secs, 3600)?,
            server: ServerTimeouts {
                statement: secs(
                    "limits.statement-timeout-secs",
                    self.statement_timeout_secs,
                    3600,
                )?,
                checkpoint: secs(
                    "limits.checkpoint-timeout-secs",
                    self.checkpoint_timeout_secs,
                    86_400,
                )?,
            },
        })
    }
}

fn secs(setting: &'static str, found: i64, most: i64) -> Result<Duration, BackupConfigError> {
    within(setting, found, 1, most).map(Duration::from_secs)
}

fn within<T: TryFrom<i64>>(
    setting: &'static str,
    found: i64,
    least: i64,
    most: i64,
) -> Result<T, BackupConfigError> {
    let out_of_range = || BackupConfigError::OutOfRange {
        setting,
        found,
        least,
        most,
    };
    if !(least..=most).contains(&found) {
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
