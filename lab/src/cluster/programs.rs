//! Programs of the platform, as this lab runs them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_core::Region;

use crate::aws::Credentials;
use crate::cluster::files::restrict;
use crate::cluster::program::{Program, RunAs};
use crate::cluster::topology::{NodeSpec, Topology};
use crate::cluster::{secrets, settings};

/// Names of the programs that production runs.
const NAMES: [&str; 3] = ["api", "backup-agent", "failover-ctl"];

/// Programs of the platform, with their credentials.
#[derive(Clone, Debug)]
pub struct Programs {
    topology: Topology,
    credentials: Credentials,
}

impl Programs {
    /// Copies the programs to a directory that the user `postgres` can read, and that a concurrent
    /// build does not change.
    ///
    /// # Errors
    ///
    /// When a program has not been built.
    pub fn install(topology: &Topology, credentials: &Credentials) -> anyhow::Result<Self> {
        let to = topology.programs();
        std::fs::create_dir_all(&to)?;
        restrict(&to, 0o755)?;
        let from = find_built_programs()?;
        for name in NAMES {
            let from = from.join(name);
            let to = to.join(name);
            if std::fs::hard_link(&from, &to).is_err() {
                std::fs::copy(&from, &to)
                    .with_context(|| format!("could not copy `{}`", from.display()))?;
            }
            restrict(&to, 0o755)?;
        }
        Ok(Self {
            topology: topology.clone(),
            credentials: credentials.clone(),
        })
    }

    /// Returns a client of the bucket that holds the lease, with the programs' credentials.
    pub fn lease_store(&self) -> aws_sdk_s3::Client {
        let region = &self.topology.third;
        self.credentials.s3(region, self.topology.store(region))
    }

    /// Returns a node's agent.
    pub fn agent(&self, spec: &NodeSpec) -> Program {
        // Like systemd's `StandardInput=file:`: PostgreSQL's user cannot open the key.
        Program {
            stdin: Some(secrets::command_signing_key(&self.topology)),
            ..self.on_node(spec, &["agent", "--key-from-stdin"])
        }
    }

    /// Returns a node's guard.
    pub fn guard(&self, spec: &NodeSpec) -> Program {
        self.on_node(spec, &["guard"])
    }

    /// Returns `failover-ctl` on a node's host.
    pub fn failover_ctl_on(&self, spec: &NodeSpec, arguments: &[&str]) -> Program {
        let name = format!("failover-ctl-{}", spec.node);
        let settings = settings::failover_ctl(spec);
        self.by_operator(&name, &settings, arguments)
    }

    /// Returns `failover-ctl` as an operator outside both regions runs it.
    pub fn failover_ctl(&self, arguments: &[&str]) -> Program {
        let settings = settings::operator(&self.topology);
        self.by_operator("operator", &settings, arguments)
    }

    /// Returns `backup-agent` on a node's host.
    pub fn backup_agent_on(&self, spec: &NodeSpec, arguments: &[&str]) -> Program {
        self.backup_agent(&settings::backup_agent(spec), arguments)
    }

    /// Returns `backup-agent` with this settings file.
    pub fn backup_agent(&self, settings: &Path, arguments: &[&str]) -> Program {
        self.program("backup-agent", "backup-agent", Some(settings), arguments)
    }

    /// Generates a key pair for backups, and returns the public key.
    ///
    /// # Errors
    ///
    /// When the private key's file exists, or cannot be written.
    pub async fn make_backup_keys(&self, identity: &Path) -> anyhow::Result<String> {
        let output = identity.display().to_string();
        let keygen = ["keygen", "--output", &output];
        let keygen = self.program("keygen", "backup-agent", None, &keygen);
        let recipient = keygen.run(None, Duration::from_mins(3)).await?;
        Ok(recipient.trim().to_owned())
    }

    /// Returns the API of a region.
    pub fn api(&self, region: &Region) -> Program {
        let topology = &self.topology;
        let hosts: Vec<_> = topology
            .nodes
            .iter()
            .map(|node| node.postgres().ip().to_string())
            .collect();
        let password = topology.secrets().join("app.password");
        let variables = [
            ("LISTEN", topology.api(region).to_string()),
            ("PGHOST", hosts.join(",")),
            (
                "PGPORT",
                crate::cluster::topology::POSTGRES_PORT.to_string(),
            ),
            ("PGUSER", "app".to_owned()),
            ("PGPASSWORD_FILE", password.display().to_string()),
            ("PGDATABASE", "app".to_owned()),
            ("PGSSLMODE", "disable".to_owned()),
            ("DB_STARTUP_TIMEOUT", "120".to_owned()),
            // Requests wait up to 8 s for a primary, at 200 requests a second.
            ("MAX_INFLIGHT", "4096".to_owned()),
        ];
        let mut program = self.program(&format!("api-{region}"), "api", None, &[]);
        program.environment = variables
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        program
    }

    fn on_node(&self, spec: &NodeSpec, arguments: &[&str]) -> Program {
        let command = arguments.first().copied().unwrap_or("failover-ctl");
        let name = format!("{command}-{}", spec.label());
        let settings = settings::failover_ctl(spec);
        self.program(&name, "failover-ctl", Some(&settings), arguments)
    }

    /// Returns a command that runs as the operator, who can read the command signing key.
    fn by_operator(&self, name: &str, settings: &Path, arguments: &[&str]) -> Program {
        Program {
            run_as: RunAs::Oneself,
            ..self.program(name, "failover-ctl", Some(settings), arguments)
        }
    }

    fn program(
        &self,
        name: &str,
        executable: &str,
        settings: Option<&Path>,
        arguments: &[&str],
    ) -> Program {
        let mut all: Vec<OsString> = Vec::new();
        if let Some(settings) = settings {
            all.extend(["--config".into(), settings.into()]);
        }
        all.extend(arguments.iter().map(Into::into));
        Program {
            name: name.to_owned(),
            executable: self.topology.programs().join(executable),
            arguments: all,
            environment: self.environment(),
            run_as: RunAs::Postgres,
            stdin: None,
            log: self.topology.logs().join(format!("{name}.log")),
        }
    }

    /// Returns the environment variables of every program: the credentials of this lab's AWS.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<_, _> = self.credentials.environment().into_iter().collect();
        if let Ok(filter) = std::env::var("CAUSEWAY_LAB_LOG") {
            variables.insert("RUST_LOG".to_owned(), filter);
        }
        variables
    }
}

/// Returns the directory of the built programs: `CAUSEWAY_BIN`, or this program's own, or in a test
/// the one above it.
pub(crate) fn find_built_programs() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("CAUSEWAY_BIN") {
        return Ok(PathBuf::from(named));
    }
    let own = std::env::current_exe().context("the path of this program has no directory")?;
    let is_there = |path: &&Path| NAMES.iter().all(|name| path.join(name).exists());
    match own.ancestors().skip(1).take(2).find(is_there) {
        Some(found) => Ok(found.to_owned()),
        None => bail!(
            "`{}` are not beside `{}`: run `cargo build --workspace`, or name their directory in \
             `CAUSEWAY_BIN`",
            NAMES.join("`, `"),
            own.display()
        ),
    }
}
