//! Replication settings that the agent writes and PostgreSQL includes through the guard's file.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use tracing::info;

use crate::agent::standby_setup::StandbySetup;
use crate::agent::standby_setup::tools::output;
use crate::data_directory::auto_conf;
use crate::data_directory::{self, REQUIRED};
use crate::durable_file::write_private;

/// Setting that is too low to replay the primary's WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RaisedSetting {
    /// Name.
    pub(crate) name: &'static str,
    /// Value in this node's configuration.
    pub(crate) here: u32,
    /// Value that the WAL requires.
    pub(crate) required: u32,
}

impl StandbySetup {
    /// Writes the settings for the primary, and keeps raised ones. Returns whether the file changed.
    pub(crate) fn write_replication_settings(&self) -> anyhow::Result<bool> {
        let written = read_or_empty(&self.host.replication_conf())?;
        let is_raised = |line: &&str| {
            REQUIRED
                .iter()
                .any(|setting| line.starts_with(&format!("{setting} = ")))
        };
        let raised: Vec<String> = written
            .lines()
            .filter(is_raised)
            .map(str::to_owned)
            .collect();
        self.write_settings(&raised)
    }

    /// Writes the settings, and raises those below the requirements of the WAL, with which a standby would not start or would
    /// pause replay. Returns the newly raised ones.
    pub(crate) async fn raise_replication_settings(&self) -> anyhow::Result<Vec<RaisedSetting>> {
        let (kept, too_low) = self.settings_too_low().await?;
        for setting in &too_low {
            info!(
                setting = setting.name,
                here = setting.here,
                required = setting.required,
                "setting raised to what the primary's WAL needs"
            );
        }
        let raised = too_low
            .iter()
            .map(|setting| (setting.name, setting.required))
            .chain(kept);
        let raised: Vec<String> = raised
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        self.write_settings(&raised)?;
        Ok(too_low)
    }

    fn write_settings(&self, raised: &[String]) -> anyhow::Result<bool> {
        let host = &self.host;
        self.write_password_file()?;
        // With `latest`, a standby follows every later primary. No history file may end its search: the guard removes
        // placeholders above the newest real history, and the archive responds with "absent" for timelines that were
        // never written.
        let mut text = format!(
            "# Written by the agent of `{}`, read by PostgreSQL through guard's file.\n\
             primary_conninfo = '{}'\nrecovery_target_timeline = 'latest'\nhot_standby = on\n",
            host.node.name,
            quoted(&self.conninfo(&host.postgres.replication_user, None)?),
        );
        if let Some(command) = &host.postgres.restore_command {
            text.extend(["restore_command = '", &quoted(command), "'\n"]);
        }
        for line in raised {
            text.extend([line, "\n"]);
        }
        let path = host.replication_conf();
        if fs::read_to_string(&path).is_ok_and(|stored| stored == text) {
            return Ok(false);
        }
        write_private(&path, &text)?;
        info!(primary = %self.primary.name, "replication source changed");
        Ok(true)
    }

    /// Returns earlier raised settings that suffice, and settings that are too low for the WAL.
    async fn settings_too_low(
        &self,
    ) -> anyhow::Result<(Vec<(&'static str, u32)>, Vec<RaisedSetting>)> {
        let (mut kept, mut too_low) = (Vec::new(), Vec::new());
        let Ok(control) = data_directory::read_control_file(&self.host.postgres.data_directory)
        else {
            return Ok((kept, too_low));
        };
        let written = read_or_empty(&self.host.replication_conf())?;
        for (name, required) in REQUIRED.into_iter().zip(control.required) {
            // PostgreSQL shows the result of its own files and of this one.
            let here = self.configured(name).await?;
            let was_raised = written
                .lines()
                .any(|line| line.starts_with(&format!("{name} = ")));
            if here < required {
                too_low.push(RaisedSetting {
                    name,
                    here,
                    required,
                });
            } else if was_raised {
                kept.push((name, required));
            }
        }
        Ok((kept, too_low))
    }

    /// Returns the value that a setting would have after a start.
    async fn configured(&self, name: &'static str) -> anyhow::Result<u32> {
        let postgres = &self.host.postgres;
        let mut command = self.tool("postgres");
        command
            .arg("-C")
            .arg(name)
            .arg("-D")
            .arg(&postgres.data_directory);
        command
            .arg("-c")
            .arg(format!("config_file={}", postgres.config_file.display()));
        let output = output(&mut command, "postgres -C").await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("PostgreSQL's settings cannot be read: {}", said.trim());
        }
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim()
            .parse()
            .with_context(|| format!("`{name}` is `{}`", said.trim()))
    }
}

/// Removes settings from `postgresql.auto.conf` that override the agent's: the recovery target, which a restore leaves
/// there, and the replication source, which `ALTER SYSTEM` may set.
///
/// A directory that has yet to reach its recovery target, or is a clone, keeps its settings.
pub(crate) fn remove_overrides(data: &Path) -> io::Result<()> {
    if ["recovery.signal", "backup_label"]
        .iter()
        .any(|name| data.join(name).exists())
    {
        return Ok(());
    }
    auto_conf::remove(data, |name| {
        ["primary_conninfo", "hot_standby"].contains(&name) || name.starts_with("recovery_target")
    })
}

/// Reads a file; a missing one is empty. Other errors are returned, because an empty result would drop raised settings.
fn read_or_empty(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("could not read `{}`", path.display())),
    }
}

fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_file_then_error_and_missing_file_empty() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read_or_empty(&directory.path().join("none")).unwrap(), "");
        assert!(
            read_or_empty(directory.path()).is_err(),
            "a directory is not a file"
        );
    }

    #[test]
    fn restored_settings_then_recovery_target_dropped_and_rest_kept() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("postgresql.auto.conf");
        let text = "# x\nwork_mem = '8MB'\nrestore_command = 'cp'\nrecovery_target_timeline = '3'\n\
                    recovery_target = ''\nhot_standby = 'off'\nprimary_conninfo = 'host=old'\n";
        fs::write(&path, text).unwrap();

        fs::write(data.path().join("recovery.signal"), "").unwrap();
        remove_overrides(data.path()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            text,
            "it has still to recover"
        );

        fs::remove_file(data.path().join("recovery.signal")).unwrap();
        remove_overrides(data.path()).unwrap();
        let kept = "# x\nwork_mem = '8MB'\nrestore_command = 'cp'\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
    }
}
