//! Settings: what a person writes, and what it means once it has been checked.

mod validation;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_core::agent;
use causeway_core::failover::decision::Policy;
use causeway_core::lease::{StoreId, Timing, TimingError};
use causeway_core::{NodeId, Region};
use causeway_runtime::config::Unusable;
use causeway_runtime::postgres::SslMode;
use causeway_runtime::secret::Unreadable;
use serde::Deserialize;

use crate::config::validation::Written;

/// Where the settings are unless `--config` says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/causeway/failover-ctl.toml";

/// One cluster, as one host or one operator sees it.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The name of the cluster.
    pub(crate) cluster: String,
    /// The region whose nodes take over by themselves.
    pub(crate) primary_region: Region,
    /// Every node.
    pub(crate) nodes: Vec<NodeSettings>,
    /// The lease object's bucket.
    pub(crate) lease: LeaseSettings,
    /// The times of the lease.
    pub(crate) timing: Timing,
    /// What is allowed without asking.
    pub(crate) policy: PolicySettings,
    /// The Route 53 records, if they are moved.
    pub(crate) dns: Option<DnsSettings>,
    /// EC2, if a node's instance may be stopped as a fence.
    pub ec2: Option<Ec2Settings>,
    /// How `promote` writes a row as a client would.
    pub(crate) confirm: Option<ConfirmSettings>,
    /// The file with the key by which orders to agents are signed.
    pub(crate) orders_key_file: PathBuf,
    /// This host, if it is a node.
    pub(crate) host: Option<HostSettings>,
}

/// A node, as every other node knows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct NodeSettings {
    /// Its name.
    pub(crate) name: NodeId,
    /// Its region.
    pub(crate) region: Region,
    /// Its availability zone.
    pub(crate) zone: String,
    /// The host name or address of its PostgreSQL.
    pub(crate) address: String,
    /// The port of its PostgreSQL.
    #[serde(default = "postgres_port")]
    pub(crate) port: u16,
    /// Where its agent answers HTTP.
    pub(crate) agent: SocketAddr,
    /// Its EC2 instance, for fencing.
    #[serde(default)]
    pub(crate) instance_id: Option<String>,
}

/// Where the lease is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LeaseSettings {
    /// A versioned bucket in a region that has no database.
    pub(crate) bucket: String,
    /// The bucket's region.
    pub(crate) region: String,
    /// Another address than AWS's own.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    #[serde(default)]
    renew_every_secs: Option<f64>,
    #[serde(default)]
    request_timeout_secs: Option<f64>,
    #[serde(default)]
    poll_every_secs: Option<f64>,
    #[serde(default)]
    soft_deadline_secs: Option<f64>,
    #[serde(default)]
    hard_deadline_secs: Option<f64>,
    #[serde(default)]
    term_secs: Option<f64>,
}

/// What is allowed without asking a person.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct PolicySettings {
    /// How many bytes of log may be missing on a node that takes over by itself.
    pub(crate) max_loss_bytes: u64,
    /// For how long a primary may answer no write probe.
    pub(crate) hang_after_secs: u32,
    /// For how long a primary that answers may prove no write.
    pub(crate) write_stall_timeout_secs: u32,
    /// For how long a server that starts, recovers or is promoted may show no progress.
    pub(crate) start_within_secs: u32,
    /// How many times in a minute a primary is started again in place.
    pub(crate) restarts: u32,
    /// Whether an old primary is rewound or rebuilt by itself, or by `rejoin` only.
    pub(crate) rejoin: Rejoin,
}

/// When an old primary comes back as a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rejoin {
    /// As soon as there is a primary to follow; what diverged is saved first.
    Automatic,
    /// When `failover-ctl rejoin` asks for it.
    Command,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            // One segment: what a standby that streams is behind at worst when it is healthy.
            max_loss_bytes: 16 << 20,
            // Longer than a stall of ten seconds, which a busy host has and comes out of.
            hang_after_secs: 15,
            // Three such stalls. It answers meanwhile, so its clients see no connection refused.
            write_stall_timeout_secs: 30,
            start_within_secs: 30,
            restarts: 3,
            rejoin: Rejoin::Automatic,
        }
    }
}

