//! Configuration files that prevent a start of PostgreSQL without the guard, and hold back commit acknowledgements.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use causeway_core::agent::Commits;

use crate::config::HostSettings;
use crate::data_directory;
use crate::data_directory::auto_conf;
use crate::protocol::guard::NO_STANDBY;

/// Settings that the guard owns. With `restart_after_crash`, the postmaster would recover from a crash by itself,
/// and the agent would not count the restart.
const SETTINGS: [&str; 2] = ["synchronous_standby_names", "restart_after_crash"];

/// Checks that PostgreSQL's configuration file includes the guard's file, and that no later line overrides it.
///
/// # Errors
///
/// When the file cannot be read, or a check fails.
pub(crate) fn check(host: &HostSettings) -> anyhow::Result<()> {
    let path = &host.postgres.config_file;
    let text =
        fs::read_to_string(path).with_context(|| format!("could not read `{}`", path.display()))?;
    let line = format!("include '{}'", host.guard_conf().display());
    let mut below = text.lines().map(str::trim);
    let includes_guard_file = below.any(|text_line| text_line == line);
    if !includes_guard_file {
        bail!(
            "`{}` can be used without the guard: add the line `{line}` at its end",
            path.display()
        );
    }
    // Later lines override earlier ones.
    let overrides = |setting: &&str| {
        let name = auto_conf::name(setting);
        SETTINGS.contains(&&*name) || name.starts_with("include")
    };
    if let Some(later) = below.find(overrides) {
        bail!(
            "`{}` has `{later}` below the guard's include, which it may override: move it above `{line}`",
            path.display()
        );
    }
    Ok(())
}

/// Removes the guard's settings from `postgresql.auto.conf`, which overrides every other file.
///
/// # Errors
///
/// When the file cannot be read or written.
pub(super) fn remove_overrides(data: &Path) -> io::Result<()> {
    auto_conf::remove(data, |name| SETTINGS.contains(&name))
}

/// Writes the file that `postgresql.conf` includes, atomically. It exists only while the guard runs.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn write(host: &HostSettings, commits: Commits) -> io::Result<()> {
    let path = host.guard_conf();
    let mut text = format!(
        "# Written by the guard at its start; PostgreSQL does not start without it.\ninclude_if_exists '{}'\n\
         # The guard restarts PostgreSQL, so that restarts are counted.\nrestart_after_crash = off\n",
        host.replication_conf().display()
    );
    if commits == Commits::HeldBack {
        text.push_str(
            "# No commit is acknowledged until this node holds the lease.\n\
             synchronous_standby_names = '",
        );
        text.extend([NO_STANDBY, "'\n"]);
    }
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    fs::rename(temporary, path)
}

/// Makes the `postgresql.conf` in the data directory, which a manual start would read, include the configured file.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn write_config(host: &HostSettings) -> io::Result<()> {
    let postgres = &host.postgres;
    data_directory::include_config(&postgres.data_directory, &postgres.config_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::Nodes;

    #[test]
    fn configuration_without_include_then_rejected() {
        let nodes = Nodes::new();
        let host = nodes.node("a").host();
        let said = check(&host).unwrap_err().to_string();
        assert!(said.contains("can be used without the guard"), "{said}");
        assert!(said.contains("add the line `include '"), "{said}");

        let line = format!("include '{}'\n", host.guard_conf().display());
        fs::write(&host.postgres.config_file, &line).unwrap();
        check(&host).unwrap();

        // Settings above the include are allowed.
        let above = format!("synchronous_standby_names = 'b'\n{line}shared_buffers = '1GB'\n");
        fs::write(&host.postgres.config_file, above).unwrap();
        check(&host).unwrap();
    }

    #[test]
    fn setting_below_include_then_rejected() {
        let nodes = Nodes::new();
        let host = nodes.node("a").host();
        for later in ["Synchronous_Standby_Names=''", "include_dir 'conf.d'"] {
            let text = format!("include '{}'\n  {later}\n", host.guard_conf().display());
            fs::write(&host.postgres.config_file, text).unwrap();
            let said = check(&host).unwrap_err().to_string();
            assert!(said.contains("below the guard's include"), "{said}");
        }
    }

    #[test]
    fn setting_by_alter_system_then_only_it_removed() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("postgresql.auto.conf");
        let text = "# x\nsynchronous_standby_names = ''\nwork_mem = '8MB'\n";
        fs::write(&path, text).unwrap();
        remove_overrides(data.path()).unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(kept, "# x\nwork_mem = '8MB'\n");
    }
}
