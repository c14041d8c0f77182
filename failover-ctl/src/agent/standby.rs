//! What the loop does so that this node follows: settings, a rewind, a new copy, one at a time and in the
//! background.

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

use self::state::EndCause;
use self::state::WorkOutcome;
use crate::agent::event_loop::AgentLoop;
use crate::agent::standby_setup::comparison::RejoinNeed;
use crate::agent::standby_setup::{StandbySetup, StandbySetupError, diverged_wal};
use crate::clients::postgres::{ServerAnswer, StandbyAnswer};
use crate::config::RejoinPolicy;
use crate::data_directory;
use crate::protocol::guard::SupervisorCommand;

/// How often a standby that does not stream is compared with its primary's history.
const COMPARE_EVERY: Duration = Duration::from_secs(2);

/// How long after the last step one that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// For how long a standby may not stream before the reason is looked for: a walreceiver tries again
/// every five seconds (`wal_retrieve_retry_interval`).
const STUCK: Duration = Duration::from_secs(6);

/// For how long a server that only follows may be up and say nothing before its directory is examined.
const SILENT: Duration = Duration::from_secs(6);

/// How often a server that streams is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long walsenders may drain when a standby is ended to be rewound.
const DRAIN: Duration = Duration::from_millis(1500);

/// Why a directory that was a primary's is left as it is.
const COMMAND: &str = "it was a primary, and `rejoin` is `manual`: run `failover-ctl rejoin`";

impl AgentLoop {
    /// Brings this node closer to following, if that is its duty.
    pub(super) fn follow(&mut self, now: HostInstant, server: ServerView) {
        self.following.server = Some(server);
        let says = self.own_standby(server).is_some_and(|standby| standby.streaming);
        let streaming = self.following.note_streaming(now, says);
        self.following.paused = self.own_standby(server).is_some_and(|standby| standby.replay_paused);
        if self.finish_following(now) {
            return; // What `server` was seen as is no longer true.
        }
        let TargetRole::Standby { primary, timeline } = self.core.target_role() else {
            self.following.not_following();
            return;
        };
        let node = primary
            .as_ref()
            .and_then(|name| self.settings.node(name).cloned());
        self.following.unknown = primary.filter(|_| node.is_none());
        let Some(node) = node else {
            self.following.not_following();
            if server == ServerView::Stopped(DataDirectoryState::Standby) {
                self.send_to_guard(SupervisorCommand::StartStandby);
            }
            return;
        };
        self.following.follows(&node.name);
        self.following.watch(now, server, streaming);
        let Some(system_id) = self.core.lease(now).map(|(record, _)| record.system_id) else {
            return;
        };
        // Another database is nothing to follow with. Only a rebuild by command replaces it.
        let own = self.with.guard.report(now).and_then(|report| report.system_id);
        if own.is_some_and(|id| id != system_id) && !self.following.wants_rebuild() {
            return;
        }
        let follower = StandbySetup {
            host: self.host.clone(),
            primary: node,
            system_id,
            tasks: self.with.tasks.clone(),
        };
        if let ServerView::Standby(_) = server
            && self.following.settled_for.as_ref() != Some(follower.primary())
        {
            self.settle(&follower); // At once, whatever else is under way.
        }
        if self.following.done.is_some() || self.following.waits(now) {
            return;
        }
        match server {
            ServerView::Stopped(directory) => self.come_back(now, follower, directory),
            ServerView::Standby(progress) if progress.timeline == timeline && streaming => {
                self.look_after(now, follower);
            }
            ServerView::Standby(progress) => {
                self.catch_up(now, follower, progress.timeline != timeline);
            }
            ServerView::Silent => self.examine_silent(now, follower),
            ServerView::Unguarded | ServerView::MayWrite => {}
        }
    }

    /// Returns what the own server says of itself, if it follows.
    fn own_standby(&self, server: ServerView) -> Option<StandbyAnswer> {
        match (server, self.with.said.borrow().answer) {
            (ServerView::Standby(_), Some((_, ServerAnswer::Standby(standby)))) => Some(standby),
            _ => None,
        }
    }

    /// Says whether this node's directory may be rewound or copied now.
    fn may_change(&self) -> bool {
        self.settings.policy.rejoin == RejoinPolicy::Automatic || self.following.asked.is_some()
    }

    /// Brings a directory whose server has ended to where it can be started from, and starts it.
    fn come_back(
        &mut self,
        now: HostInstant,
        follower: StandbySetup,
        directory: DataDirectoryState,
    ) {
        let rebuild = self.following.wants_rebuild();
        match directory {
            DataDirectoryState::Empty | DataDirectoryState::Rewinding => {
                self.prepare(follower, directory, rebuild);
            }
            DataDirectoryState::Standby | DataDirectoryState::Primary if rebuild => {
                self.prepare(follower, directory, true);
            }
            DataDirectoryState::Primary if !self.following.prepared => {
                if self.may_change() {
                    self.prepare(follower, directory, false);
                } else {
                    self.following.why = Some(COMMAND.to_owned());
                }
            }
            DataDirectoryState::Primary | DataDirectoryState::Standby => {
                match (&self.following.need, self.may_change()) {
                    (Some(RejoinNeed::Rewind(_)), true) => {
                        // Rewound, and diverged still: pg_rewind does not see what the files hold.
                        let copy = self.following.rewound;
                        self.prepare(follower, DataDirectoryState::Primary, copy);
                    }
                    (Some(RejoinNeed::Copy(_)), true) => self.prepare(follower, directory, true),
                    (Some(RejoinNeed::Rewind(_) | RejoinNeed::Copy(_)), false) => {}
                    (None | Some(RejoinNeed::Ready), _) if self.following.examined => {
                        if self.following.may_start(now) {
                            self.send_to_guard(SupervisorCommand::StartStandby);
                            self.following.ended = Some(EndCause::Started);
                        }
                    }
                    (None | Some(RejoinNeed::Ready), _) => self.examine_before_start(follower),
                }
            }
        }
    }

