//! Decisions that make this node a streaming standby: settings, rewind or copy, one background task at a time.

mod problems;
mod rejoin_command;
pub(super) mod state;
mod work;

use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::agent::TargetRole;
use causeway_core::failover::observation::{DataDirectoryState, ServerView};
use nix::sys::signal::{Signal, kill};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use self::state::{EndCause, WorkOutcome};
use crate::agent::event_loop::AgentLoop;
use crate::agent::standby_setup::comparison::RejoinNeed;
use crate::agent::standby_setup::{StandbySetup, StandbySetupError, UNREADABLE, diverged_wal};
use crate::clients::postgres::{ServerAnswer, StandbyAnswer};
use crate::config::RejoinPolicy;
use crate::data_directory;
use crate::protocol::guard::SupervisorCommand;

/// Interval at which a standby that does not stream is compared with the primary's timeline history.
const COMPARE_INTERVAL: Duration = Duration::from_secs(2);

/// Pause before a failed step is retried.
const RETRY_BACKOFF: Duration = Duration::from_secs(2);

/// Time without streaming after which the cause is examined: a walreceiver retries every five seconds
/// (`wal_retrieve_retry_interval`).
const STUCK_TIMEOUT: Duration = Duration::from_secs(6);

/// Time for which a running standby may not answer before its data directory is examined.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(6);

/// Interval between checks of a streaming standby.
const STREAMING_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Time for walsenders to drain when a standby is stopped to be rewound.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(1500);

/// Reason why the data directory of a former primary is not changed.
const MANUAL_REJOIN: &str = "it was a primary, and `rejoin` is `manual`: run `failover-ctl rejoin`";

impl AgentLoop {
    /// Starts the next step towards a streaming standby, if that is this node's role.
    pub(super) fn maintain_standby(&mut self, now: HostInstant, server: ServerView) {
        self.standby.server = Some(server);
        let reports_streaming = self
            .local_standby(server)
            .is_some_and(|standby| standby.streaming);
        let streaming = self.standby.record_streaming(now, reports_streaming);
        self.standby.paused = self
            .local_standby(server)
            .is_some_and(|standby| standby.replay_paused);
        if self.finish_work(now) {
            return; // The finished work may have changed what `server` was observed as.
        }
        let TargetRole::Standby { primary, timeline } = self.core.target_role() else {
            self.standby.clear_standby_state();
            return;
        };
        let node = primary
            .as_ref()
            .and_then(|name| self.settings.node(name).cloned());
        self.standby.unknown = primary.filter(|_| node.is_none());
        let Some(node) = node else {
            self.standby.clear_standby_state();
            if server == ServerView::Stopped(DataDirectoryState::Standby) {
                self.send_to_guard(SupervisorCommand::StartStandby);
            }
            return;
        };
        self.standby.set_primary(&node.name);
        self.standby.observe(now, server, streaming);
        let Some(system_id) = self.core.lease(now).map(|(record, _)| record.system_id) else {
            return;
        };
        // A data directory of another database is only replaced by `rejoin --rebuild`.
        let own = self
            .connections
            .guard
            .report(now)
            .and_then(|report| report.system_id);
        if own.is_some_and(|id| id != system_id) && !self.standby.wants_rebuild() {
            return;
        }
        let setup = StandbySetup {
            host: self.host.clone(),
            primary: node,
            system_id,
            tasks: self.connections.tasks.clone(),
        };
        if let ServerView::Standby(_) = server
            && self.standby.settings_written_for.as_ref() != Some(setup.primary())
        {
            self.apply_replication_settings(&setup); // Even while a background task runs.
        }
        if self.standby.done.is_some() || self.standby.is_backing_off(now) {
            return;
        }
        match server {
            ServerView::Stopped(directory) => self.prepare_stopped(now, setup, directory),
            ServerView::Standby(progress) if progress.timeline == timeline && streaming => {
                self.check_streaming(now, setup);
            }
            ServerView::Standby(progress) => {
                self.resume_streaming(now, setup, progress.timeline != timeline);
            }
            ServerView::Unresponsive => self.compare_unresponsive(now, setup),
            ServerView::Unguarded | ServerView::MayWrite => {}
        }
    }

