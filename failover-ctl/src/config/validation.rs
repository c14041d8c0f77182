//! Validation of settings: unknown keys, missing sections, contradictions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_core::lease::LeaseTiming;
use causeway_core::{NodeId, Region};
use causeway_runtime::reference::settings_file_page;
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::SettingsError;
use super::host::{AgentSettings, GuardSettings, HostSettings, NodeSettings, PostgresSettings};
use super::settings::{
    DnsSettings, Ec2Settings, LeaseSettings, PolicySettings, Settings, VerifyWriteSettings,
};

/// All programs of a cluster read one TOML file: `/etc/causeway/failover-ctl.toml`, or the file that `--config`
/// or `FAILOVER_CTL_CONFIG` names. [An example with every key](../examples/failover-ctl.toml) is beside this
/// page.
///
/// An unknown key is an error. A contradiction stops the program before it changes anything, with exit code
/// 3, the key, the reason and the remedy. The file contains no secrets; it names the files that contain
/// them. AWS credentials come from the SDK's default chain: environment, profile, container role or instance
/// role.
///
/// The file is the same on every host except for `node`. The file of an operator's machine has no `node`,
/// `[postgres]`, `[guard]` or `[agent]`.
///
/// ## Command signing key
///
/// The operating-system user of PostgreSQL must not be able to read `command-signing-key-file`
/// ([decision 38](../decisions/0038-signing-key-unreadable-for-postgresql.md)). The file belongs to root, mode
/// 0600, and systemd opens it for the agent:
///
/// ```ini
/// [Service]
/// User=postgres
/// StandardInput=file:/etc/causeway/command-signing.key
/// ExecStart=/usr/bin/failover-ctl agent --key-from-stdin
/// ```
///
/// Without the flag the agent reads the file itself, so PostgreSQL can read it too, and the agent reports
/// `command-key-exposed`.
///
/// ## Top level
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SettingsFile {
    /// Cluster name, the first part of every key in the lease bucket. 1 to 63 lower-case letters, digits and
    /// hyphens, starting with a letter.
    cluster: String,
    /// Name of this host in `[[nodes]]`. Required by the agent, the guard and `init`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    node: Option<NodeId>,
    /// Region whose nodes take over automatically; at least one node is in it.
    #[schemars(with = "String")]
    primary_region: Region,
    /// Key that signs commands to agents: at least 32 bytes, the same on every host.
    command_signing_key_file: PathBuf,
    nodes: Vec<NodeSettings>,
    lease: LeaseSettings,
    #[serde(default)]
    policy: PolicySettings,
    #[serde(default)]
    postgres: Option<PostgresSettings>,
    #[serde(default)]
    guard: Option<GuardSettings>,
    #[serde(default)]
    agent: Option<AgentSettings>,
    #[serde(default)]
    dns: Option<DnsSettings>,
    #[serde(default)]
    ec2: Option<Ec2Settings>,
    #[serde(default)]
    verify_write: Option<VerifyWriteSettings>,
}

/// Returns the reference of the settings.
pub(crate) fn reference() -> String {
    settings_file_page::<SettingsFile>("failover-ctl", "`failover-ctl/src/config/`")
}

impl Settings {
    /// Reads and checks the settings in `path`.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], which names the setting, the reason and the remedy.
    pub(crate) fn read(path: &Path) -> Result<Self, SettingsError> {
        Self::check(causeway_runtime::config::read::<SettingsFile>(path)?)
    }

    fn check(written: SettingsFile) -> Result<Self, SettingsError> {
        let SettingsFile {
            cluster,
            primary_region,
            nodes,
            lease,
            policy,
            dns,
            ec2,
            verify_write,
            ..
        } = written;
        check_cluster_name(&cluster)?;
        check_nodes(&nodes, &primary_region)?;
        check_lease_region(&lease, &nodes)?;
        check_dns_targets(dns.as_ref(), &nodes)?;
        check_policy(&policy)?;
        let timing = lease.timing()?;
        let host = match written.node {
            None => None,
            Some(name) => Some(host(
                &name,
                &nodes,
                written.postgres,
                written.guard,
                written.agent,
            )?),
        };
        let command_signing_key_file = written.command_signing_key_file;
        Ok(Self {
            cluster,
            primary_region,
            nodes,
            lease,
            timing,
            policy,
            dns,
            ec2,
            verify_write,
            command_signing_key_file,
            host,
        })
    }
}

fn check_cluster_name(cluster: &str) -> Result<(), SettingsError> {
    if cluster.parse::<NodeId>().is_err() {
        let why = "must be lower-case letters, digits and hyphens";
        return Err(SettingsError::setting("cluster", why));
    }
    Ok(())
}

/// Checks that the lease bucket is in a region without a database node.
fn check_lease_region(lease: &LeaseSettings, nodes: &[NodeSettings]) -> Result<(), SettingsError> {
    let has_node = |node: &NodeSettings| node.region.as_str() == lease.region;
    if nodes.iter().any(has_node) {
        let why = format!(
            "is `{}`, where a database node is: the loss of that region would lose the lease too; use a bucket in a \
             third region",
            lease.region
        );
        return Err(SettingsError::setting("lease.region", why));
    }
    Ok(())
}

/// Checks that the API's record has a target for the region of every node.
fn check_dns_targets(
    dns: Option<&DnsSettings>,
    nodes: &[NodeSettings],
) -> Result<(), SettingsError> {
    let Some(api) = dns.and_then(|dns| dns.api.as_ref()) else {
        return Ok(());
    };
    for node in nodes {
        if !api.targets.contains_key(&node.region) {
            let why = format!(
                "has no target for `{}`, the region of `{}`",
                node.region, node.name
            );
            return Err(SettingsError::setting("dns.api.targets", why));
        }
    }
    Ok(())
}

