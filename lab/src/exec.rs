//! `lab exec`: the environment in which a program acts as an operator of a running lab.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use nix::unistd::User;
use serde::{Deserialize, Serialize};

use crate::cluster::settings;
use crate::cluster::topology::{NodeSpec, POSTGRES_PORT, Topology};

/// Prefixes of the caller's variables that would compete with the lab's own.
const REPLACED_PREFIXES: [&str; 4] = ["AWS_", "PG", "FAILOVER_CTL_", "BACKUP_AGENT_CONFIG"];

/// The program that runs as PostgreSQL's user: what it writes, the node's own archiving reads.
const RUNS_AS_POSTGRES: &str = "backup-agent";

/// Environment of a program that acts on a running lab. It contains secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecEnvironment {
    /// Directories that are searched before the caller's `PATH`.
    search_path: Vec<PathBuf>,
    /// Variables that replace the caller's.
    variables: BTreeMap<String, String>,
}

impl ExecEnvironment {
    /// Returns the environment of an operator outside both regions, or on `node`'s host.
    ///
    /// `credentials` are the variables with the lab's AWS credentials.
    pub fn new(
        topology: &Topology,
        node: Option<&NodeSpec>,
        credentials: BTreeMap<String, String>,
        app_password: &str,
        postgres_bin: &Path,
    ) -> Self {
        let (failover_ctl, backup_agent) = match node {
            Some(spec) => (settings::failover_ctl(spec), settings::backup_agent(spec)),
            None => (
                settings::operator(topology),
                settings::operator_backup_agent(topology),
            ),
        };
        let address = |spec: &NodeSpec| spec.postgres().ip().to_string();
        let (hosts, session) = if let Some(spec) = node {
            (address(spec), "any")
        } else {
            let hosts: Vec<_> = topology.nodes.iter().map(address).collect();
            (hosts.join(","), "read-write")
        };
        let mut variables = credentials;
        for (name, value) in [
            ("FAILOVER_CTL_CONFIG", failover_ctl.display().to_string()),
            ("BACKUP_AGENT_CONFIG", backup_agent.display().to_string()),
            ("PGHOST", hosts),
            ("PGPORT", POSTGRES_PORT.to_string()),
            ("PGUSER", "app".to_owned()),
            ("PGDATABASE", "app".to_owned()),
            ("PGPASSWORD", app_password.to_owned()),
            ("PGSSLMODE", "disable".to_owned()),
            ("PGTARGETSESSIONATTRS", session.to_owned()),
        ] {
            variables.insert(name.to_owned(), value);
        }
        Self {
            search_path: vec![topology.programs(), postgres_bin.to_owned()],
            variables,
        }
    }

    /// Returns the command that runs `words` in this environment, with the caller's standard streams
    /// and working directory. `postgres_user` is the user that `backup-agent` runs as, unless that is
    /// the caller.
    ///
    /// # Errors
    ///
    /// When `words` is empty, or a directory cannot be part of a `PATH`.
    pub fn command(
        &self,
        words: &[OsString],
        postgres_user: Option<&User>,
    ) -> anyhow::Result<Command> {
        let (program, arguments) = words.split_first().context("no program was named")?;
        let is_backup_agent = Path::new(program)
            .file_name()
            .is_some_and(|name| name == RUNS_AS_POSTGRES);
        let mut command = match postgres_user.filter(|_| is_backup_agent) {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={}", user.uid))
                    .arg(format!("--regid={}", user.gid))
                    .args(["--init-groups", "--"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy();
            if REPLACED_PREFIXES
                .iter()
                .any(|prefix| shown.starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        let callers = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        let search_path = self.search_path.iter().cloned();
        let search_path = std::env::join_paths(search_path.chain(std::env::split_paths(&callers)))
            .context("the lab's directory cannot be part of `PATH`")?;
        command.env("PATH", search_path).envs(&self.variables);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn no_node_then_operator_settings_and_primary() {
        let environment = environment(None);

        assert_eq!(
            environment.variables["FAILOVER_CTL_CONFIG"],
            "/tmp/causeway-lab-7/operator.toml"
        );
        assert_eq!(
            environment.variables["BACKUP_AGENT_CONFIG"],
            "/tmp/causeway-lab-7/operator-backup-agent.toml"
        );
        assert_eq!(
            environment.variables["PGHOST"],
            "127.77.7.11,127.77.7.12,127.77.7.13"
        );
        assert_eq!(environment.variables["PGTARGETSESSIONATTRS"], "read-write");
        assert_eq!(environment.variables["AWS_ACCESS_KEY_ID"], "LAB1");
    }

    #[test]
    fn node_selected_then_its_settings_and_server() {
        let environment = environment(Some("c"));

        assert_eq!(
            environment.variables["FAILOVER_CTL_CONFIG"],
            "/tmp/causeway-lab-7/node-c/conf/failover-ctl.toml"
        );
        assert_eq!(
            environment.variables["BACKUP_AGENT_CONFIG"],
            "/tmp/causeway-lab-7/node-c/conf/backup-agent.toml"
        );
        assert_eq!(environment.variables["PGHOST"], "127.77.7.13");
        assert_eq!(environment.variables["PGTARGETSESSIONATTRS"], "any");
    }

    #[test]
    fn command_then_arguments_unchanged_and_lab_programs_first() {
        let words = ["failover-ctl", "promote", "--to", "eu-central-1"].map(OsString::from);
        let command = environment(None).command(&words, None).unwrap();

        assert_eq!(command.get_program(), "failover-ctl");
        let arguments: Vec<&OsStr> = command.get_args().collect();
        assert_eq!(arguments, ["promote", "--to", "eu-central-1"]);
        let path = command.get_envs().find(|(name, _)| *name == "PATH");
        let path = path.unwrap().1.unwrap().to_string_lossy();
        assert!(
            path.starts_with("/tmp/causeway-lab-7/bin:/pg/bin:"),
            "{path}"
        );
    }

    #[test]
    fn root_then_only_backup_agent_runs_as_postgres() {
        let postgres = User::from_uid(nix::unistd::Uid::effective()).unwrap();
        for (program, expected) in [
            ("backup-agent", "setpriv"),
            ("failover-ctl", "failover-ctl"),
        ] {
            let words = [OsString::from(program), OsString::from("list")];
            let command = environment(None)
                .command(&words, postgres.as_ref())
                .unwrap();
            assert_eq!(command.get_program(), expected);
            assert_eq!(command.get_args().last(), Some(OsStr::new("list")));
        }
    }

    #[test]
    fn no_program_then_error() {
        assert!(environment(None).command(&[], None).is_err());
    }

    fn environment(node: Option<&str>) -> ExecEnvironment {
        let topology = Topology::new(7, None).unwrap();
        let node = node.map(|name| topology.node_spec(&name.parse().unwrap()).unwrap());
        let credentials = BTreeMap::from([("AWS_ACCESS_KEY_ID".to_owned(), "LAB1".to_owned())]);
        ExecEnvironment::new(&topology, node, credentials, "secret", Path::new("/pg/bin"))
    }
}
