//! PostgreSQL as far as it matters here: what it may do, what its directory is and what log it has.

use ha_core::agent::{PrimaryView, ServerHealth};
use ha_core::failover::observation::{Directory, Progress, ServerView};
use ha_core::guard;
use ha_core::lease::{Position, SystemId};
use ha_core::{Lsn, Timeline};

pub(crate) const SYSTEM: SystemId = SystemId(7_345_118_205);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ended,
    StartingPrimary,
    StartingStandby,
    Following,
    Promoting(Timeline),
    Writable,
}

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each can happen to a server in any state"
)]
pub(crate) struct Server {
    pub(crate) state: State,
    pub(crate) directory: Directory,
    pub(crate) log: Log,
    /// The newest timeline of which there is a history file, a placeholder or a real one.
    pub(crate) newest_history: Timeline,
    /// How many postmasters guard has started.
    pub(crate) starts: u64,
    /// Counts the postmasters, so that what was meant for one does not reach the next.
    pub(crate) life: u64,
    /// It got SIGINT.
    pub(crate) stopping: bool,
    /// Its postmaster is gone or about to go, and its backends with the sweep.
    pub(crate) dying: bool,
    /// It answers nobody, though what it does it goes on doing.
    pub(crate) hung: bool,
    pub(crate) follows: Option<usize>,
    pub(crate) rewinding: bool,
}

impl Server {
    pub(crate) fn new(directory: Directory) -> Self {
        Self {
            state: State::Ended,
            directory,
            log: Log::first(),
            newest_history: Timeline::FIRST,
            starts: 0,
            life: 0,
            stopping: false,
            dying: false,
            hung: false,
            follows: None,
            rewinding: false,
        }
    }

    /// Says whether a commit could be acknowledged at this instant. A server that got SIGINT or lost
    /// its postmaster still can, until the last backend is gone.
    pub(crate) fn acknowledges(&self) -> bool {
        self.state == State::Writable
    }

    pub(crate) fn answers(&self) -> bool {
        !self.hung && !self.stopping && !self.dying
    }

    pub(crate) fn seen_by_guard(&self) -> guard::Server {
        match self.state {
            State::Ended => guard::Server::Ended,
            State::StartingStandby | State::Following => guard::Server::Following,
            State::StartingPrimary | State::Promoting(_) | State::Writable => {
                guard::Server::MayWrite
            }
        }
    }

    pub(crate) fn seen_by_agent(&self) -> ServerView {
        match self.state {
            State::Ended => ServerView::Ended(self.directory),
            State::Following if self.answers() => ServerView::Following(self.progress()),
            State::StartingStandby | State::Following => ServerView::Silent,
            State::StartingPrimary | State::Promoting(_) | State::Writable => ServerView::MayWrite,
        }
    }

    pub(crate) fn primary(&self) -> Option<PrimaryView> {
        let says = self.state == State::Writable && self.answers();
        says.then(|| PrimaryView {
            position: Position {
                timeline: self.log.timeline(),
                flush_lsn: Lsn::new(self.log.end),
                last_commit_at_micros: 0,
                bytes_per_sec: 0,
                rows_per_sec: 0,
            },
            system_id: SYSTEM,
        })
    }

    pub(crate) fn health(&self) -> ServerHealth {
        match self.state {
            _ if !self.answers() => ServerHealth::Silent,
            State::StartingPrimary
            | State::StartingStandby
            | State::Following
            | State::Promoting(_) => ServerHealth::Recovering,
            State::Writable => ServerHealth::Writes,
            State::Ended => ServerHealth::Silent,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let received = Lsn::new(self.log.end);
        Progress {
            timeline: self.log.timeline(),
            received,
            replayed: received,
        }
    }

    pub(crate) fn start(&mut self, state: State) {
        self.state = state;
        self.life += 1;
        self.starts += 1;
        (self.stopping, self.dying, self.hung) = (false, false, false);
    }

    /// Ends it, and keeps what it wrote.
    pub(crate) fn end(&mut self) {
        self.directory = match self.state {
            State::Writable | State::StartingPrimary => Directory::Primary,
            State::Following | State::StartingStandby => Directory::Standby,
            State::Ended | State::Promoting(_) => self.directory,
        };
        self.state = State::Ended;
        self.life += 1;
        self.rewinding = false;
    }

    /// Begins the timeline that `findNewestTimeLine` leads to.
    pub(crate) fn begin_timeline(&mut self) -> Timeline {
        self.newest_history = self.newest_history.next();
        self.log.forks.push((self.newest_history, self.log.end));
        self.newest_history
    }
}

/// A write-ahead log: which timelines it went through, where each began, and where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) forks: Vec<(Timeline, u64)>,
    pub(crate) end: u64,
}

impl Log {
    fn first() -> Self {
        Self {
            forks: vec![(Timeline::FIRST, 0)],
            end: 1000,
        }
    }

    pub(crate) fn timeline(&self) -> Timeline {
        self.forks.last().unwrap().0
    }

    /// Returns the part that this log and `other` have in common.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let same = self.forks.iter().zip(&other.forks);
        let shared = same.take_while(|(here, there)| here == there).count();
        let end_of = |log: &Self| log.forks.get(shared).map_or(log.end, |(_, start)| *start);
        Self {
            forks: self.forks[..shared].to_vec(),
            end: end_of(self).min(end_of(other)),
        }
    }

    /// Says whether streaming `other` can continue this log.
    pub(crate) fn leads_to(&self, other: &Self) -> bool {
        self.common(other) == *self
    }
}