fn check_policy(policy: &PolicySettings) -> Result<(), SettingsError> {
    let timeouts = [
        policy.write_probe_timeout_secs,
        policy.write_stall_timeout_secs,
        policy.start_timeout_secs,
    ];
    if timeouts.contains(&0) {
        let why =
            "must be more than zero, like `write-stall-timeout-secs` and `start-timeout-secs`";
        return Err(SettingsError::setting(
            "policy.write-probe-timeout-secs",
            why,
        ));
    }
    Ok(())
}

fn check_nodes(nodes: &[NodeSettings], primary_region: &Region) -> Result<(), SettingsError> {
    let mut names = BTreeSet::new();
    let mut places = BTreeSet::new();
    let mut agents = BTreeSet::new();
    for node in nodes {
        if !names.insert(&node.name) {
            return Err(SettingsError::setting(
                "nodes.name",
                format!("`{}` is there twice", node.name),
            ));
        }
        if !places.insert((&node.address, node.port)) {
            let why = format!("`{}` port {} is there twice", node.address, node.port);
            return Err(SettingsError::setting("nodes.address", why));
        }
        if !agents.insert(node.agent) {
            return Err(SettingsError::setting(
                "nodes.agent",
                format!("`{}` is there twice", node.agent),
            ));
        }
    }
    if !nodes.iter().any(|node| node.region == *primary_region) {
        let why = format!(
            "is `{primary_region}`, and no node is there: no node could take over automatically"
        );
        return Err(SettingsError::setting("primary-region", why));
    }
    Ok(())
}

fn host(
    name: &NodeId,
    nodes: &[NodeSettings],
    postgres: Option<PostgresSettings>,
    guard: Option<GuardSettings>,
    agent: Option<AgentSettings>,
) -> Result<HostSettings, SettingsError> {
    let unknown = || {
        SettingsError::setting(
            "node",
            format!("is `{name}`, which is not among `[[nodes]]`"),
        )
    };
    let node = nodes
        .iter()
        .find(|node| node.name == *name)
        .cloned()
        .ok_or_else(unknown)?;
    let missing = |section| SettingsError::setting(section, "is missing, and a node needs it");
    let postgres = postgres.ok_or_else(|| missing("postgres"))?;
    let guard = guard.ok_or_else(|| missing("guard"))?;
    let agent = agent.ok_or_else(|| missing("agent"))?;
    let paths = [
        ("postgres.bin-directory", &postgres.bin_directory),
        ("postgres.config-file", &postgres.config_file),
        ("postgres.data-directory", &postgres.data_directory),
        ("postgres.socket-directory", &postgres.socket_directory),
        ("guard.runtime-directory", &guard.runtime_directory),
        ("agent.state-directory", &agent.state_directory),
    ];
    for (setting, path) in paths {
        if !path.is_absolute() {
            return Err(SettingsError::setting(setting, "must be an absolute path"));
        }
    }
    let data = &postgres.data_directory;
    if guard.runtime_directory.starts_with(data) || agent.state_directory.starts_with(data) {
        let why =
            "must lie outside of `postgres.data-directory`, which pg_rewind and a rebuild empty";
        return Err(SettingsError::setting("agent.state-directory", why));
    }
    if postgres.config_file.starts_with(data) {
        let why = "must lie outside of `postgres.data-directory`, as Debian has it: a clone would bring another node's";
        return Err(SettingsError::setting("postgres.config-file", why));
    }
    if node.port != postgres.port {
        let why = format!(
            "is {}, and `[[nodes]]` has {} for `{name}`",
            postgres.port, node.port
        );
        return Err(SettingsError::setting("postgres.port", why));
    }
    Ok(HostSettings {
        node,
        postgres,
        guard,
        agent,
    })
}

impl LeaseSettings {
    fn timing(&self) -> Result<LeaseTiming, SettingsError> {
        let duration = |name, secs: f64| {
            Duration::try_from_secs_f64(secs)
                .map_err(|_| SettingsError::setting(name, "must be a number of seconds"))
        };
        let timing = LeaseTiming {
            renew_interval: duration("lease.renew-interval-secs", self.renew_interval_secs)?,
            request_timeout: duration("lease.request-timeout-secs", self.request_timeout_secs)?,
            poll_interval: duration("lease.poll-interval-secs", self.poll_interval_secs)?,
            stop_deadline: duration("lease.stop-deadline-secs", self.stop_deadline_secs)?,
            kill_deadline: duration("lease.kill-deadline-secs", self.kill_deadline_secs)?,
            lease_duration: duration("lease.lease-duration-secs", self.lease_duration_secs)?,
        };
        Ok(timing.checked()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;

    const EXAMPLE: &str = include_str!("../../../docs/examples/failover-ctl.toml");

    #[test]
    fn documented_example_then_accepted() {
        Settings::check(toml::from_str(EXAMPLE).unwrap()).unwrap();
    }

    proptest! {
        #[test]
        fn damaged_settings_then_no_panic(text in damaged_text(&EXAMPLE.replace("#lease", "lease"))) {
            if let Ok(written) = toml::from_str(&text)
                && let Ok(settings) = Settings::check(written)
            {
                let nodes = settings.nodes.iter();
                nodes.for_each(|node| drop(settings.for_agent(node)));
            }
        }
    }
}
