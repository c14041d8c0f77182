//! Check that a directory is the data directory of the server.
//!
//! A copy of a cluster has the same system identifier: a moved volume, an old standby, a restored
//! backup. A backup of its files with the server's `backup_label` would be useless. Paths are not
//! compared, because a server in a container has others. The check compares the content: the
//! running process, the last checkpoint, and finally whether a file that the server writes appears
//! there.

use std::fs;
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;
use std::time::Duration;

use causeway_runtime::poll;
use tokio::time;

use crate::base_backup::session::{Session, StartedBackup};
use crate::control_file::ControlFileData;
use crate::error::Error;

/// Maximum time of a start. PostgreSQL writes its start time to `postmaster.pid` when the process
/// begins, and to `pg_postmaster_start_time()` when its shared memory exists, which takes a while
/// if it is large.
const MAX_START_SECS: u64 = 300;

/// Interval of checking the files that the server writes.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Number of readings in which the control file must differ from the server's, while the server's
/// stays the same: a single reading may coincide with a checkpoint.
const MIN_DIFFERENCES: u32 = 3;

/// Time for which a deleted file may still be visible: a network file system may cache it.
const DELETED_FILE_TIMEOUT: Duration = Duration::from_secs(65);

impl Session {
    /// Checks that `directory` is the server's data directory.
    pub(crate) async fn verify_directory(&self, directory: &Path) -> Result<(), Error> {
        let control = ControlFileData::read(directory)?;
        let differs = self.difference(directory, &control).await;
        match differs.map_err(Error::Postgres)? {
            Some(why) => Err(self.other_directory(directory, why).await),
            None => Ok(()),
        }
    }

    /// Checks that the checkpoint that began the backup is the one in `control`, the control file
    /// of `directory`, or an earlier one.
    pub(crate) async fn verify_started(
        &self,
        directory: &Path,
        control: &ControlFileData,
        started: &StartedBackup,
    ) -> Result<(), Error> {
        if control.redo >= started.lsn {
            return Ok(());
        }
        let why = format!(
            "the backup began at {}, and the last checkpoint there is of {}",
            started.lsn, control.redo
        );
        Err(self.other_directory(directory, why).await)
    }

    async fn other_directory(&self, directory: &Path, mut why: String) -> Error {
        // Without `pg_read_all_settings` the setting is hidden, and the comparison does not need
        // it.
        if let Ok(Some(own_path)) = self.visible_setting("data_directory").await {
            why = format!("{why}; the server's own `data_directory` is `{own_path}`");
        }
        Error::OtherDirectory {
            path: directory.to_owned(),
            why,
        }
    }

    async fn difference(
        &self,
        directory: &Path,
        control: &ControlFileData,
    ) -> anyhow::Result<Option<String>> {
        let sql = "SELECT system_identifier::text FROM pg_control_system()";
        let server: String = self.client().query_one(sql, &[]).await?.try_get(0)?;
        if server != control.system_id.to_string() {
            let here = control.system_id;
            let why = format!("it contains cluster {here}, and the server is cluster {server}");
            return Ok(Some(why));
        }
        if let Some(why) = self.other_postmaster(directory).await? {
            return Ok(Some(why));
        }
        if let Some(why) = self.other_checkpoint(directory).await? {
            return Ok(Some(why));
        }
        self.does_not_write_there(directory).await
    }

    async fn other_postmaster(&self, directory: &Path) -> anyhow::Result<Option<String>> {
        let text = match fs::read_to_string(directory.join("postmaster.pid")) {
            Ok(text) => text,
            Err(error) => {
                let why = format!("no server runs there: `postmaster.pid` cannot be read: {error}");
                return Ok(Some(why));
            }
        };
        let Some((there, port_there)) = parse_start(&text) else {
            let why = "`postmaster.pid` there has no start time or no port".to_owned();
            return Ok(Some(why));
        };
        let sql = "SELECT floor(extract(epoch FROM pg_postmaster_start_time()))::bigint, \
                   current_setting('port')";
        let row = self.client().query_one(sql, &[]).await?;
        let (began, port): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        if began.abs_diff(there) > MAX_START_SECS || port_there != port {
            let why = format!(
                "another server was started there, on port {port_there}, {} s before this one, on port {port}",
                began.saturating_sub(there)
            );
            return Ok(Some(why));
        }
        Ok(None)
    }