    /// Returns the last answer of the local server, if it is a standby.
    fn local_standby(&self, server: ServerView) -> Option<StandbyAnswer> {
        match (server, self.connections.postgres.borrow().answer) {
            (ServerView::Standby(_), Some((_, ServerAnswer::Standby(standby)))) => Some(standby),
            _ => None,
        }
    }

    /// Returns whether the data directory may be rewound or copied now.
    fn may_change(&self) -> bool {
        self.settings.policy.rejoin == RejoinPolicy::Automatic || self.standby.asked.is_some()
    }

    /// Prepares the data directory of a stopped server, then starts it.
    fn prepare_stopped(
        &mut self,
        now: HostInstant,
        setup: StandbySetup,
        directory: DataDirectoryState,
    ) {
        let rebuild = self.standby.wants_rebuild();
        match directory {
            DataDirectoryState::Empty | DataDirectoryState::Rewinding => {
                self.prepare(setup, directory, rebuild);
            }
            DataDirectoryState::Standby
            | DataDirectoryState::Primary
            | DataDirectoryState::Unreadable
                if rebuild =>
            {
                self.prepare(setup, directory, true);
            }
            DataDirectoryState::Unreadable => self.standby.why = Some(UNREADABLE.to_owned()),
            DataDirectoryState::Primary if !self.standby.prepared => {
                if self.may_change() {
                    self.prepare(setup, directory, false);
                } else {
                    self.standby.why = Some(MANUAL_REJOIN.to_owned());
                }
            }
            DataDirectoryState::Primary | DataDirectoryState::Standby => {
                match (&self.standby.need, self.may_change()) {
                    (Some(RejoinNeed::Rewind(_)), true) => {
                        // Still diverged after a rewind: pg_rewind did not detect the difference.
                        let copy = self.standby.rewound;
                        self.prepare(setup, DataDirectoryState::Primary, copy);
                    }
                    (Some(RejoinNeed::Copy(_)), true) => self.prepare(setup, directory, true),
                    (Some(RejoinNeed::Rewind(_) | RejoinNeed::Copy(_)), false) => {}
                    (None | Some(RejoinNeed::Ready), _) if self.standby.examined => {
                        if self.standby.may_start(now) {
                            self.send_to_guard(SupervisorCommand::StartStandby);
                            self.standby.ended = Some(EndCause::Started);
                        }
                    }
                    (None | Some(RejoinNeed::Ready), _) => self.examine_before_start(setup),
                }
            }
        }
    }

    /// Examines why a standby does not stream, and stops it where its directory must change.
    fn resume_streaming(&mut self, now: HostInstant, setup: StandbySetup, other_timeline: bool) {
        if self.standby.wants_rebuild() || self.must_stop_server() {
            self.stop_server();
            return;
        }
        let stuck = self.standby.time_stuck(now) >= STUCK_TIMEOUT;
        if let Some(why) = self.standby.restart_due(now) {
            warn!(reason = why, "restarting standby that does not stream");
            self.stop_server();
            return;
        }
        let due = self.standby.is_due(now, COMPARE_INTERVAL);
        if due && (stuck || other_timeline) {
            self.standby.examined_at = Some(now);
            self.examine(setup, stuck);
        }
    }

    /// Examines the directory of a running server that does not answer: it may never reach consistency.
    fn compare_unresponsive(&mut self, now: HostInstant, setup: StandbySetup) {
        if self.standby.wants_rebuild() || self.must_stop_server() {
            self.stop_server();
            return;
        }
        let due = self.standby.is_due(now, COMPARE_INTERVAL);
        if due && self.standby.time_stuck(now) >= SILENCE_TIMEOUT {
            self.standby.examined_at = Some(now);
            self.examine(setup, true);
        }
    }

    /// Returns whether the server must be stopped because its directory has to change, and may.
    fn must_stop_server(&self) -> bool {
        let must_change = matches!(
            self.standby.need,
            Some(RejoinNeed::Rewind(_) | RejoinNeed::Copy(_))
        );
        must_change && self.may_change()
    }

