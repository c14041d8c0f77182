//! Execution of the agent's commands: start, promote and stop PostgreSQL.

use std::fs::File;
use std::io;
use std::time::Duration;

use causeway_core::agent::Commits;
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::guard::PostgresProcess;
use causeway_runtime::clock;
use nix::sys::signal::{Signal, kill};
use tracing::info;

use super::{child, config_file, lock_files};
use crate::data_directory;
use crate::data_directory::timeline_history;
use crate::guard::supervisor::{PostgresChild, Supervisor};
use crate::protocol::guard::{GuardRejection, SupervisorCommand};

impl Supervisor<'_> {
    /// Executes a command of the agent.
    ///
    /// # Errors
    ///
    /// When the deadline, the server or the data directory does not allow it, or the operating system fails.
    pub(super) fn execute_command(
        &mut self,
        command: SupervisorCommand,
    ) -> Result<(), GuardRejection> {
        let server = self.server();
        let failed = |error: io::Error| GuardRejection::Failed(error.to_string());
        match command {
            SupervisorCommand::Stop { drain_millis } => {
                self.stop_postgres(Duration::from_millis(drain_millis));
                Ok(())
            }
            SupervisorCommand::StartStandby => {
                self.expect_state(server, PostgresProcess::Stopped)?;
                // An attempt counts even if no postmaster starts.
                self.starts += 1;
                self.prepare_start(Commits::HeldBack)?;
                data_directory::put_standby_signal(self.data()).map_err(failed)?;
                self.start_postgres(false).map_err(failed)
            }
            SupervisorCommand::StartPrimary(epoch, commits) => {
                self.expect_state(server, PostgresProcess::Stopped)?;
                let prepared = self.prepare_start(commits);
                self.core
                    .check_start_allowed(clock::now(), epoch)
                    .map_err(GuardRejection::Refused)?;
                self.starts += 1;
                prepared?;
                data_directory::remove_standby_signal(self.data()).map_err(failed)?;
                self.extend_watchdog_for_writer();
                self.start_postgres(true).map_err(failed)
            }
            SupervisorCommand::Acknowledge(epoch) => {
                self.expect_state(server, PostgresProcess::MayWrite)?;
                self.core
                    .check_commits_allowed(clock::now(), epoch)
                    .map_err(GuardRejection::Refused)?;
                self.acknowledge_commits().map_err(failed)
            }
            SupervisorCommand::Promote {
                epoch,
                own,
                reserved,
            } => {
                self.expect_state(server, PostgresProcess::Standby)?;
                // An interrupted promotion leaves its history file, and PostgreSQL would then choose the next
                // timeline, which is not reserved.
                let taken = timeline_history::find_taken(self.data(), reserved);
                if let Some(taken) = taken.map_err(failed)? {
                    return Err(GuardRejection::TimelineTaken(taken));
                }
                self.core
                    .check_start_allowed(clock::now(), epoch)
                    .map_err(GuardRejection::Refused)?;
                // `prepare_start` removes the file if PostgreSQL exits before it switches to the timeline.
                timeline_history::reserve_timelines(self.data(), own, reserved).map_err(failed)?;
                self.extend_watchdog_for_writer();
                self.promote_postgres().map_err(failed)
            }
        }
    }

    fn expect_state(
        &self,
        found: PostgresProcess,
        wanted: PostgresProcess,
    ) -> Result<(), GuardRejection> {
        if found == wanted && self.kill_at.is_none() {
            return Ok(());
        }
        Err(GuardRejection::WrongState(found))
    }

    /// Checks the data directory, and writes the settings that prevent a start without the guard.
    fn prepare_start(&mut self, commits: Commits) -> Result<(), GuardRejection> {
        let directory = self.directory();
        if matches!(
            directory,
            DataDirectoryState::Empty
                | DataDirectoryState::Rewinding
                | DataDirectoryState::Unreadable
        ) {
            return Err(GuardRejection::WrongDirectory(directory));
        }
        let failed = |error: io::Error| GuardRejection::Failed(error.to_string());
        if let Err(error) = config_file::check(self.host) {
            return Err(GuardRejection::Failed(format!("{error:#}")));
        }
        config_file::write_config(self.host).map_err(failed)?;
        timeline_history::remove_unused_placeholders(self.data()).map_err(failed)?;
        lock_files::remove_stale(&self.host.postgres).map_err(failed)?;
        config_file::remove_overrides(self.data()).map_err(failed)?;
        self.commits = commits;
        config_file::write(self.host, commits).map_err(failed)
    }

    fn start_postgres(&mut self, may_write: bool) -> io::Result<()> {
        let process = child::spawn_postgres(self.host)?;
        let role = if may_write { "primary" } else { "standby" };
        info!(role, process = process.id(), "PostgreSQL started");
        self.child = Some(PostgresChild {
            process,
            started_at: clock::now(),
            may_write,
        });
        self.fast_shutdown_requested = false;
        Ok(())
    }

    /// Promotes as `pg_ctl promote` does: a file, and SIGUSR1 to the postmaster.
    fn promote_postgres(&mut self) -> io::Result<()> {
        let data = self.data().to_owned();
        let Some(running) = &mut self.child else {
            return Ok(());
        };
        File::create(data.join("promote"))?;
        running.may_write = true;
        kill(running.pid(), Signal::SIGUSR1)?;
        info!("promotion started");
        Ok(())
    }

    /// Lets PostgreSQL acknowledge the commits that it holds back.
    fn acknowledge_commits(&mut self) -> io::Result<()> {
        config_file::write(self.host, Commits::Acknowledged)?;
        self.commits = Commits::Acknowledged;
        if let Some(running) = &self.child {
            kill(running.pid(), Signal::SIGHUP)?;
        }
        info!("commit acknowledgement enabled");
        Ok(())
    }
}