/// The records that follow the primary.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DnsSettings {
    /// The hosted zone of the writer record.
    pub(crate) zone_id: String,
    /// A region for the SDK; Route 53 itself has none.
    pub(crate) region: String,
    /// Another address than AWS's own.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    /// The resolver that is asked whether the change has arrived; the system's unless set.
    #[serde(default)]
    pub(crate) resolver: Option<SocketAddr>,
    /// The writer record, such as `db.example.internal`.
    pub(crate) writer: String,
    /// The time to live of both records, in seconds.
    #[serde(default = "record_ttl")]
    pub(crate) ttl_secs: u32,
    /// The API's record, which moves when the region changes.
    #[serde(default)]
    pub(crate) api: Option<ApiRecord>,
}

/// The API's record.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ApiRecord {
    /// The record, such as `api.example.com`.
    pub(crate) name: String,
    /// The hosted zone, if it is not the writer's.
    #[serde(default)]
    pub(crate) zone_id: Option<String>,
    /// For each region, the address or name that the record should have while the primary is there.
    pub(crate) targets: BTreeMap<Region, String>,
}

/// EC2, where a node's instance may be stopped as a fence. Its region is the node's.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ec2Settings {
    /// Another address than AWS's own.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
}

/// How `promote` writes a row as a client would.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ConfirmSettings {
    /// The role.
    pub(crate) user: String,
    /// The file with its password.
    pub(crate) password_file: PathBuf,
    /// The database.
    pub(crate) database: String,
    /// How far the server must prove who it is.
    #[serde(default = "verified")]
    pub(crate) sslmode: SslMode,
    /// The authorities to trust, instead of the system's.
    #[serde(default)]
    pub(crate) root_certificate: Option<PathBuf>,
}

/// What a node has and an operator's machine has not.
#[derive(Clone, Debug)]
pub(crate) struct HostSettings {
    /// This node.
    pub(crate) node: NodeSettings,
    /// Its PostgreSQL.
    pub(crate) postgres: PostgresSettings,
    /// Where guard listens, and what keeps PostgreSQL from starting without it.
    pub(crate) guard: GuardSettings,
    /// Where the agent keeps what must survive it.
    pub(crate) agent: AgentSettings,
}

/// This host's PostgreSQL.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PostgresSettings {
    /// Where `postgres`, `pg_rewind` and `pg_basebackup` are.
    pub(crate) bin_directory: PathBuf,
    /// `postgresql.conf`, outside of the data directory.
    pub(crate) config_file: PathBuf,
    /// The data directory.
    pub(crate) data_directory: PathBuf,
    /// Where the Unix socket is, through which the agent asks.
    pub(crate) socket_directory: PathBuf,
    /// The port, which is also in the socket's name.
    #[serde(default = "postgres_port")]
    pub(crate) port: u16,
    /// The database to connect to, locally and for `pg_rewind`.
    #[serde(default = "postgres_name")]
    pub(crate) database: String,
    /// The local role, by peer authentication.
    #[serde(default = "postgres_name")]
    pub(crate) user: String,
    /// The role that standbys stream as.
    pub(crate) replication_user: String,
    /// The file with its password.
    pub(crate) replication_password_file: PathBuf,
    /// The role that `pg_rewind` connects as.
    pub(crate) rewind_user: String,
    /// The file with its password.
    pub(crate) rewind_password_file: PathBuf,
    /// How far another node's server must prove who it is.
    #[serde(default = "verified")]
    pub(crate) sslmode: SslMode,
    /// The authorities to trust, instead of the system's.
    #[serde(default)]
    pub(crate) root_certificate: Option<PathBuf>,
    /// PostgreSQL's `restore_command`, where this host can read the archive.
    #[serde(default)]
    pub(crate) restore_command: Option<String>,
}

/// Guard's part.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct GuardSettings {
    /// systemd's `RuntimeDirectory`: it is gone after a boot.
    pub(crate) runtime_directory: PathBuf,
    /// A watchdog device to feed while guard turns, such as `/dev/watchdog`.
    #[serde(default)]
    pub(crate) watchdog: Option<PathBuf>,
}

/// The agent's part.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct AgentSettings {
    /// Where the highest record seen, markers and diverged log are kept.
    pub(crate) state_directory: PathBuf,
    /// Where the agent answers HTTP; the node's `agent` address unless set.
    #[serde(default)]
    pub(crate) listen: Option<SocketAddr>,
    /// The file with the host's identity, which a copy of its disk must not have; the EC2 instance id
    /// that the firmware shows, or else the machine id, unless set.
    #[serde(default)]
    pub(crate) host_id_file: Option<PathBuf>,
}

