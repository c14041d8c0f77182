//! Settings of the cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use causeway_core::agent;
use causeway_core::failover::decision::FailoverPolicy;
use causeway_core::lease::{LeaseStoreId, LeaseTiming};
use causeway_core::{NodeId, Region};
use causeway_runtime::postgres::SslMode;
use serde::Deserialize;

use super::error::SettingsError;
use super::host::{self, HostSettings, NodeSettings};

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
    pub(crate) timing: LeaseTiming,
    /// What is allowed without asking.
    pub(crate) policy: PolicySettings,
    /// The Route 53 records, if they are moved.
    pub(crate) dns: Option<DnsSettings>,
    /// EC2, if a node's instance may be stopped as a fence.
    pub ec2: Option<Ec2Settings>,
    /// How `promote` writes a row as a client would.
    pub(crate) verify_write: Option<VerifyWriteSettings>,
    /// The file with the key by which orders to agents are signed.
    pub(crate) command_signing_key_file: PathBuf,
    /// This host, if it is a node.
    pub(crate) host: Option<HostSettings>,
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
    pub(super) renew_interval_secs: Option<f64>,
    #[serde(default)]
    pub(super) request_timeout_secs: Option<f64>,
    #[serde(default)]
    pub(super) poll_interval_secs: Option<f64>,
    #[serde(default)]
    pub(super) stop_deadline_secs: Option<f64>,
    #[serde(default)]
    pub(super) kill_deadline_secs: Option<f64>,
    #[serde(default)]
    pub(super) lease_duration_secs: Option<f64>,
}

const fn record_ttl() -> u32 {
    5
}

/// What is allowed without asking a person.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct PolicySettings {
    /// Maximum number of bytes of WAL that a node may lack when it takes over automatically.
    pub(crate) max_loss_bytes: u64,
    /// For how long a primary may answer no write probe.
    pub(crate) write_probe_timeout_secs: u32,
    /// For how long a primary that answers may prove no write.
    pub(crate) write_stall_timeout_secs: u32,
    /// For how long a server that starts, recovers or is promoted may show no progress.
    pub(crate) start_timeout_secs: u32,
    /// How many times in a minute a primary is started again in place.
    pub(crate) max_restarts_per_minute: u32,
    /// Whether an old primary is rewound or rebuilt by itself, or by `rejoin` only.
    pub(crate) rejoin: RejoinPolicy,
}

/// When an old primary comes back as a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RejoinPolicy {
    /// As soon as there is a primary to follow; what diverged is saved first.
    Automatic,
    /// When `failover-ctl rejoin` asks for it.
    Manual,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            // One segment: what a standby that streams is behind at worst when it is healthy.
            max_loss_bytes: 16 << 20,
            // Longer than a stall of ten seconds, which a busy host has and comes out of.
            write_probe_timeout_secs: 15,
            // Three such stalls. It answers meanwhile, so its clients see no connection refused.
            write_stall_timeout_secs: 30,
            start_timeout_secs: 30,
            max_restarts_per_minute: 3,
            rejoin: RejoinPolicy::Automatic,
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
    pub(crate) api: Option<ApiRecordSettings>,
}

/// The API's record.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ApiRecordSettings {
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
pub(crate) struct VerifyWriteSettings {
    /// The role.
    pub(crate) user: String,
    /// The file with its password.
    pub(crate) password_file: PathBuf,
    /// The database.
    pub(crate) database: String,
    /// How far the server must prove who it is.
    #[serde(default = "host::verified")]
    pub(crate) sslmode: SslMode,
    /// The authorities to trust, instead of the system's.
    #[serde(default)]
    pub(crate) sslrootcert: Option<PathBuf>,
}

impl Settings {
    /// Returns the node with this name.
    pub(crate) fn node(&self, name: &NodeId) -> Option<&NodeSettings> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// Returns this host's part, for the commands that run on a node.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] on an operator's machine, whose settings name no node.
    pub(crate) fn this_host(&self) -> Result<&HostSettings, SettingsError> {
        let missing = || {
            SettingsError::setting(
                "node",
                "is not set, and this command runs on a node: set it to this node's name",
            )
        };
        self.host.as_ref().ok_or_else(missing)
    }

    /// Returns whether a node takes over without being told.
    pub(crate) fn is_automatic(&self, node: &NodeSettings) -> bool {
        node.region == self.primary_region
    }

    /// Returns how this node's agent behaves.
    pub(crate) fn for_agent(&self, node: &NodeSettings) -> agent::AgentConfig {
        let policy = FailoverPolicy {
            lease_duration: self.timing.lease_duration,
            automatic: self.is_automatic(node),
            region_nodes: self
                .nodes
                .iter()
                .filter(|peer| peer.region == node.region)
                .map(|peer| peer.name.clone())
                .collect(),
            max_loss_bytes: self.policy.max_loss_bytes,
            // Two polls of a peer that is alive, so that it has had its chance.
            peer_preference_timeout: Duration::from_secs(2),
        };
        agent::AgentConfig {
            timing: self.timing,
            policy,
            write_probe_timeout: Duration::from_secs(self.policy.write_probe_timeout_secs.into()),
            write_stall_timeout: Duration::from_secs(self.policy.write_stall_timeout_secs.into()),
            start_timeout: Duration::from_secs(self.policy.start_timeout_secs.into()),
            max_restarts_per_minute: self.policy.max_restarts_per_minute,
        }
    }
}

impl LeaseSettings {
    /// Returns which store this is.
    pub(crate) fn store_id(&self) -> LeaseStoreId {
        LeaseStoreId {
            bucket: self.bucket.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}
