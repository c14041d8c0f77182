//! State of a simulated PostgreSQL: its process, its data directory and its WAL.

use causeway_core::agent::{Commits, PrimaryView, ServerHealth, WriteProbeFailure};
use causeway_core::failover::observation::{DataDirectoryState, ReplayProgress, ServerView};
use causeway_core::guard;
use causeway_core::lease::{PrimaryPosition, SystemId};
use causeway_core::{Lsn, Timeline};

use crate::seeded_rng::{MILLI, Micros};
use crate::wal::{Histories, Log};

pub(crate) const SYSTEM: SystemId = SystemId(7_345_118_205);

/// Maximum bytes of WAL that clients write in a tenth of a second.
pub(crate) const MOST_WRITTEN: u64 = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ended,
    StartingPrimary,
    StartingStandby,
    Following,
    Promoting(Timeline),
    Writable,
}

/// Replay before a start or a promotion completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) since: Micros,
    pub(crate) advances: bool,
}

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each can happen to a server in any state"
)]
pub(crate) struct Server {
    pub(crate) state: State,
    pub(crate) directory: DataDirectoryState,
    pub(crate) log: Log,
    pub(crate) histories: Histories,
    pub(crate) commits: Commits,
    pub(crate) replay: Option<Replay>,
    /// Reason why it proves no write, if there is one.
    pub(crate) failure: Option<WriteProbeFailure>,
    /// Number of starts that guard has attempted since its own start.
    pub(crate) starts: u64,
    /// Number of those after a server that had served clients, for a mutant that counts only these.
    pub(crate) starts_after_service: u64,
    served: bool,
    /// Number of the postmaster, so that events for one do not reach the next.
    pub(crate) life: u64,
    /// Whether it got SIGINT.
    pub(crate) stopping: bool,
    /// Whether its postmaster was killed; its backends end with the sweep.
    pub(crate) dying: bool,
    /// Whether a stalled disk keeps its killed processes, which do nothing more.
    pub(crate) silenced: bool,
    /// Whether it does not respond, although its processes continue.
    pub(crate) hung: bool,
    pub(crate) follows: Option<usize>,
    pub(crate) rewinding: bool,
}

impl Server {
    pub(crate) fn new(directory: DataDirectoryState) -> Self {
        Self {
            state: State::Ended,
            directory,
            log: Log::first(),
            histories: Histories::default(),
            commits: Commits::HeldBack,
            replay: None,
            failure: None,
            starts: 0,
            starts_after_service: 0,
            served: false,
            life: 0,
            stopping: false,
            dying: false,
            silenced: false,
            hung: false,
            follows: None,
            rewinding: false,
        }
    }

    /// Returns whether a commit could be acknowledged at this instant. A server that got SIGINT or lost
    /// its postmaster still can, until the last backend is gone.
    pub(crate) fn acknowledges(&self) -> bool {
        self.state == State::Writable && self.commits == Commits::Acknowledged && !self.silenced
    }

    /// Returns whether clients are served.
    pub(crate) fn serves(&self) -> bool {
        let fails = self
            .failure
            .is_some_and(|failure| failure != WriteProbeFailure::NoConnectionLeft);
        self.acknowledges() && self.answers() && !fails
    }

    pub(crate) fn answers(&self) -> bool {
        !self.hung && !self.stopping && !self.dying
    }

    pub(crate) fn seen_by_guard(&self) -> guard::PostgresProcess {
        match self.state {
            State::Ended => guard::PostgresProcess::Stopped,
            State::StartingStandby | State::Following => guard::PostgresProcess::Standby,
            State::StartingPrimary | State::Promoting(_) | State::Writable => {
                guard::PostgresProcess::MayWrite
            }
        }
    }

    pub(crate) fn seen_by_agent(&self) -> ServerView {
        match self.state {
            State::Ended => ServerView::Stopped(self.directory),
            State::Following if self.answers() => ServerView::Standby(self.progress()),
            State::StartingStandby | State::Following => ServerView::Unresponsive,
            State::StartingPrimary | State::Promoting(_) | State::Writable => ServerView::MayWrite,
        }
    }

    pub(crate) fn primary(&self) -> Option<PrimaryView> {
        let says = self.state == State::Writable && self.answers() && self.failure.is_none();
        says.then(|| PrimaryView {
            position: PrimaryPosition {
                timeline: self.log.timeline(),
                flush_lsn: Lsn::new(self.log.end),
                last_commit_at_micros: 0,
                wal_bytes_per_sec: 10 * MOST_WRITTEN,
                rows_per_sec: 0,
                age_millis: 0,
            },
            system_id: SYSTEM,
        })
    }

    pub(crate) fn health(&self) -> ServerHealth {
        match (self.state, self.failure) {
            _ if !self.answers() => ServerHealth::Unresponsive,
            (State::Ended, _) => ServerHealth::Unresponsive,
            (State::Writable, None) => ServerHealth::Writes,
            (State::Writable, Some(failure)) => ServerHealth::Unproven(failure),
            (
                State::StartingPrimary
                | State::StartingStandby
                | State::Following
                | State::Promoting(_),
                _,
            ) => ServerHealth::Recovering,
        }
    }

    /// Returns whether replay advances visibly.
    pub(crate) fn advances(&self) -> bool {
        self.replays() && !self.hung && self.replay.is_some_and(|replay| replay.advances)
    }

    /// Returns a number that changes whenever more WAL was replayed.
    pub(crate) fn replayed(&self, now: Micros) -> Option<u64> {
        let replay = self.replay.filter(|_| self.replays() && !self.hung)?;
        Some(if replay.advances {
            now / (300 * MILLI)
        } else {
            0
        })
    }

    /// Returns whether the startup process replays WAL; a shutdown ends it first.
    fn replays(&self) -> bool {
        let starts = matches!(
            self.state,
            State::StartingPrimary | State::StartingStandby | State::Promoting(_)
        );
        starts && !self.stopping
    }

    pub(crate) fn progress(&self) -> ReplayProgress {
        let received = Lsn::new(self.log.end);
        ReplayProgress {
            timeline: self.log.timeline(),
            received_lsn: received,
            replayed_lsn: received,
        }
    }

    /// Counts an attempt to start it, successful or not.
    pub(crate) fn attempt(&mut self) {
        self.starts += 1;
        self.starts_after_service += u64::from(self.served);
        self.served = false;
    }

    pub(crate) fn start(&mut self, state: State, commits: Commits) {
        self.state = state;
        self.commits = commits;
        self.life += 1;
        self.replay = None;
        (self.stopping, self.dying, self.hung, self.silenced) = (false, false, false, false);
    }

    /// Records that it has reached a state.
    pub(crate) fn reach(&mut self, state: State) {
        self.state = state;
        self.replay = None;
        self.served |= state == State::Writable;
    }

    /// Ends it, and keeps its data directory.
    pub(crate) fn end(&mut self) {
        self.directory = match self.state {
            State::Writable | State::StartingPrimary => DataDirectoryState::Primary,
            State::Following | State::StartingStandby => DataDirectoryState::Standby,
            State::Ended | State::Promoting(_) => self.directory,
        };
        self.state = State::Ended;
        self.life += 1;
        self.replay = None;
        self.rewinding = false;
    }

    /// Begins the timeline that PostgreSQL chooses (`findNewestTimeLine`).
    pub(crate) fn begin_timeline(&mut self) -> Timeline {
        let timeline = self.histories.begin(self.log.timeline());
        self.log.forks.push((timeline, self.log.end));
        timeline
    }
}
