//! Rewind or copy of a stopped server's data directory. A marker file exists until it is complete and records what is
//! done; while it exists, the guard does not start PostgreSQL.

use std::ffi::OsString;
use std::fs;
use std::io;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{StandbySetup, StandbySetupError};
use crate::agent::preconditions::find_wal_obstacle;
use crate::agent::standby_setup::diverged_wal::DivergedWalSave;
use crate::agent::standby_setup::layout::DirectoryLayout;
use crate::agent::standby_setup::primary::{PrimaryHistory, PrimarySession};
use crate::agent::standby_setup::tools::run;
use crate::agent::standby_setup::wal_cleanup;
use crate::agent::standby_setup::wal_presence;
use crate::data_directory;
use crate::data_directory::timeline_history;
use crate::durable_file::{sync_parent, write_private};

/// Content of the marker file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RebuildMarker {
    layout: DirectoryLayout,
}

impl StandbySetup {
    /// Rewinds the directory to its fork from the primary's history, or copies the primary if that fails. Diverged WAL is
    /// saved first.
    pub(crate) async fn rewind(&self) -> Result<(), StandbySetupError> {
        let primary = self
            .connect_to_primary()
            .await
            .map_err(StandbySetupError::PrimarySilent)?;
        let path = self.save_diverged(&primary).await?;
        if let PrimaryHistory::Hidden(why) = path {
            warn!(
                reason = why,
                "timeline history unreadable for pg_rewind, data directory copied instead"
            );
            return self.copy("the primary's history is hidden").await;
        }
        let waited = primary.checkpointed().await;
        waited.map_err(StandbySetupError::PrimarySilent)?;
        match self.run_pg_rewind().await {
            Ok(()) => {}
            Err(error) => {
                let error = format!("{error:#}");
                warn!(error, "pg_rewind failed, data directory copied instead");
                self.copy("pg_rewind failed").await?;
            }
        }
        self.clean_wal(path).await;
        Ok(())
    }

    /// Replaces the directory by a copy of the primary. Diverged WAL is saved first.
    pub(crate) async fn rebuild(&self, why: &'static str) -> Result<(), StandbySetupError> {
        let primary = self
            .connect_to_primary()
            .await
            .map_err(StandbySetupError::PrimarySilent)?;
        let path = self.save_diverged(&primary).await?;
        self.copy(why).await?;
        self.clean_wal(path).await;
        Ok(())
    }

    /// Removes saved diverged WAL from `pg_wal`, and records the files that came with the rewind or copy: this node's own WAL
    /// was saved just before, and no server has accepted a write since. A failure costs disk space and another save, and
    /// does not prevent streaming.
    async fn clean_wal(&self, path: PrimaryHistory) {
        let data = self.host.postgres.data_directory.clone();
        let state = self.host.agent.state_directory.clone();
        let tidying = move || {
            let Some(primary) = path.known_history() else {
                return Ok(()); // The files of its history are unknown.
            };
            wal_cleanup::clean_wal(&data, &state, primary)
        };
        let tidied = tokio::task::spawn_blocking(tidying).await;
        if let Err(error) = tidied
            .map_err(anyhow::Error::from)
            .and_then(|tidied| tidied)
        {
            let error = format!("{error:#}");
            warn!(error, "diverged WAL not removed from `pg_wal`");
        }
    }

    /// Saves diverged WAL, or proves that there is none, and returns the primary's history. The directory is not changed
    /// before this succeeds.
    async fn save_diverged(
        &self,
        primary: &PrimarySession,
    ) -> Result<PrimaryHistory, StandbySetupError> {
        self.kill_leftover_processes()
            .await
            .map_err(StandbySetupError::NotSaved)?;
        let (data, marker) = (
            &self.host.postgres.data_directory,
            self.host.rewinding_marker(),
        );
        // WAL that an interrupted attempt left was saved before the marker was written.
        if !marker.exists() {
            wal_presence::check(data).map_err(StandbySetupError::NotSaved)?;
        }
        let path = primary
            .path()
            .await
            .map_err(StandbySetupError::PrimarySilent)?;
        self.save_diverged_wal(&path).await?;
        Ok(path)
    }

    /// Saves this node's WAL past the forks in `path`.
    pub(super) async fn save_diverged_wal(
        &self,
        path: &PrimaryHistory,
    ) -> Result<(), StandbySetupError> {
        let (host, source, path) = (self.host.clone(), self.primary.name.clone(), path.clone());
        let saving = move || {
            DivergedWalSave {
                data: &host.postgres.data_directory,
                state: &host.agent.state_directory,
                node: &host.node.name,
                source: &source,
                primary: path.known_history(),
            }
            .make()
        };
        let saved = tokio::task::spawn_blocking(saving).await;
        let saved = saved.map_err(anyhow::Error::from).and_then(|saved| saved);
        saved.map_err(StandbySetupError::NotSaved)?;
        Ok(())
    }

