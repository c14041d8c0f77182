//! The settings files by which PostgreSQL cannot be used without guard, and by which guard holds back the
//! acknowledgement of commits.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use causeway_core::agent::Commits;

use crate::config::HostSettings;
use crate::data_directory;
use crate::data_directory::auto_conf;
use crate::protocol::guard::NO_STANDBY;

/// The settings that are guard's. With `restart_after_crash` the postmaster would go on after a crash, cut all
/// clients and recover, and nobody would count it.
const SETTINGS: [&str; 2] = ["synchronous_standby_names", "restart_after_crash"];

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
    let mut below = text.lines().map(str::trim).skip_while(|text_line| *text_line != line);
    if below.next().is_none() {
        bail!(
            "`{}` could be started without guard: add the line `{line}` at its end",
            path.display()
        );
    }
    // What comes later in a file wins.
    let outweighs = |setting: &&str| {
        let name = auto_conf::name(setting);
        SETTINGS.contains(&&*name) || name.starts_with("include")
    };
    if let Some(later) = below.find(outweighs) {
        bail!(
            "`{}` has `{later}` below guard's include, which could outweigh what is set there: move it above `{line}`",
            path.display()
        );
    }
    Ok(())
}

/// Removes what is guard's from `postgresql.auto.conf`, which outweighs every other file.
///
/// # Errors
///
/// When the file cannot be read or written.
pub(super) fn drop_overrides(data: &Path) -> io::Result<()> {
    auto_conf::remove(data, |name| SETTINGS.contains(&name))
}

/// Writes the file that `postgresql.conf` includes, whole or not at all. It is there while guard is.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn write(host: &HostSettings, commits: Commits) -> io::Result<()> {
    let path = host.guard_conf();
    let mut text = format!(
        "# Written by guard when it starts; without it PostgreSQL does not.\ninclude_if_exists '{}'\n\
         # Guard starts it again, and counts.\nrestart_after_crash = off\n",
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
        fs::write(&host.postgres.config_file, &line).unwrap();
        check(&host).unwrap();

        // Above it a person may set what they like.
        let above = format!("synchronous_standby_names = 'b'\n{line}shared_buffers = '1GB'\n");
        fs::write(&host.postgres.config_file, above).unwrap();
        check(&host).unwrap();
    }

    #[test]
    fn setting_below_guards_include_then_start_rejected() {
        let nodes = Nodes::new();
        let host = nodes.node("a").host();
        for later in ["Synchronous_Standby_Names=''", "include_dir 'conf.d'"] {
            let text = format!("include '{}'\n  {later}\n", host.guard_conf().display());
            fs::write(&host.postgres.config_file, text).unwrap();
            let said = check(&host).unwrap_err().to_string();
            assert!(said.contains("below guard's include"), "{said}");
        }
    }

    #[test]
    fn setting_by_alter_system_then_removed_and_the_rest_kept() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("postgresql.auto.conf");
        let text = "# x\nsynchronous_standby_names = ''\nwork_mem = '8MB'\n";
        fs::write(&path, text).unwrap();
        drop_overrides(data.path()).unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(kept, "# x\nwork_mem = '8MB'\n");
    }
}
