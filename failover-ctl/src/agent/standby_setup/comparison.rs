//! Comparison of this node's WAL with the primary's timeline history. It only reads the data directory, so PostgreSQL may
//! be running, stopped, crashing at every start, or unresponsive.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::failover::observation::ReplayProgress;
use causeway_core::lsn::{Ancestor, SegmentName, WalFileName};
use causeway_core::rejoin::{self, Divergence, RejoinMethod};
use causeway_core::{Lsn, Timeline};
use tokio::process::Command;
use tokio::time;

use super::{StandbySetup, StandbySetupError};
use crate::agent::standby_setup::primary::{PrimaryHistory, PrimarySession};
use crate::agent::standby_setup::tools::output;
use crate::data_directory;
use crate::data_directory::wal::WalDirectory;

/// Timeout of `restore-command` for one segment.
const RESTORE_COMMAND_TIMEOUT: Duration = Duration::from_mins(2);

/// Timeout of a replication connection.
const REPLICATION_CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Change that this node needs before it can stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RejoinNeed {
    /// None.
    Ready,
    /// Rewind of diverged WAL.
    Rewind(Divergence),
    /// Copy of the primary, because WAL that this node lacks is neither there nor in the archive.
    Copy(String),
}

/// Result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) need: RejoinNeed,
    /// Reason why a standby that needs no change does not stream, if known.
    pub(crate) why: Option<String>,
}

/// WAL in the data directory.
#[derive(Clone, Debug)]
struct LocalWal {
    /// Newest timeline with records, and their end.
    end: Option<(Timeline, Lsn)>,
    /// Positions up to which data files were changed.
    reached: Vec<(Timeline, Lsn)>,
    /// Oldest ancestor of the primary's timeline with local records past its fork.
    past: Option<(Ancestor, Lsn)>,
    segment: Option<SegmentName>,
}

impl StandbySetup {
    /// Compares this node with the primary. With `stuck`, also examines why a running server does not stream.
    ///
    /// # Errors
    ///
    /// [`StandbySetupError`] when the primary, or the directory, cannot be examined.
    pub(crate) async fn examine(&self, stuck: bool) -> Result<Comparison, StandbySetupError> {
        let (primary, path, found) = self.compare().await?;
        let Some((newest, ancestors)) = path.known_history() else {
            return Err(hidden(&path));
        };
        if let Some(diverged) = diverged(&found, newest, ancestors) {
            return Ok(Comparison {
                need: RejoinNeed::Rewind(diverged),
                why: None,
            });
        }
        if !stuck {
            let need = RejoinNeed::Ready;
            return Ok(Comparison { need, why: None });
        }
        self.find_stall_cause(&primary, &found, ancestors).await
    }

    /// Compares a data directory that starts, or has started, without an earlier comparison, and saves WAL past the fork:
    /// where no data page depends on it, PostgreSQL would stream and silently leave it behind.
    ///
    /// # Errors
    ///
    /// As for [`Self::examine`], and when the WAL cannot be saved.
    pub(crate) async fn compare_all(&self) -> Result<Comparison, StandbySetupError> {
        let (_, path, found) = self.compare().await?;
        let Some((newest, ancestors)) = path.known_history() else {
            return Err(hidden(&path));
        };
        let need = if let Some(diverged) = diverged(&found, newest, ancestors) {
            RejoinNeed::Rewind(diverged)
        } else {
            self.save_diverged_wal(&path).await?;
            RejoinNeed::Ready
        };
        Ok(Comparison { need, why: None })
    }

    async fn compare(
        &self,
    ) -> Result<(PrimarySession, PrimaryHistory, LocalWal), StandbySetupError> {
        let primary = self
            .connect_to_primary()
            .await
            .map_err(StandbySetupError::PrimarySilent)?;
        let path = primary
            .path()
            .await
            .map_err(StandbySetupError::PrimarySilent)?;
        let data = self.host.postgres.data_directory.clone();
        let known = path
            .known_history()
            .map_or(Vec::new(), |known| known.1.to_vec());
        let found = tokio::task::spawn_blocking(move || find(&data, &known)).await;
        let found = found.map_err(anyhow::Error::from).and_then(|found| found);
        Ok((primary, path, found.map_err(StandbySetupError::Here)?))
    }

