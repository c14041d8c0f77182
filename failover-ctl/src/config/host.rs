//! Settings of one node.

use std::net::SocketAddr;
use std::path::PathBuf;

use causeway_core::{NodeId, Region};
use causeway_runtime::postgres::SslMode;
use serde::Deserialize;

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
    pub(crate) sslrootcert: Option<PathBuf>,
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
    pub(crate) watchdog_device: Option<PathBuf>,
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
