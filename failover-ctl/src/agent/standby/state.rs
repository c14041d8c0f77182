//! State of the standby setup between two ticks.

use std::path::Path;
use std::time::Duration;

use causeway_core::failover::observation::ServerView;
use causeway_core::{HostInstant, Lsn, NodeId};
use tokio::sync::oneshot;

use crate::agent::standby_setup::StandbySetupError;
use crate::agent::standby_setup::comparison::{Comparison, RejoinNeed};
use crate::agent::standby_setup::diverged_wal;
use crate::protocol::node_status::RejoinStatus;

/// Time without streaming or progress after which a standby is restarted: its recovery target timeline may be one
/// that no primary opened, and only a restart looks it up again.
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum backoff between two restarts.
const MAX_RESTART_BACKOFF: Duration = Duration::from_mins(10);

/// Number of failed starts in a row after which the next one waits.
const MAX_IMMEDIATE_STARTS: u32 = 3;

/// Initial backoff of failed starts.
const INITIAL_START_BACKOFF: Duration = Duration::from_secs(2);

/// Maximum backoff of failed starts.
const MAX_START_BACKOFF: Duration = Duration::from_secs(30);

/// State of the standby setup.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is set and cleared by different events"
)]
pub(crate) struct StandbyState {
    /// Last observation of the server.
    pub(super) server: Option<ServerView>,
    /// Primary that this state refers to.
    primary: Option<NodeId>,
    /// Primary that the lease names but `[[nodes]]` lacks.
    pub(super) unknown: Option<NodeId>,
    pub(crate) busy: Option<&'static str>,
    pub(super) done: Option<oneshot::Receiver<Result<WorkOutcome, StandbySetupError>>>,
    pub(super) settings_written_for: Option<NodeId>,
    /// Result of the last comparison.
    pub(super) need: Option<RejoinNeed>,
    /// Reason why the server does not stream, from the last comparison.
    pub(super) why: Option<String>,
    /// The directory was compared since PostgreSQL stopped.
    pub(super) examined: bool,
    /// PostgreSQL was started without a comparison, because the primary did not answer.
    pub(super) unexamined_start: bool,
    pub(super) examined_at: Option<HostInstant>,
    /// The directory was rewound, or needed no rewind: its control file may still be that of a primary.
    pub(super) prepared: bool,
    /// The directory was rewound or copied since the server last streamed.
    pub(super) rewound: bool,
    pub(super) trouble: Option<StandbySetupError>,
    pub(super) retry_at: Option<HostInstant>,
    /// Time since which the walreceiver reports streaming.
    reports_streaming_since: Option<HostInstant>,
    streams: bool,
    /// Time since which the server has not streamed.
    pub(super) not_streaming_since: Option<HostInstant>,
    /// Furthest WAL position, and the time when it was reached.
    advanced: Option<(Lsn, HostInstant)>,
    pub(super) paused: bool,
    pub(super) ended: Option<EndCause>,
    /// Number of starts in a row after which PostgreSQL exited before it streamed.
    pub(super) failed_starts: u32,
    start_at: Option<HostInstant>,
    restart: RestartBackoff,
    pub(super) asked: Option<RejoinRequest>,
    pub(crate) rejoined: Option<RejoinStatus>,
    /// Number of saves of diverged WAL, if there are too many.
    pub(super) unexamined: Option<usize>,
}

/// `rejoin` command in progress.
#[derive(Clone, Debug)]
pub(super) struct RejoinRequest {
    pub(super) command: String,
    /// A copy is still to be made.
    pub(super) rebuild: bool,
    /// Error of the last attempt.
    pub(super) failure: Option<String>,
}

/// Result of a background task.
#[derive(Debug)]
pub(super) enum WorkOutcome {
    /// The directory can be started as a standby.
    Prepared {
        /// Whether it was copied by command.
        rebuilt: bool,
    },
    /// The settings are written, and the directory was compared if the primary answered.
    ReadyToStart(Result<Comparison, StandbySetupError>),
    /// A running server was compared; the flag is set if its older WAL was compared too.
    Compared(Comparison, bool),
    /// Settings that were too low were raised, if true: PostgreSQL must be restarted.
    SettingsRaised(bool),
}

/// Agent's part in the server's last start or stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndCause {
    /// The agent stopped it.
    ByUs,
    /// The agent started it, and it has not streamed yet.
    Started,
}

/// Backoff of restarts of a standby that does not stream.
#[derive(Clone, Copy, Debug, Default)]
struct RestartBackoff {
    last: Option<HostInstant>,
    times: u32,
}

/// Time for which the walreceiver must report streaming before it counts. It reports `streaming` once connected,
/// before the primary rejects the requested WAL (`WalReceiverMain` in `walreceiver.c`), and a failed one restarts
/// after `wal_retrieve_retry_interval` at the earliest.
const STREAMING_CONFIRMATION: Duration = Duration::from_secs(2);

