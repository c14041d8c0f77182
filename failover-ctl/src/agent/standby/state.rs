//! What is known of this node's way to follow, from one turn to the next.

use std::path::Path;
use std::time::Duration;

use causeway_core::failover::observation::ServerView;
use causeway_core::{HostInstant, Lsn, NodeId};
use tokio::sync::oneshot;

use crate::agent::standby_setup::StandbySetupError;
use crate::agent::standby_setup::comparison::{Comparison, RejoinNeed};
use crate::agent::standby_setup::diverged_wal;
use crate::protocol::node_status::RejoinStatus;

/// For how long a standby that could stream may not, and not advance, before it is started again: what
/// it took for the newest timeline may be one that nobody opened, which a start looks up anew.
const RESTART_AFTER: Duration = Duration::from_secs(30);

/// The longest pause between two such starts.
const RESTART_AT_MOST: Duration = Duration::from_mins(10);

/// How many starts in a row may fail before the next waits.
const FREE_STARTS: u32 = 3;

/// How long it waits then, and what the wait grows to.
const START_PAUSE: Duration = Duration::from_secs(2);
const START_PAUSE_AT_MOST: Duration = Duration::from_secs(30);

/// What is under way to make this node follow, and what keeps it from that.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is learned and forgotten at a moment of its own"
)]
pub(crate) struct StandbyState {
    /// The server, as it was seen last.
    pub(super) server: Option<ServerView>,
    /// The primary that all of this is about.
    primary: Option<NodeId>,
    /// The primary that the lease names and the settings do not.
    pub(super) unknown: Option<NodeId>,
    pub(crate) busy: Option<&'static str>,
    pub(super) done: Option<oneshot::Receiver<Result<WorkOutcome, StandbySetupError>>>,
    pub(super) settled_for: Option<NodeId>,
    /// What the last examination found.
    pub(super) need: Option<RejoinNeed>,
    /// Why the server does not stream, as the last examination found it.
    pub(super) why: Option<String>,
    /// The directory was examined since its server ended.
    pub(super) examined: bool,
    /// The server was started although the primary could not be asked.
    pub(super) unexamined_start: bool,
    pub(super) examined_at: Option<HostInstant>,
    /// The directory was rewound, or needed no rewinding: its control file may still say that it was a
    /// primary's.
    pub(super) prepared: bool,
    /// It was, since the server last streamed.
    pub(super) rewound: bool,
    pub(super) trouble: Option<StandbySetupError>,
    pub(super) retry_at: Option<HostInstant>,
    /// Since when the server has said that it streams, and whether that has lasted.
    says_streaming_since: Option<HostInstant>,
    streams: bool,
    /// Since when the server has not streamed.
    pub(super) not_streaming_since: Option<HostInstant>,
    /// How far it had come, and since when it has not come farther.
    advanced: Option<(Lsn, HostInstant)>,
    pub(super) paused: bool,
    pub(super) ended: Option<EndCause>,
    /// How many starts have ended before the server followed, and when the last did.
    pub(super) failed_starts: u32,
    start_at: Option<HostInstant>,
    restart: RestartBackoff,
    pub(super) asked: Option<RejoinRequest>,
    pub(crate) rejoined: Option<RejoinStatus>,
    /// How many saves of diverged WAL nobody has looked at, if they are many.
    pub(super) unexamined: Option<usize>,
}

/// A command that is being carried out.
#[derive(Clone, Debug)]
pub(super) struct RejoinRequest {
    pub(super) command: String,
    /// A copy is still to be made.
    pub(super) rebuild: bool,
    /// Why the last attempt failed.
    pub(super) failure: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum WorkOutcome {
    /// The directory can be started as a standby.
    Prepared {
        /// Whether it was copied because a command asked for that.
        rebuilt: bool,
    },
    /// Settings are written, and the directory was examined if the primary answered.
    ReadyToStart(Result<Comparison, StandbySetupError>),
    /// A server that runs was examined; whether what it left behind was looked for too.
    Compared(Comparison, bool),
    /// Settings were raised, if any was too low: the server has to be started again under them.
    SettingsRaised(bool),
}

/// Why the server has ended, as far as this node's agent had a part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndCause {
    /// The agent has ended it.
    ByUs,
    /// The agent has started it, and it has not followed yet.
    Started,
}

/// When a standby that is stuck is started again.
#[derive(Clone, Copy, Debug, Default)]
struct RestartBackoff {
    last: Option<HostInstant>,
    times: u32,
}

/// For how long a server must say that it streams. A walreceiver calls itself `streaming` as soon as it is
/// connected, before the primary has refused what it asks for (`WalReceiverMain` in `walreceiver.c`),
/// and one that fails is started again after `wal_retrieve_retry_interval` at the earliest.
const STREAMS_AFTER: Duration = Duration::from_secs(2);

