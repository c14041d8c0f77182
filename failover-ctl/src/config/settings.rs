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
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::SettingsError;
use super::host::{self, HostSettings, NodeSettings};

/// File of the settings, unless `--config` names another.
pub(crate) const DEFAULT_PATH: &str = "/etc/causeway/failover-ctl.toml";

/// One cluster, as one host or one operator sees it.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The name of the cluster.
    pub(crate) cluster: String,
    /// The region whose nodes take over automatically.
    pub(crate) primary_region: Region,
    /// Every node.
    pub(crate) nodes: Vec<NodeSettings>,
    /// The lease object's bucket.
    pub(crate) lease: LeaseSettings,
    /// The times of the lease.
    pub(crate) timing: LeaseTiming,
    /// Actions without an operator.
    pub(crate) policy: PolicySettings,
    /// The Route 53 records, if they are moved.
    pub(crate) dns: Option<DnsSettings>,
    /// EC2, if a node's instance may be stopped to fence it.
    pub ec2: Option<Ec2Settings>,
    /// Connection with which `promote` verifies a write.
    pub(crate) verify_write: Option<VerifyWriteSettings>,
    /// The file with the key that signs commands to agents.
    pub(crate) command_signing_key_file: PathBuf,
    /// This host, if it is a node.
    pub(crate) host: Option<HostSettings>,
}

/// The bucket and the times of the lease. They must be the same on every host.
///
/// The program checks the times together: the lease duration is at least the kill deadline plus 0.6 s for
/// the guard, on clocks that differ by 1000 ppm; the kill deadline is later than the stop deadline; the
/// stop deadline exceeds a renewal interval plus two request timeouts, and a request timeout plus 3 s.
/// [The lease](../concepts/lease.md) explains each.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LeaseSettings {
    /// Versioned bucket that honours conditional writes; `init`, `check` and the agent test that.
    pub(crate) bucket: String,
    /// Region of the bucket. A region that has a node is rejected: the lease would be lost with it.
    pub(crate) region: String,
    /// URL of another S3 service than AWS's, addressed path-style.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    /// Interval at which the holder renews the lease.
    #[serde(default = "renew_interval")]
    pub(super) renew_interval_secs: f64,
    /// Timeout of one request.
    #[serde(default = "request_timeout")]
    pub(super) request_timeout_secs: f64,
    /// Interval at which the other nodes read the lease.
    #[serde(default = "poll_interval")]
    pub(super) poll_interval_secs: f64,
    /// Time from sending a renewal until the guard requests a fast shutdown (SIGINT).
    #[serde(default = "stop_deadline")]
    pub(super) stop_deadline_secs: f64,
    /// Time from sending a renewal until the guard kills PostgreSQL (SIGKILL).
    #[serde(default = "kill_deadline")]
    pub(super) kill_deadline_secs: f64,
    /// Time for which a candidate must see one version of the lease before it takes over.
    #[serde(default = "lease_duration")]
    pub(super) lease_duration_secs: f64,
}

fn renew_interval() -> f64 {
    LeaseTiming::default().renew_interval.as_secs_f64()
}

fn request_timeout() -> f64 {
    LeaseTiming::default().request_timeout.as_secs_f64()
}

fn poll_interval() -> f64 {
    LeaseTiming::default().poll_interval.as_secs_f64()
}

fn stop_deadline() -> f64 {
    LeaseTiming::default().stop_deadline.as_secs_f64()
}

fn kill_deadline() -> f64 {
    LeaseTiming::default().kill_deadline.as_secs_f64()
}

fn lease_duration() -> f64 {
    LeaseTiming::default().lease_duration.as_secs_f64()
}

const fn record_ttl() -> u32 {
    5
}

/// Actions without an operator.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct PolicySettings {
    /// Maximum WAL, of what the primary had recorded, that a node taking over automatically may lack.
    pub(crate) max_loss_bytes: u64,
    /// Time without an answer from the primary after which it is stopped and the lease released.
    pub(crate) write_probe_timeout_secs: u32,
    /// Time without a proven write after which the same happens to a primary that answers. Exhausted
    /// connections or transaction ids do not count.
    pub(crate) write_stall_timeout_secs: u32,
    /// Time without progress of a start, recovery or promotion; replayed WAL is progress.
    pub(crate) start_timeout_secs: u32,
    /// Maximum number of restarts in place of a primary that exits or fails to start, in a minute and since
    /// the last proven write.
    pub(crate) max_restarts_per_minute: u32,
    /// Whether a node with diverged WAL is rewound or copied automatically, or only by `failover-ctl rejoin`.
    pub(crate) rejoin: RejoinPolicy,
}

/// Trigger of an old primary's return as a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RejoinPolicy {
    /// A primary to stream from; diverged WAL is saved first.
    Automatic,
    /// `failover-ctl rejoin`.
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

/// Records that follow the primary. Without this section, no record is moved.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DnsSettings {
    /// Hosted zone of the writer record.
    pub(crate) zone_id: String,
    /// Region for the SDK; Route 53 has none.
    pub(crate) region: String,
    /// URL of another Route 53 endpoint than AWS's.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    /// Resolver that is queried until a change has arrived; by default the system's.
    #[serde(default)]
    #[schemars(extend("format" = "IP:port"))]
    pub(crate) resolver: Option<SocketAddr>,
    /// Writer record, such as `db.example.internal`.
    pub(crate) writer: String,
    /// Time to live of the moved records.
    #[serde(default = "record_ttl")]
    pub(crate) ttl_secs: u32,
    #[serde(default)]
    pub(crate) api: Option<ApiRecordSettings>,
}

/// Record of the API, which moves when the primary changes its region. Without this section, it is not moved.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ApiRecordSettings {
    /// Record, such as `api.example.com`.
    pub(crate) name: String,
    /// Hosted zone, if it is not the writer's: a public API beside a private writer.
    #[serde(default)]
    pub(crate) zone_id: Option<String>,
    /// Address or name of the record while the primary is in a region, by region. Each region that has a
    /// node needs one.
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) targets: BTreeMap<Region, String>,
}

/// EC2, in the region of the node. Only `promote --stop-instance` uses the section.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ec2Settings {
    /// URL of another EC2 endpoint than AWS's.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
}

/// Connection with which `promote` verifies a write as a client. Without this section, the step is omitted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct VerifyWriteSettings {
    /// Role. It creates the table `causeway_confirmation` if it is missing.
    pub(crate) user: String,
    /// File with the password of `user`.
    pub(crate) password_file: PathBuf,
    /// Database.
    pub(crate) database: String,
    /// Verification of the server: libpq's `sslmode`, without `allow`. The connection goes to `dns.writer` if
    /// set, so the certificate must name it.
    #[serde(default = "host::verified")]
    pub(crate) sslmode: SslMode,
    /// Trusted CA certificates; by default the system's.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
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

    /// Returns whether a node takes over automatically.
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
