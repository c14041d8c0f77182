//! The settings files by which PostgreSQL cannot be used without guard, and by which guard holds back the
//! acknowledgement of commits.

use std::fs;
use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use ha_core::agent::Commits;

use crate::config::HostSettings;
use crate::data_directory;

/// A synchronous standby that no standby is: the commits of a primary wait for it, until a reload without
/// it acknowledges them all (`SyncRepUpdateSyncStandbysDefined` in
/// `src/backend/replication/syncrep.c`).
const NO_STANDBY: &str = "failover_ctl_lease_not_held";

/// Checks that PostgreSQL's own settings cannot be used without guard.
///
/// # Errors
///
/// When the file cannot be read, or does not include guard's.
pub(super) fn check(host: &HostSettings) -> anyhow::Result<()> {
    let path = &host.postgres.config_file;
    let text =
        fs::read_to_string(path).with_context(|| format!("could not read `{}`", path.display()))?;
    let line = format!("include '{}'", host.guard_conf().display());
    if text.lines().map(str::trim).any(|it| it == line) {
        return Ok(());
    }
    bail!(
        "`{}` could be started without guard: add the line `{line}` at its end",
        path.display()
    );
}

/// Writes the file that `postgresql.conf` includes, whole or not at all. It is there while guard is.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn write(host: &HostSettings, commits: Commits) -> io::Result<()> {
    let path = host.guard_conf();
    let mut text = format!(
        "# Written by guard when it starts; without it PostgreSQL does not.\ninclude_if_exists '{}'\n",
        host.replication_conf().display()
    );
    if commits == Commits::HeldBack {
        text.push_str(
            "# Until the lease says that this node is open, no commit is acknowledged.\n\
             synchronous_standby_names = '",
        );
        text.extend([NO_STANDBY, "'\n"]);
    }
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    fs::rename(temporary, path)
}

/// Makes the data directory's own `postgresql.conf`, which a start by hand would read, one with the
/// real one.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn include(host: &HostSettings) -> io::Result<()> {
    let postgres = &host.postgres;
    data_directory::include_config(&postgres.data_directory, &postgres.config_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::Nodes;

    #[test]
    fn configuration_without_include_then_start_rejected() {
        let nodes = Nodes::new();
        let host = nodes.node("a").host();
        let said = check(&host).unwrap_err().to_string();
        assert!(said.contains("could be started without guard"), "{said}");
        assert!(said.contains("add the line `include '"), "{said}");

        let line = format!("include '{}'\n", host.guard_conf().display());
        fs::write(&host.postgres.config_file, line).unwrap();
        check(&host).unwrap();
    }
}