    async fn other_checkpoint(&self, directory: &Path) -> anyhow::Result<Option<String>> {
        let mut differences = 0;
        let mut server = self.checkpoint().await?;
        loop {
            let here = ControlFileData::read(directory)?;
            if checkpoint_of(&here) == server {
                return Ok(None);
            }
            let before = std::mem::replace(&mut server, self.checkpoint().await?);
            if before == server {
                differences += 1;
            }
            if differences == MIN_DIFFERENCES {
                let (at, redo, timeline, _) = &server;
                let why = format!(
                    "its last checkpoint is at {} on timeline {}, and the server's at {at} (redo {redo}) \
                     on timeline {timeline}: it is a copy",
                    here.checkpoint, here.timeline
                );
                return Ok(Some(why));
            }
            // Not `poll::until`: a number of readings ends it, at whatever time a busy server answers.
            time::sleep(CHECK_INTERVAL).await;
        }
    }

    async fn checkpoint(&self) -> anyhow::Result<(String, String, i64, i64)> {
        let sql = "SELECT checkpoint_lsn::text, redo_lsn::text, timeline_id::bigint, \
                   extract(epoch FROM checkpoint_time)::bigint FROM pg_control_checkpoint()";
        let row = self.client().query_one(sql, &[]).await?;
        Ok((
            row.try_get(0)?,
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
        ))
    }

    /// Returns an error text if a file of the server does not appear in `directory`. An exported
    /// snapshot is a file until its transaction ends, on a standby too, and needs no privilege. A
    /// copy, however recent, does not receive or does not lose it.
    async fn does_not_write_there(&self, directory: &Path) -> anyhow::Result<Option<String>> {
        self.client()
            .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            .await?;
        let sql = "SELECT pg_export_snapshot()";
        let name: String = self.client().query_one(sql, &[]).await?.try_get(0)?;
        let path = directory.join("pg_snapshots").join(name);
        let is_there = path.is_file();
        self.client().batch_execute("ROLLBACK").await?;
        if !is_there {
            let why = "a file that the server has just created is not there: it is a copy";
            return Ok(Some(why.to_owned()));
        }
        let deadline = time::Instant::now() + DELETED_FILE_TIMEOUT;
        let deleted = poll::until(deadline, CHECK_INTERVAL, async || {
            if path.is_file() {
                Continue(())
            } else {
                Break(())
            }
        });
        let why = "a file that the server has removed is still there: it is a copy";
        Ok(deleted.await.is_continue().then(|| why.to_owned()))
    }
}

fn checkpoint_of(control: &ControlFileData) -> (String, String, i64, i64) {
    (
        control.checkpoint.to_string(),
        control.redo.to_string(),
        i64::from(control.timeline),
        control.checkpoint_time,
    )
}

/// Returns the start time and the port in `postmaster.pid`, whose lines are listed in
/// `src/include/utils/pidfile.h`.
fn parse_start(text: &str) -> Option<(i64, &str)> {
    let line = |number: usize| text.lines().nth(number).map(str::trim);
    Some((line(2)?.parse().ok()?, line(3)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;

    #[test]
    fn start_time_or_port_missing_then_none() {
        assert_eq!(parse_start("1\n/data\n17\n5432\n"), Some((17, "5432")));
        // Not a start at second 0 or a port of no characters.
        for missing in ["", "1\n/data\n17\n", "1\n/data\n\n5432\n"] {
            assert_eq!(parse_start(missing), None, "{missing:?}");
        }
    }

    proptest! {
        #[test]
        fn damaged_postmaster_pid_then_no_panic(
            text in damaged_text("4711\n/data\n1700000000\n5432\n/run\n*\n"), began: i64,
        ) {
            if let Some((there, _)) = parse_start(&text) {
                prop_assert_eq!(began.abs_diff(there) == 0, began.saturating_sub(there) == 0);
            }
        }
    }
}
