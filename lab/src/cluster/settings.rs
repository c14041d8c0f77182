//! Settings files of the platform's programs, as an installation would have them.

mod backup_agent;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use causeway_core::Region;
use serde::Serialize;

use self::backup_agent::BackupAgent;
use crate::aws::route53::{TTL_SECS, Zones};
use crate::cluster::files::write;
use crate::cluster::postgres::bin_directory;
use crate::cluster::secrets::{BackupKeys, command_signing_key};
use crate::cluster::topology::{
    API_NAME, CLUSTER, LEASE_BUCKET, NodeSpec, POSTGRES_PORT, Topology, WRITER_NAME,
};

/// Returns the path of an operator's `failover-ctl` settings.
pub fn operator(topology: &Topology) -> PathBuf {
    topology.directory().join("operator.toml")
}

/// Returns the path of an operator's `backup-agent` settings.
pub fn operator_backup_agent(topology: &Topology) -> PathBuf {
    topology.directory().join("operator-backup-agent.toml")
}

/// Returns the path of `failover-ctl`'s settings on a node.
pub fn failover_ctl(spec: &NodeSpec) -> PathBuf {
    spec.settings().join("failover-ctl.toml")
}

/// Returns the path of `backup-agent`'s settings on a node.
pub fn backup_agent(spec: &NodeSpec) -> PathBuf {
    spec.settings().join("backup-agent.toml")
}

/// Writes the settings of every program on every node, and an operator's.
///
/// # Errors
///
/// When they cannot be written.
pub fn write_all(
    topology: &Topology,
    zones: &Zones,
    backup_keys: &BackupKeys,
) -> anyhow::Result<()> {
    for spec in &topology.nodes {
        write_node(topology, spec, zones, backup_keys)?;
    }
    let text = toml::to_string(&FailoverCtl::for_operator(topology, zones))?;
    write(&operator(topology), &text)?;
    // An operator can read every backup: the first node's settings, with the identity.
    let first = topology.nodes.first().context("a lab without nodes")?;
    let text = for_restore(topology, first, backup_keys)?;
    write(&operator_backup_agent(topology), &text)
}

/// Writes the settings of every program on one node.
///
/// # Errors
///
/// When they cannot be written.
pub fn write_node(
    topology: &Topology,
    spec: &NodeSpec,
    zones: &Zones,
    backup_keys: &BackupKeys,
) -> anyhow::Result<()> {
    write(&spec.host_id(), &spec.instance)?;
    let text = toml::to_string(&FailoverCtl::on_node(topology, spec, zones)?)?;
    write(&failover_ctl(spec), &text)?;
    let identity = can_read(topology, spec).then_some(backup_keys.identity.as_path());
    let text = BackupAgent::on_node(topology, spec, backup_keys, identity)?;
    write(&backup_agent(spec), &toml::to_string(&text)?)
}

/// Returns the settings of a restore: a node's, with the identity that decrypts backups.
///
/// # Errors
///
/// When they cannot be rendered.
pub fn for_restore(
    topology: &Topology,
    spec: &NodeSpec,
    backup_keys: &BackupKeys,
) -> anyhow::Result<String> {
    let identity = Some(backup_keys.identity.as_path());
    let settings = BackupAgent::on_node(topology, spec, backup_keys, identity)?;
    Ok(toml::to_string(&settings)?)
}