impl StandbyState {
    /// Returns the state at the start of the agent whose state directory is `state`.
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            unexamined: diverged_wal::count_saves(state),
            ..Self::default()
        }
    }

    /// Sets the primary, and clears the state that belongs to another one.
    pub(super) fn set_primary(&mut self, primary: &NodeId) {
        if self.primary.as_ref() == Some(primary) {
            return;
        }
        // A comparison with another primary is dropped. A task that changes the directory continues.
        let done = self.done.take().filter(|_| self.busy.is_some());
        *self = Self {
            server: self.server,
            reports_streaming_since: self.reports_streaming_since,
            streams: self.streams,
            primary: Some(primary.clone()),
            busy: self.busy.filter(|_| done.is_some()),
            done,
            settings_written_for: self.settings_written_for.take(),
            rejoined: self.rejoined.take(),
            unexamined: self.unexamined,
            unexamined_start: self.unexamined_start,
            failed_starts: self.failed_starts,
            ..Self::default()
        };
    }

    /// Clears the state that only a standby has.
    pub(super) fn clear_standby_state(&mut self) {
        self.prepared = false;
        self.examined = false;
        self.not_streaming_since = None;
        self.asked = None;
    }

    /// Returns the primary.
    pub(super) const fn primary(&self) -> Option<&NodeId> {
        self.primary.as_ref()
    }

    /// Records the walreceiver's status, and returns whether the server streams.
    pub(super) fn record_streaming(&mut self, now: HostInstant, reports_streaming: bool) -> bool {
        if !reports_streaming {
            self.reports_streaming_since = None;
        } else if self.reports_streaming_since.is_none() {
            self.reports_streaming_since = Some(now);
        }
        let lasted = |since: HostInstant| now.elapsed_lower_bound(since) >= STREAMING_CONFIRMATION;
        self.streams = self.reports_streaming_since.is_some_and(lasted);
        self.streams
    }

    /// Returns whether the server streams.
    pub(crate) const fn streams(&self) -> bool {
        self.streams
    }

    /// Records an observation of the server.
    pub(super) fn observe(&mut self, now: HostInstant, server: ServerView, streaming: bool) {
        if streaming {
            self.not_streaming_since = None;
            self.need = None;
            self.why = None;
            self.trouble = None;
            self.failed_starts = 0;
            self.rewound = false;
            self.restart = RestartBackoff::default();
            self.complete_rejoin();
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
                self.record_running();
                self.failed_starts = 0;
            }
            ServerView::Unresponsive | ServerView::MayWrite => self.record_running(),
            ServerView::Stopped(_) if self.ended == Some(EndCause::Started) => {
                // The guard's report may predate the start: the next one shows PostgreSQL running or stopped again.
                self.examined = false;
                self.ended = None;
                self.failed_starts += 1;
                let backoff = INITIAL_START_BACKOFF
                    * 2_u32.saturating_pow(
                        self.failed_starts
                            .saturating_sub(MAX_IMMEDIATE_STARTS)
                            .min(8),
                    );
                let backoff = backoff.min(MAX_START_BACKOFF);
                self.start_at = (self.failed_starts > MAX_IMMEDIATE_STARTS).then(|| now + backoff);
            }
            ServerView::Stopped(_) | ServerView::Unguarded => {}
        }
    }

    fn record_running(&mut self) {
        self.examined = false;
        self.prepared = false;
        if self.ended == Some(EndCause::ByUs) {
            return;
        }
        self.ended = Some(EndCause::Started);
    }

    /// Returns the time for which the server has neither streamed nor made progress.
    pub(super) fn time_stuck(&self, now: HostInstant) -> Duration {
        let since = |at: HostInstant| now.elapsed_lower_bound(at);
        let not_streaming = self.not_streaming_since.map_or(Duration::ZERO, since);
        let standing = self.advanced.map_or(not_streaming, |(_, at)| since(at));
        not_streaming.min(standing)
    }

    /// Returns whether a failed step is still in its backoff.
    pub(super) fn is_backing_off(&self, now: HostInstant) -> bool {
        self.retry_at
            .is_some_and(|at| !now.has_passed_on_any_clock(at))
    }

    pub(super) fn is_due(&self, now: HostInstant, interval: Duration) -> bool {
        self.examined_at
            .is_none_or(|at| now.elapsed_lower_bound(at) >= interval)
    }

    pub(super) fn may_start(&self, now: HostInstant) -> bool {
        self.start_at
            .is_none_or(|at| now.has_passed_on_any_clock(at))
    }

    /// Returns why a standby that could stream but does not is to be restarted now.
    pub(super) fn restart_due(&mut self, now: HostInstant) -> Option<&'static str> {
        let could_stream =
            self.need == Some(RejoinNeed::Ready) && self.why.is_none() && !self.paused;
        let backoff = RESTART_TIMEOUT * 2_u32.saturating_pow(self.restart.times.min(8));
        let backoff_elapsed = self
            .restart
            .last
            .is_none_or(|at| now.elapsed_lower_bound(at) >= backoff.min(MAX_RESTART_BACKOFF));
        if !could_stream || !backoff_elapsed || self.time_stuck(now) < RESTART_TIMEOUT {
            return None;
        }
        self.restart = RestartBackoff {
            last: Some(now),
            times: self.restart.times + 1,
        };
        Some("no known cause")
    }

    /// Records the result of a comparison.
    pub(super) fn record_comparison(&mut self, examined: Comparison) {
        self.why = examined.why;
        self.need = Some(examined.need);
    }

    pub(super) fn has_need(&self, need: &RejoinNeed) -> bool {
        self.need.as_ref() == Some(need)
    }

    /// Records that the directory can be started as a standby.
    pub(super) fn record_prepared(&mut self, rebuilt: bool) {
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

    /// Records a failed step.
    pub(super) fn record_failure(
        &mut self,
        now: HostInstant,
        error: StandbySetupError,
        backoff: Duration,
    ) {
        if let Some(asked) = &mut self.asked {
            asked.failure = Some(causeway_runtime::telemetry::chain(&error));
        }
        self.trouble = Some(error);
        self.retry_at = Some(now + backoff);
    }
}
