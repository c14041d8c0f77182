//! Settings of one node.

use std::net::SocketAddr;
use std::path::PathBuf;

use causeway_core::{NodeId, Region};
use causeway_runtime::postgres::SslMode;
use schemars::JsonSchema;
use serde::Deserialize;

/// Every node. Names, `agent` addresses, and pairs of `address` and `port` are unique.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct NodeSettings {
    /// Name of the node, also its `application_name` and a part of keys.
    #[schemars(with = "String")]
    pub(crate) name: NodeId,
    /// AWS region, such as `eu-west-1`.
    #[schemars(with = "String")]
    pub(crate) region: Region,
    /// Availability zone, shown to operators and in metric labels.
    pub(crate) zone: String,
    /// Host name or IP address of its PostgreSQL. The writer record points to it: an IP address becomes an
    /// A or AAAA record, a name a CNAME.
    pub(crate) address: String,
    /// Port of its PostgreSQL.
    #[serde(default = "postgres_port")]
    pub(crate) port: u16,
    /// IP address and port of its agent's HTTP server.
    #[schemars(extend("format" = "IP:port"))]
    pub(crate) agent: SocketAddr,
    /// EC2 instance, for `promote --stop-instance`.
    #[serde(default)]
    pub(crate) instance_id: Option<String>,
}

/// Settings of a node, which an operator's machine does not have.
#[derive(Clone, Debug)]
pub(crate) struct HostSettings {
    /// This node.
    pub(crate) node: NodeSettings,
    /// Its PostgreSQL.
    pub(crate) postgres: PostgresSettings,
    /// Guard on this host.
    pub(crate) guard: GuardSettings,
    /// Agent on this host.
    pub(crate) agent: AgentSettings,
}

/// PostgreSQL on this host. A node needs the section, an operator's machine has none. Directories and `config-file` are absolute paths.
///
/// `rewind-user` needs, in `database`, what PostgreSQL's documentation of `pg_rewind` lists, and no more:
/// `pg_ls_dir`, `pg_stat_file` and the two `pg_read_binary_file`. Do not make it a member of
/// `pg_read_server_files`, with which it would read every file of PostgreSQL's user. From release 15 on it
/// may have the role `pg_checkpoint`, so that a rewind does not wait for the checkpoint that the new
/// primary's own agent requests. `lab/src/cluster/postgres.rs` has the statements.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PostgresSettings {
    /// Directory of `postgres`, `pg_rewind` and `pg_basebackup`, of the release of the data directory.
    pub(crate) bin_directory: PathBuf,
    /// `postgresql.conf`, outside the data directory. It must contain the line
    /// ``include '<runtime-directory>/guard.conf'``.
    pub(crate) config_file: PathBuf,
    /// Data directory, or an empty directory to fill. For `pg_wal` on a volume of its own, the link `pg_wal` to an
    /// empty directory there is all that an empty directory may hold: every copy and rewind keeps the link. The root
    /// of a file system, with `lost+found`, is rejected, also as the link's target: use a directory in it.
    pub(crate) data_directory: PathBuf,
    /// Directory of the Unix socket through which the agent connects.
    pub(crate) socket_directory: PathBuf,
    /// Port, the same as in `[[nodes]]`. It is part of the socket's name.
    #[serde(default = "postgres_port")]
    pub(crate) port: u16,
    /// Database for local connections and for `pg_rewind`.
    #[serde(default = "postgres_name")]
    pub(crate) database: String,
    /// Local role, with peer authentication.
    #[serde(default = "postgres_name")]
    pub(crate) user: String,
    /// Role of streaming replication, with `REPLICATION`.
    pub(crate) replication_user: String,
    /// File with the password of `replication-user`.
    pub(crate) replication_password_file: PathBuf,
    /// Role of `pg_rewind` and of the agent of an old primary.
    pub(crate) rewind_user: String,
    /// File with the password of `rewind-user`.
    pub(crate) rewind_password_file: PathBuf,
    /// Verification of another node's server: libpq's `sslmode`, without `allow`.
    #[serde(default = "verified")]
    pub(crate) sslmode: SslMode,
    /// Trusted CA certificates; by default the system's. PostgreSQL's programs get the path of the system's
    /// bundle: a host without one needs this key for `verify-ca` and `verify-full`.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub(crate) sslrootcert: Option<PathBuf>,
    /// `restore_command` of PostgreSQL, on hosts that can read the archive.
    #[serde(default)]
    pub(crate) restore_command: Option<String>,
}

/// Guard, the process that supervises PostgreSQL and fences it (a software watchdog). A node
/// needs the section, an operator's machine has none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct GuardSettings {
    /// Absolute path of the directory of the guard's socket and of `guard.conf`, outside the data directory.
    /// It must be emptied at boot, as systemd's `RuntimeDirectory` is.
    pub(crate) runtime_directory: PathBuf,
    /// Watchdog device, such as `/dev/watchdog`, that the guard feeds twenty times a second.
    #[serde(default)]
    pub(crate) watchdog_device: Option<PathBuf>,
}

/// Agent on this host. A node needs the section, an operator's machine has none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct AgentSettings {
    /// Absolute path of the directory of the highest lease record, `replication.conf`, the password file of
    /// PostgreSQL's programs, the `rewinding` marker, diverged WAL and `brought.json`; outside the data
    /// directory.
    pub(crate) state_directory: PathBuf,
    /// Listen address of the agent's HTTP server; by default the node's `agent`.
    #[serde(default)]
    #[schemars(extend("format" = "IP:port"))]
    pub(crate) listen: Option<SocketAddr>,
    /// File with the identity of this host, which a copy of its disk does not have; by default the EC2
    /// instance id that the firmware shows, else `/etc/machine-id`. Only the host that took the lease
    /// resumes it without waiting.
    #[serde(default)]
    pub(crate) host_id_file: Option<PathBuf>,
}

const fn postgres_port() -> u16 {
    5432
}

fn postgres_name() -> String {
    "postgres".to_owned()
}

pub(super) const fn verified() -> SslMode {
    SslMode::VerifyFull
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