    /// Looks for the reason why a standby does not stream, and for what mends it.
    fn catch_up(&mut self, now: HostInstant, follower: StandbySetup, other_timeline: bool) {
        if self.following.wants_rebuild() || self.has_to_end() {
            self.end_server();
            return;
        }
        let stuck = self.following.stuck_for(now) >= STUCK;
        if let Some(why) = self.following.restart_due(now) {
            warn!(reason = why, "restarting standby that does not stream");
            self.end_server();
            return;
        }
        let due = self.following.is_due(now, COMPARE_EVERY);
        if due && (stuck || other_timeline) {
            self.following.examined_at = Some(now);
            self.examine(follower, stuck);
        }
    }

    /// Examines the directory of a server that is up and says nothing: it may never become consistent.
    fn examine_silent(&mut self, now: HostInstant, follower: StandbySetup) {
        if self.following.wants_rebuild() || self.has_to_end() {
            self.end_server();
            return;
        }
        let due = self.following.is_due(now, COMPARE_EVERY);
        if due && self.following.stuck_for(now) >= SILENT {
            self.following.examined_at = Some(now);
            self.examine(follower, true);
        }
    }

    /// Says whether the server has to be ended because its directory must be changed, and may be.
    fn has_to_end(&self) -> bool {
        let needs = matches!(
            self.following.need,
            Some(RejoinNeed::Rewind(_) | RejoinNeed::Copy(_))
        );
        needs && self.may_change()
    }

    fn end_server(&mut self) {
        let drain = u64::try_from(DRAIN.as_millis()).expect("1.5 s fits into 64 bits");
        self.following.ended = Some(EndCause::ByUs);
        self.send_to_guard(SupervisorCommand::End(drain));
    }

    fn look_after(&mut self, now: HostInstant, follower: StandbySetup) {
        if self.following.wants_rebuild() {
            self.end_server();
            return;
        }
        let unexamined = self.following.unexamined_start;
        let every = if unexamined {
            COMPARE_EVERY
        } else {
            LOOK_EVERY
        };
        if !self.following.is_due(now, every) {
            return;
        }
        self.following.examined_at = Some(now);
        if unexamined {
            self.examine_started(follower);
        } else if self.following.paused {
            self.raise(follower);
        }
    }

    /// Takes in the result of what was under way, and says whether there was one.
    fn finish_following(&mut self, now: HostInstant) -> bool {
        let Some(done) = &mut self.following.done else {
            return false;
        };
        let result = match done.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return false,
            Err(oneshot::error::TryRecvError::Closed) => Err(StandbySetupError::Here(
                anyhow::anyhow!("the work was cut off"),
            )),
            Ok(result) => result,
        };
        self.following.done = None;
        if self.following.busy.take().is_some() {
            self.with.guard.forget(); // Its last report shows the directory as it was before.
        }
        match result {
            Ok(outcome) => self.take_outcome(outcome),
            Err(trouble) => {
                warn!(
                    error = causeway_runtime::telemetry::chain(&trouble),
                    "standby setup failed, retrying"
                );
                self.following.failed(now, trouble, AGAIN);
            }
        }
        true
    }

    fn take_outcome(&mut self, outcome: WorkOutcome) {
        self.following.trouble = None;
        match outcome {
            WorkOutcome::Prepared { rebuilt } => {
                self.following.unexamined =
                    diverged_wal::unexamined(&self.host.agent.state_directory);
                self.following.prepared(rebuilt);
            }
            WorkOutcome::ReadyToStart(Ok(examined)) => {
                self.following.note(examined);
                self.following.examined = true;
                self.following.unexamined_start = false;
            }
            // The primary does not answer, so that nothing can be compared: PostgreSQL itself refuses to
            // follow what it has parted from, and this node must be up to take over.
            WorkOutcome::ReadyToStart(Err(trouble)) => {
                self.following.trouble = Some(trouble);
                self.following.examined = true;
                self.following.unexamined_start = true;
            }
            WorkOutcome::Compared(examined, whole) => {
                if let RejoinNeed::Rewind(why) = &examined.need
                    && !self.following.need_is(&examined.need)
                {
                    warn!(reason = %why, "standby diverged from the primary");
                }
                self.following.note(examined);
                self.following.unexamined_start &= !whole;
            }
            WorkOutcome::SettingsRaised(false) => {}
            WorkOutcome::SettingsRaised(true) => {
                info!("restarting standby with raised settings");
                self.end_server();
            }
        }
    }

    /// Writes replication's settings, and has a running server read them.
    fn settle(&mut self, follower: &StandbySetup) {
        self.following.settled_for = Some(follower.primary().clone());
        match follower.settle() {
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
                self.following.settled_for = None;
            }
        }
    }
}