    fn stop_server(&mut self) {
        let drain_millis =
            u64::try_from(DRAIN_TIMEOUT.as_millis()).expect("1.5 s fits into 64 bits");
        self.standby.ended = Some(EndCause::ByUs);
        self.send_to_guard(SupervisorCommand::Stop { drain_millis });
    }

    /// Checks a streaming standby for WAL left unexamined at its start and for settings that pause replay.
    fn check_streaming(&mut self, now: HostInstant, setup: StandbySetup) {
        if self.standby.wants_rebuild() {
            self.stop_server();
            return;
        }
        let unexamined = self.standby.unexamined_start;
        let interval = if unexamined {
            COMPARE_INTERVAL
        } else {
            STREAMING_CHECK_INTERVAL
        };
        if !self.standby.is_due(now, interval) {
            return;
        }
        self.standby.examined_at = Some(now);
        if unexamined {
            self.compare_started(setup);
        } else if self.standby.paused {
            self.raise_settings(setup);
        }
    }

    /// Takes the result of the background task, and returns whether one has finished.
    fn finish_work(&mut self, now: HostInstant) -> bool {
        let Some(done) = &mut self.standby.done else {
            return false;
        };
        let result = match done.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return false,
            Err(oneshot::error::TryRecvError::Closed) => Err(StandbySetupError::Here(
                anyhow::anyhow!("the background task was cancelled"),
            )),
            Ok(result) => result,
        };
        self.standby.done = None;
        if self.standby.busy.take().is_some() {
            self.connections.guard.discard_report(); // It shows the directory before the change.
        }
        match result {
            Ok(outcome) => self.apply_outcome(outcome),
            Err(trouble) => {
                warn!(
                    error = causeway_runtime::telemetry::chain(&trouble),
                    "standby setup failed, retrying"
                );
                self.standby.record_failure(now, trouble, RETRY_BACKOFF);
            }
        }
        true
    }

    fn apply_outcome(&mut self, outcome: WorkOutcome) {
        self.standby.trouble = None;
        match outcome {
            WorkOutcome::Prepared { rebuilt } => {
                self.standby.unexamined =
                    diverged_wal::count_saves(&self.host.agent.state_directory);
                self.standby.record_prepared(rebuilt);
            }
            WorkOutcome::ReadyToStart(Ok(examined)) => {
                self.standby.record_comparison(examined);
                self.standby.examined = true;
                self.standby.unexamined_start = false;
            }
            // The primary does not answer, so no history can be compared. PostgreSQL itself refuses to stream from a
            // diverged primary, and this node must run to be a candidate.
            WorkOutcome::ReadyToStart(Err(trouble)) => {
                self.standby.trouble = Some(trouble);
                self.standby.examined = true;
                self.standby.unexamined_start = true;
            }
            WorkOutcome::Compared(examined, whole) => {
                if let RejoinNeed::Rewind(why) = &examined.need
                    && !self.standby.has_need(&examined.need)
                {
                    warn!(reason = %why, "standby diverged from the primary");
                }
                self.standby.record_comparison(examined);
                self.standby.unexamined_start &= !whole;
            }
            WorkOutcome::SettingsRaised(false) => {}
            WorkOutcome::SettingsRaised(true) => {
                info!("restarting standby with raised settings");
                self.stop_server();
            }
        }
    }

    /// Writes the replication settings and reloads a running server.
    fn apply_replication_settings(&mut self, setup: &StandbySetup) {
        self.standby.settings_written_for = Some(setup.primary().clone());
        match setup.write_replication_settings() {
            Ok(true) => {
                let postmaster = data_directory::postmaster(&self.host.postgres.data_directory);
                if let Some(postmaster) = postmaster {
                    kill(postmaster, Signal::SIGHUP).ok();
                }
            }
            Ok(false) => {}
            Err(error) => {
                error!(
                    error = format!("{error:#}"),
                    "writing replication settings failed"
                );
                self.standby.settings_written_for = None;
            }
        }
    }
}