    async fn run_pg_rewind(&self) -> anyhow::Result<()> {
        let host = &self.host;
        let postgres = &host.postgres;
        let data = &postgres.data_directory;
        self.write_password_file()?;
        let source = self.conninfo(&postgres.rewind_user, Some(&postgres.database))?;
        self.write_marker(DirectoryLayout::of(data)?)?;
        // A single-user server, by which pg_rewind recovers a directory that was not shut down,
        // refuses standby mode.
        data_directory::remove_standby_signal(data)?;
        let mut command = self.tool("pg_rewind");
        command.arg("--target-pgdata").arg(data);
        command.arg("--source-server").arg(source);
        if data_directory::major_version(data).is_some_and(|release| release >= 15) {
            let mut config = OsString::from("--config-file=");
            config.push(&postgres.config_file);
            command.arg(config);
        } else {
            // Releases before 15 read the directory's own file, and have no such option.
            data_directory::include_config(data, &postgres.config_file)?;
        }
        if postgres.restore_command.is_some() {
            command.arg("--restore-target-wal");
        }
        info!(source = %self.primary.name, "pg_rewind started");
        run(command, "pg_rewind").await?;
        self.finish()
    }

    async fn copy(&self, why: &'static str) -> Result<(), StandbySetupError> {
        self.copy_primary(why)
            .await
            .map_err(StandbySetupError::Rebuild)
    }

    async fn copy_primary(&self, why: &'static str) -> anyhow::Result<()> {
        // The directory is emptied only after a primary has responded.
        let tablespaces = self.connect_to_primary().await?.tablespaces().await?;
        let host = &self.host;
        let data = &host.postgres.data_directory;
        self.write_password_file()?;
        let source = self.conninfo(&host.postgres.replication_user, None)?;
        let layout = DirectoryLayout::of(data)?.merge(self.marked_layout()?);
        let mapped = layout.mapped(&tablespaces);
        layout.check(data, &mapped)?;
        if !self.host.rewinding_marker().try_exists()? && data.exists() {
            // An interrupted copy leaves the link and WAL of its own.
            if let Some(why) = find_wal_obstacle(data)? {
                bail!("the data directory {why}");
            }
        }
        self.write_marker(layout.clone())?;
        info!(reason = why, source = %self.primary.name, "data directory rebuild started");
        let (emptying, directory) = (layout.clone(), data.clone());
        tokio::task::spawn_blocking(move || emptying.empty(&directory)).await??;

        let mut command = self.tool("pg_basebackup");
        command
            .arg("--pgdata")
            .arg(data)
            .arg("--dbname")
            .arg(source);
        command.args(["--wal-method=stream", "--checkpoint=fast", "--no-password"]);
        if let Some(wal) = &layout.wal {
            command.arg("--waldir").arg(wal);
        }
        for (there, here) in mapped.values().filter(|(there, here)| there != here) {
            let escaped = |path: &std::path::Path| path.to_string_lossy().replace('=', r"\=");
            command.arg(format!(
                "--tablespace-mapping={}={}",
                escaped(there),
                escaped(here)
            ));
        }
        run(command, "pg_basebackup").await?;
        // A clone has the newest history only, and could not serve a standby on an older timeline.
        if let Some(own) = data_directory::read_control_file(data)?.timeline {
            timeline_history::complete(data, own)?;
        }
        self.finish()
    }

    fn write_marker(&self, layout: DirectoryLayout) -> anyhow::Result<()> {
        let text = serde_json::to_string(&RebuildMarker { layout })?;
        write_private(&self.host.rewinding_marker(), &text)
    }

    /// Reads the layout that an interrupted rewind or copy recorded, if there is a marker file.
    fn marked_layout(&self) -> anyhow::Result<DirectoryLayout> {
        let path = self.host.rewinding_marker();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(DirectoryLayout::default());
            }
            read => read.with_context(|| format!("could not read `{}`", path.display()))?,
        };
        let marker: RebuildMarker = serde_json::from_str(&text).with_context(|| {
            format!(
                "`{}` is damaged, so the locations of tablespaces and `pg_wal` are unknown: restore their links in the \
                 data directory, then remove the file",
                path.display()
            )
        })?;
        Ok(marker.layout)
    }

    /// Marks the directory as a standby's, and removes the marker file.
    fn finish(&self) -> anyhow::Result<()> {
        let marker = self.host.rewinding_marker();
        data_directory::put_standby_signal(&self.host.postgres.data_directory)?;
        match fs::remove_file(&marker) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context("could not remove the marker file");
            }
            Ok(()) | Err(_) => {}
        }
        Ok(sync_parent(&marker)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::Nodes;

    /// An empty layout in its place would lose the links of tablespaces and `pg_wal`.
    #[test]
    fn marker_damaged_then_layout_unknown() {
        let nodes = Nodes::new();
        let node = nodes.node("b");
        let setup = node.follower(&nodes.node("a"));
        fs::create_dir_all(node.state()).unwrap();
        assert_eq!(setup.marked_layout().unwrap(), DirectoryLayout::default());

        let layout = DirectoryLayout {
            wal: Some("/wal".into()),
            ..DirectoryLayout::default()
        };
        setup.write_marker(layout.clone()).unwrap();
        assert_eq!(setup.marked_layout().unwrap(), layout);

        for damaged in ["", "{}", "{\"layout\":"] {
            fs::write(setup.host.rewinding_marker(), damaged).unwrap();
            assert!(setup.marked_layout().is_err(), "{damaged:?}");
        }
    }
}