    async fn find_stall_cause(
        &self,
        primary: &PrimarySession,
        found: &LocalWal,
        ancestors: &[Ancestor],
    ) -> Result<Comparison, StandbySetupError> {
        let ready = |why| Comparison {
            need: RejoinNeed::Ready,
            why,
        };
        if let Err(why) = self.try_replication().await {
            return Ok(ready(Some(format!("{why:#}"))));
        }
        let (Some(segment), Some((_, end))) = (found.segment, found.end) else {
            return Ok(ready(None));
        };
        if primary.flushed <= end {
            return Ok(ready(None)); // There is nothing that it could receive.
        }
        let names = candidates(segment, primary.timeline, ancestors);
        let has = primary.has_one_of(&names).await;
        if has.map_err(StandbySetupError::PrimarySilent)? {
            return Ok(ready(None));
        }
        match self.archive_has(&names).await {
            Ok(true) => {
                return Ok(ready(Some(
                    "the WAL is replayed from the archive".to_owned(),
                )));
            }
            // A bucket that does not answer now is no reason for a copy of everything.
            Err(why) => return Ok(ready(Some(format!("{why:#}")))),
            Ok(false) => {}
        }
        Ok(Comparison {
            need: RejoinNeed::Copy(format!(
                "segment {segment} was removed on `{}`, and `restore-command` does not find it",
                self.primary.name
            )),
            why: None,
        })
    }

    /// Connects as the standby's walreceiver does: with libpq, as the replication role, for replication.
    /// The command that is sent then names a slot that does not exist, and changes nothing.
    async fn try_replication(&self) -> anyhow::Result<()> {
        const SLOT: &str = "causeway_no_such_slot";
        self.write_password_file()?;
        let conninfo = self.conninfo(&self.host.postgres.replication_user, None)?;
        let mut command = self.tool("pg_receivewal");
        command.args(["--no-password", "--drop-slot", "--slot", SLOT, "--dbname"]);
        command.arg(conninfo);
        let asking = time::timeout(
            REPLICATION_CONNECT_TIMEOUT,
            output(&mut command, "pg_receivewal"),
        );
        let output = asking
            .await
            .context("the replication connection timed out")??;
        let said = String::from_utf8_lossy(&output.stderr);
        // The program names the command that the server rejected, so it came as far as that.
        if said.contains("DROP_REPLICATION_SLOT") {
            return Ok(());
        }
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        let last = last.unwrap_or("it printed nothing").trim();
        anyhow::bail!(
            "could not open a replication connection to `{}`: {last}",
            self.primary.name
        )
    }

    /// Returns whether the archive that this node reads has one of these segments.
    async fn archive_has(&self, names: &[String]) -> anyhow::Result<bool> {
        let Some(restore) = &self.host.postgres.restore_command else {
            return Ok(false);
        };
        let to = self.host.agent.state_directory.join("archive-probe");
        for name in names {
            let text = substitute_placeholders(restore, name, &to.to_string_lossy());
            let mut command = Command::new("sh");
            command
                .arg("-c")
                .arg(text)
                .stdin(Stdio::null())
                .kill_on_drop(true);
            command.current_dir(&self.host.postgres.data_directory);
            let ended = time::timeout(RESTORE_COMMAND_TIMEOUT, command.output()).await;
            let output = ended.context("`restore-command` timed out")??;
            std::fs::remove_file(&to).ok();
            match output.status.code() {
                Some(0) => return Ok(true),
                // Exit code of `cp` and `backup-agent wal fetch` for a missing file.
                Some(1) => {}
                _ => anyhow::bail!(
                    "`restore-command` exited with {} for `{name}`: {}",
                    output.status,
                    String::from_utf8_lossy(&output.stderr).trim()
                ),
            }
        }
        Ok(false)
    }
}

fn hidden(path: &PrimaryHistory) -> StandbySetupError {
    let why = match path {
        PrimaryHistory::Known(..) => "the primary's timeline history is unknown",
        PrimaryHistory::Hidden(why) => why,
    };
    StandbySetupError::PrimarySilent(anyhow::anyhow!(
        "{why}: grant `rewind-user` the functions in the documentation of pg_rewind"
    ))
}