/// Tests whether a host has the identity that decrypts backups. Hosts of the DR region have it:
/// they may need the WAL archive when no other node is left.
fn can_read(topology: &Topology, spec: &NodeSpec) -> bool {
    spec.region == topology.dr
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FailoverCtl {
    cluster: String,
    node: Option<String>,
    primary_region: String,
    command_signing_key_file: PathBuf,
    nodes: Vec<NodeEntry>,
    lease: Lease,
    dns: Dns,
    ec2: Ec2,
    verify_write: VerifyWrite,
    postgres: Option<Postgres>,
    guard: Option<Guard>,
    agent: Option<Agent>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct NodeEntry {
    name: String,
    region: String,
    zone: String,
    address: String,
    port: u16,
    agent: String,
    instance_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Lease {
    bucket: String,
    region: String,
    endpoint: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Postgres {
    bin_directory: PathBuf,
    config_file: PathBuf,
    data_directory: PathBuf,
    socket_directory: PathBuf,
    port: u16,
    replication_user: String,
    replication_password_file: PathBuf,
    rewind_user: String,
    rewind_password_file: PathBuf,
    sslmode: String,
    restore_command: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Guard {
    runtime_directory: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Agent {
    state_directory: PathBuf,
    listen: String,
    host_id_file: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Dns {
    zone_id: String,
    region: String,
    endpoint: String,
    resolver: String,
    writer: String,
    ttl_secs: u32,
    api: ApiRecord,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Ec2 {
    endpoint: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ApiRecord {
    name: String,
    zone_id: String,
    targets: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct VerifyWrite {
    user: String,
    password_file: PathBuf,
    database: String,
    sslmode: String,
}

impl FailoverCtl {
    fn on_node(topology: &Topology, spec: &NodeSpec, zones: &Zones) -> anyhow::Result<Self> {
        let nodes = topology.nodes.iter().map(|node| NodeEntry {
            address: spec.postgres_of(node).ip().to_string(),
            agent: spec.agent_of(node).to_string(),
            ..NodeEntry::of(node)
        });
        let secrets = topology.secrets();
        let restore = format!(
            "{} --config {} wal fetch %f \"%p\"",
            topology.programs().join("backup-agent").display(),
            backup_agent(spec).display()
        );
        Ok(Self {
            node: Some(spec.node.to_string()),
            nodes: nodes.collect(),
            lease: Lease::at(topology, &spec.lease_store().to_string()),
            postgres: Some(Postgres {
                bin_directory: bin_directory()?,
                config_file: spec.settings().join("postgresql.conf"),
                data_directory: spec.data(),
                socket_directory: spec.sockets(),
                port: POSTGRES_PORT,
                replication_user: "replicator".to_owned(),
                replication_password_file: secrets.join("replicator.password"),
                rewind_user: "rewinder".to_owned(),
                rewind_password_file: secrets.join("rewinder.password"),
                sslmode: "disable".to_owned(),
                restore_command: can_read(topology, spec).then_some(restore),
            }),
            guard: Some(Guard {
                runtime_directory: spec.guard(),
            }),
            agent: Some(Agent {
                state_directory: spec.state(),
                listen: spec.agent().to_string(),
                host_id_file: spec.host_id(),
            }),
            ..Self::for_operator(topology, zones)
        })
    }

    fn for_operator(topology: &Topology, zones: &Zones) -> Self {
        let target = |region: &Region| (region.to_string(), topology.api(region).ip().to_string());
        let secrets = topology.secrets();
        Self {
            cluster: CLUSTER.to_owned(),
            node: None,
            primary_region: topology.primary.to_string(),
            command_signing_key_file: command_signing_key(topology),
            nodes: topology.nodes.iter().map(NodeEntry::of).collect(),
            lease: Lease::at(topology, &topology.store(&topology.third).to_string()),
            dns: Dns {
                zone_id: zones.private.clone(),
                region: "us-east-1".to_owned(),
                endpoint: format!("http://{}", topology.moto()),
                resolver: topology.dns().to_string(),
                writer: WRITER_NAME.to_owned(),
                ttl_secs: TTL_SECS,
                api: ApiRecord {
                    name: API_NAME.to_owned(),
                    zone_id: zones.public.clone(),
                    targets: topology.api_regions().iter().map(target).collect(),
                },
            },
            ec2: Ec2 {
                endpoint: format!("http://{}", topology.moto()),
            },
            verify_write: VerifyWrite {
                user: "app".to_owned(),
                password_file: secrets.join("app.password"),
                database: "app".to_owned(),
                sslmode: "disable".to_owned(),
            },
            postgres: None,
            guard: None,
            agent: None,
        }
    }
}

impl NodeEntry {
    fn of(spec: &NodeSpec) -> Self {
        Self {
            name: spec.node.to_string(),
            region: spec.region.to_string(),
            zone: spec.zone.clone(),
            address: spec.postgres().ip().to_string(),
            port: POSTGRES_PORT,
            agent: spec.agent().to_string(),
            instance_id: spec.instance.clone(),
        }
    }
}

impl Lease {
    fn at(topology: &Topology, endpoint: &str) -> Self {
        Self {
            bucket: LEASE_BUCKET.to_owned(),
            region: topology.third.to_string(),
            endpoint: format!("http://{endpoint}"),
        }
    }
}