impl StandbyState {
    /// Returns what an agent that has just started knows, whose state directory is `state`.
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            unexamined: diverged_wal::unexamined(state),
            ..Self::default()
        }
    }

    /// Forgets what belongs to another primary.
    pub(super) fn follows(&mut self, primary: &NodeId) {
        if self.primary.as_ref() == Some(primary) {
            return;
        }
        // A comparison with another primary is worth nothing. What changes the directory goes on.
        let done = self.done.take().filter(|_| self.busy.is_some());
        *self = Self {
            server: self.server,
            says_streaming_since: self.says_streaming_since,
            streams: self.streams,
            primary: Some(primary.clone()),
            busy: self.busy.filter(|_| done.is_some()),
            done,
            settled_for: self.settled_for.take(),
            rejoined: self.rejoined.take(),
            unexamined: self.unexamined,
            unexamined_start: self.unexamined_start,
            failed_starts: self.failed_starts,
            ..Self::default()
        };
    }

    /// Forgets what only a node that follows knows.
    pub(super) fn not_following(&mut self) {
        self.prepared = false;
        self.examined = false;
        self.not_streaming_since = None;
        self.asked = None;
    }

    /// Returns the primary that is followed.
    pub(super) const fn primary(&self) -> Option<&NodeId> {
        self.primary.as_ref()
    }

    /// Takes in what the server says of its walreceiver, and returns whether it streams.
    pub(super) fn note_streaming(&mut self, now: HostInstant, says: bool) -> bool {
        if !says {
            self.says_streaming_since = None;
        } else if self.says_streaming_since.is_none() {
            self.says_streaming_since = Some(now);
        }
        let lasted = |since: HostInstant| now.elapsed_lower_bound(since) >= STREAMS_AFTER;
        self.streams = self.says_streaming_since.is_some_and(lasted);
        self.streams
    }

    /// Says whether the server streams.
    pub(crate) const fn streams(&self) -> bool {
        self.streams
    }

    /// Takes in how the server is now.
    pub(super) fn watch(&mut self, now: HostInstant, server: ServerView, streaming: bool) {
        if streaming {
            self.not_streaming_since = None;
            self.need = None;
            self.why = None;
            self.trouble = None;
            self.failed_starts = 0;
            self.rewound = false;
            self.restart = RestartBackoff::default();
            self.has_rejoined();
        } else if self.not_streaming_since.is_none() {
            self.not_streaming_since = Some(now);
        }
        match server {
            ServerView::Standby(progress) => {
                if self
                    .advanced
                    .is_none_or(|(lsn, _)| lsn != progress.replayed_lsn.max(progress.received_lsn))
                {
                    self.advanced = Some((progress.replayed_lsn.max(progress.received_lsn), now));
                }
                self.running();
                self.failed_starts = 0;
            }
            ServerView::Silent | ServerView::MayWrite => self.running(),
            ServerView::Stopped(_) if self.ended == Some(EndCause::Started) => {
                // Guard's report may be of before the start: the next shows it running, or ended anew.
                self.examined = false;
                self.ended = None;
                self.failed_starts += 1;
                let grown = START_PAUSE
                    * 2_u32.saturating_pow(self.failed_starts.saturating_sub(FREE_STARTS).min(8));
                let pause = grown.min(START_PAUSE_AT_MOST);
                self.start_at = (self.failed_starts > FREE_STARTS).then(|| now + pause);
            }
            ServerView::Stopped(_) | ServerView::Unguarded => {}
        }
    }

    fn running(&mut self) {
        self.examined = false;
        self.prepared = false;
        if self.ended == Some(EndCause::ByUs) {
            return;
        }
        self.ended = Some(EndCause::Started);
    }

    /// Returns for how long the server has neither streamed nor advanced.
    pub(super) fn stuck_for(&self, now: HostInstant) -> Duration {
        let since = |at: HostInstant| now.elapsed_lower_bound(at);
        let not_streaming = self.not_streaming_since.map_or(Duration::ZERO, since);
        let standing = self.advanced.map_or(not_streaming, |(_, at)| since(at));
        not_streaming.min(standing)
    }

    /// Says whether it is too early to try again.
    pub(super) fn waits(&self, now: HostInstant) -> bool {
        self.retry_at
            .is_some_and(|at| !now.has_passed_on_any_clock(at))
    }

    pub(super) fn is_due(&self, now: HostInstant, every: Duration) -> bool {
        self.examined_at
            .is_none_or(|at| now.elapsed_lower_bound(at) >= every)
    }

    pub(super) fn may_start(&self, now: HostInstant) -> bool {
        self.start_at
            .is_none_or(|at| now.has_passed_on_any_clock(at))
    }

    /// Says whether, and why, a standby that could stream and does not is to be started again now.
    pub(super) fn restart_due(&mut self, now: HostInstant) -> Option<&'static str> {
        let could = self.need == Some(RejoinNeed::Ready) && self.why.is_none() && !self.paused;
        let pause = RESTART_AFTER * 2_u32.saturating_pow(self.restart.times.min(8));
        let last = self
            .restart
            .last
            .is_none_or(|at| now.elapsed_lower_bound(at) >= pause.min(RESTART_AT_MOST));
        if !could || !last || self.stuck_for(now) < RESTART_AFTER {
            return None;
        }
        self.restart = RestartBackoff {
            last: Some(now),
            times: self.restart.times + 1,
        };
        Some("nothing that can be seen keeps it from that")
    }

    /// Takes in what an examination found.
    pub(super) fn note(&mut self, examined: Comparison) {
        self.why = examined.why;
        self.need = Some(examined.need);
    }

    pub(super) fn need_is(&self, need: &RejoinNeed) -> bool {
        self.need.as_ref() == Some(need)
    }

    /// Takes in that the directory can be started as a standby.
    pub(super) fn prepared(&mut self, rebuilt: bool) {
        self.prepared = true;
        self.rewound = true;
        self.examined = false;
        self.need = None;
        self.why = None;
        self.failed_starts = 0;
        self.start_at = None;
        self.ended = None;
        if let Some(asked) = &mut self.asked {
            asked.rebuild &= !rebuilt;
            asked.failure = None;
        }
    }

    /// Takes in that a step failed.
    pub(super) fn failed(&mut self, now: HostInstant, trouble: StandbySetupError, again: Duration) {
        if let Some(asked) = &mut self.asked {
            asked.failure = Some(causeway_runtime::telemetry::chain(&trouble));
        }
        self.trouble = Some(trouble);
        self.retry_at = Some(now + again);
    }
}