/// Settings that cannot be right. Nothing has been touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    /// The file cannot be used at all.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The times of the lease contradict each other.
    #[error("the times in `[lease]` contradict each other")]
    Timing(#[from] TimingError),
    /// A setting is out of place.
    #[error("`{setting}` {why}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why, and what to do.
        why: String,
    },
    /// A file with a secret cannot be used.
    #[error("`{setting}` cannot be used")]
    Secret {
        /// Which.
        setting: &'static str,
        /// Why.
        source: Unreadable,
    },
}

impl Wrong {
    /// Returns the error of a setting that is out of place.
    pub(crate) fn setting(setting: &'static str, why: impl Into<String>) -> Self {
        Self::Setting {
            setting,
            why: why.into(),
        }
    }
}

const fn postgres_port() -> u16 {
    5432
}

const fn record_ttl() -> u32 {
    5
}

fn postgres_name() -> String {
    "postgres".to_owned()
}

const fn verified() -> SslMode {
    SslMode::VerifyFull
}

impl Settings {
    /// Reads and checks the settings in `path`.
    ///
    /// # Errors
    ///
    /// [`Wrong`], which names the setting, the reason and the remedy.
    pub(crate) fn read(path: &Path) -> Result<Self, Wrong> {
        Self::check(causeway_runtime::config::read::<Written>(path)?)
    }

    /// Returns the node with this name.
    pub(crate) fn node(&self, name: &NodeId) -> Option<&NodeSettings> {
        self.nodes.iter().find(|it| it.name == *name)
    }

    /// Returns this host's part, for the commands that run on a node.
    ///
    /// # Errors
    ///
    /// [`Wrong`] on an operator's machine, whose settings name no node.
    pub(crate) fn this_host(&self) -> Result<&HostSettings, Wrong> {
        let missing = || {
            Wrong::setting(
                "node",
                "is not set, and this command runs on a node: set it to this node's name",
            )
        };
        self.host.as_ref().ok_or_else(missing)
    }

    /// Says whether a node takes over without being told.
    pub(crate) fn is_automatic(&self, node: &NodeSettings) -> bool {
        node.region == self.primary_region
    }

    /// Returns how this node's agent behaves.
    pub(crate) fn for_agent(&self, node: &NodeSettings) -> agent::Settings {
        let policy = Policy {
            term: self.timing.term,
            automatic: self.is_automatic(node),
            region_nodes: self
                .nodes
                .iter()
                .filter(|it| it.region == node.region)
                .map(|it| it.name.clone())
                .collect(),
            max_loss_bytes: self.policy.max_loss_bytes,
            // Two polls of a peer that is alive, so that it has had its chance.
            patience_for_better: Duration::from_secs(2),
        };
        agent::Settings {
            timing: self.timing,
            policy,
            hang_after: Duration::from_secs(self.policy.hang_after_secs.into()),
            stall_after: Duration::from_secs(self.policy.write_stall_timeout_secs.into()),
            start_within: Duration::from_secs(self.policy.start_within_secs.into()),
            restarts: self.policy.restarts,
        }
    }
}

impl LeaseSettings {
    /// Returns which store this is.
    pub(crate) fn store_id(&self) -> StoreId {
        StoreId {
            bucket: self.bucket.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

impl HostSettings {
    /// Returns where guard listens.
    pub(crate) fn guard_socket(&self) -> PathBuf {
        self.guard.runtime_directory.join("guard.sock")
    }

    /// Returns the file without which PostgreSQL refuses to start, and which `postgresql.conf`
    /// includes.
    pub(crate) fn guard_conf(&self) -> PathBuf {
        self.guard.runtime_directory.join("guard.conf")
    }

    /// Returns the settings of replication, which the agent writes.
    pub(crate) fn replication_conf(&self) -> PathBuf {
        self.agent.state_directory.join("replication.conf")
    }

    /// Returns the marker that stands while the data directory is being rewound or rebuilt.
    pub(crate) fn rewinding_marker(&self) -> PathBuf {
        self.agent.state_directory.join("rewinding")
    }

    /// Returns one of PostgreSQL's programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.postgres.bin_directory.join(name)
    }
}