/// Reads the WAL and the control file of the directory.
fn find(data: &std::path::Path, ancestors: &[Ancestor]) -> anyhow::Result<LocalWal> {
    let wal = WalDirectory::read(data).context("could not read this node's WAL")?;
    let end = wal.end().context("could not read this node's WAL")?;
    let control =
        data_directory::read_control_file(data).context("could not read the control file")?;
    let mut past = None;
    if let Some((timeline, to)) = end {
        let left = ancestors
            .iter()
            .find(|ancestor| ancestor.timeline == timeline);
        if let Some(left) = left.filter(|ancestor| {
            wal.has_records_past(timeline, ancestor.left_at)
                .unwrap_or(true)
        }) {
            past = Some((*left, to));
        }
    }
    let checkpoint = control.timeline.zip(Some(control.checkpoint));
    Ok(LocalWal {
        end,
        reached: control.must_reach.into_iter().chain(checkpoint).collect(),
        past,
        segment: end
            .map(|(timeline, to)| SegmentName::containing(timeline, to, wal.segment_size())),
    })
}

/// Returns the fork of this node's timeline from the primary's history, if it has diverged.
fn diverged(found: &LocalWal, newest: Timeline, ancestors: &[Ancestor]) -> Option<Divergence> {
    let past = found.past.map(|(left, came_to)| Divergence::Past {
        timeline: left.timeline,
        left_at: left.left_at,
        came_to: came_to.max(left.left_at),
    });
    if past.is_some() {
        return past;
    }
    // An end of the records within an ancestor of the primary was decided above, from the records themselves.
    let end = found.end.filter(|(timeline, _)| {
        !ancestors
            .iter()
            .any(|ancestor| ancestor.timeline == *timeline)
    });
    let positions = end.into_iter().chain(found.reached.iter().copied());
    positions
        .map(|(timeline, received)| ReplayProgress {
            timeline,
            received_lsn: received,
            replayed_lsn: received,
        })
        .find_map(|own| match rejoin::rejoin_method(own, newest, ancestors) {
            RejoinMethod::Follow => None,
            RejoinMethod::Rewind(diverged) => Some(diverged),
        })
}

/// Returns the names under which the primary may have the segment: that of its own timeline, or of a later one, which
/// begins with a copy of the earlier records.
fn candidates(segment: SegmentName, newest: Timeline, ancestors: &[Ancestor]) -> Vec<String> {
    let later = ancestors
        .iter()
        .map(|ancestor| ancestor.timeline)
        .chain([newest]);
    let later = later.filter(|timeline| *timeline >= segment.timeline);
    later
        .map(|timeline| {
            WalFileName::Segment(SegmentName {
                timeline,
                ..segment
            })
            .to_string()
        })
        .collect()
}

/// Substitutes a file's name and path in `restore_command` as PostgreSQL does (`BuildRestoreCommand`).
fn substitute_placeholders(command: &str, name: &str, path: &str) -> String {
    let mut text = String::new();
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('f') => text.push_str(name),
            Some('p') => text.push_str(path),
            // The oldest segment that a restart would need: nothing is cleaned up for a look.
            Some('r') => text.push_str("000000010000000000000000"),
            Some('%') | None => text.push('%'),
            Some(other) => text.extend(['%', other]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restore_command_then_filled_as_postgresql_does() {
        let text = substitute_placeholders("get %f '%p' 100%% %x", "0001", "/to");
        assert_eq!(text, "get 0001 '/to' 100% %x");
    }

    #[test]
    fn segment_of_older_timeline_then_looked_for_on_later_ones() {
        let segment = SegmentName {
            timeline: Timeline::FIRST,
            log: 0,
            segment: 5,
        };
        let left_at = Lsn::new(1);
        let at = |number| Timeline::new(number).unwrap();
        let ancestors = [1, 3].map(|number| Ancestor {
            timeline: at(number),
            left_at,
        });
        let names = candidates(segment, at(4), &ancestors);
        let names: Vec<&str> = names.iter().map(|name| &name[..8]).collect();
        assert_eq!(names, ["00000001", "00000003", "00000004"]);
    }
}
