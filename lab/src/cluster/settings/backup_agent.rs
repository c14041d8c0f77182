//! Settings file of `backup-agent` on a node.

use std::path::{Path, PathBuf};

use causeway_core::Region;
use serde::Serialize;

use crate::cluster::postgres::bin_directory;
use crate::cluster::secrets::BackupKeys;
use crate::cluster::topology::{CLUSTER, NodeSpec, POSTGRES_PORT, Topology, backup_bucket};

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct BackupAgent {
    cluster: String,
    recipients: Vec<String>,
    identity_file: Option<PathBuf>,
    state_directory: PathBuf,
    required_buckets: u32,
    buckets: Vec<Bucket>,
    postgres: BackedUp,
    metrics: Metrics,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Bucket {
    name: String,
    region: String,
    endpoint: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Metrics {
    textfile: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct BackedUp {
    bin_directory: PathBuf,
    data_directory: PathBuf,
    socket_directory: PathBuf,
    port: u16,
}

impl BackupAgent {
    pub(super) fn on_node(
        topology: &Topology,
        spec: &NodeSpec,
        backup_keys: &BackupKeys,
        identity: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let bucket = |region: &Region| Bucket {
            name: backup_bucket(region),
            region: region.to_string(),
            endpoint: format!("http://{}", spec.backup_store(topology, region)),
        };
        // The nearest bucket is written and read first.
        let mut nearest_first = topology.api_regions();
        nearest_first.sort_by_key(|region| *region != spec.region);
        Ok(Self {
            cluster: CLUSTER.to_owned(),
            recipients: vec![backup_keys.recipient.clone()],
            identity_file: identity.map(Path::to_owned),
            state_directory: spec.directory.join("backup"),
            required_buckets: 1,
            buckets: nearest_first.iter().map(bucket).collect(),
            postgres: BackedUp {
                bin_directory: bin_directory()?,
                data_directory: spec.data(),
                socket_directory: spec.sockets(),
                port: POSTGRES_PORT,
            },
            metrics: Metrics {
                textfile: spec.textfiles().join("backup-agent.prom"),
            },
        })
    }
}
