//! Client of the local PostgreSQL server, over its Unix socket.
//!
//! Two persistent connections are kept: one queries the state several times a second, the other proves once a second
//! that the server can write and flush. This distinguishes a stalled disk from an unresponsive server, and works while
//! clients occupy every other connection.

mod collations;
mod connection;
mod queries;
mod state;

use std::time::Duration;

use causeway_core::agent::WriteProbeFailure;
use causeway_core::{HostInstant, Timeline};
use causeway_runtime::clock;
use causeway_runtime::shutdown::Tasks;
use tokio::sync::watch;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::connection::{QueryOutcome, ServerConnection};
pub(crate) use self::connection::{connect, local};
use self::queries::{AnswerReader, CHECKPOINT, HOLD_BACK, STATE_QUERY, WRITE_PROBE};
pub(crate) use self::state::{PostgresState, ServerAnswer, StandbyAnswer, WriteHindrance};
use crate::config::PostgresSettings;

/// Interval between state queries, and so the maximum delay until a promotion is detected.
const ASK_INTERVAL: Duration = Duration::from_millis(150);

/// Interval between write probes of a primary.
const PROOF_INTERVAL: Duration = Duration::from_secs(1);

/// Time after which an unfinished write probe counts as stalled: two fsyncs of a busy volume.
const STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval between attempts to make a standby hold back commits.
const HOLD_BACK_INTERVAL: Duration = Duration::from_secs(5);

/// Queries and probes the server until `stop` is cancelled, and publishes its state.
pub(crate) async fn monitor(
    settings: PostgresSettings,
    state: watch::Sender<PostgresState>,
    tasks: Tasks,
    stop: CancellationToken,
) {
    let querying = query_state(&settings, &state, &tasks);
    let probing = probe_writes(&settings, &state, &tasks);
    let comparing = collations::watch(&settings, &state, &tasks);
    tokio::select! {
        () = stop.cancelled() => {}
        () = querying => {}
        () = probing => {}
        () = comparing => {}
    }
}

/// Queries the server's state periodically.
async fn query_state(
    settings: &PostgresSettings,
    state: &watch::Sender<PostgresState>,
    tasks: &Tasks,
) {
    let mut connection = ServerConnection::new(local(settings, "failover-ctl agent"));
    let mut reader = AnswerReader::new(settings);
    let mut compared = 0;
    let mut interval = time::interval(ASK_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        let answer = match connection.query(STATE_QUERY, tasks).await {
            QueryOutcome::Answered(row) => match reader.read(&row) {
                Ok(answer) => Some(answer),
                Err(error) => {
                    warn!(%error, "server answer rejected");
                    None
                }
            },
            QueryOutcome::NotYet => Some(ServerAnswer::NotYet),
            QueryOutcome::NoConnectionLeft => Some(ServerAnswer::NoConnectionLeft),
            QueryOutcome::Refused(failure) => Some(ServerAnswer::Refused(failure)),
            QueryOutcome::Failed | QueryOutcome::Waiting(_) => None,
        };
        let is_running = matches!(
            answer,
            Some(ServerAnswer::Standby(_) | ServerAnswer::Primary(_))
        );
        if is_running && compared != connection.opened() {
            // Before the answer is published, so that no standby counts as promotable by an unread version.
            compared = connection.opened();
            collations::publish(settings, state, tasks).await;
        }
        let now = clock::now();
        let replay = match answer {
            Some(ServerAnswer::Standby(standby)) => Some(standby.progress.replayed_lsn.get()),
            Some(ServerAnswer::Primary(_) | ServerAnswer::NoConnectionLeft) => None,
            Some(ServerAnswer::NotYet | ServerAnswer::Refused(_)) | None => reader.replay(now),
        };
        let hindrance = match answer {
            Some(ServerAnswer::NoConnectionLeft) => Some(WriteHindrance::ConnectionsExhausted),
            Some(_) => reader.hindrance,
            None => None,
        };
        if let Some(ServerAnswer::Primary(primary)) = answer {
            reader.checkpoint_once(primary.position.timeline, settings, tasks);
        }
        if let Some(ServerAnswer::Standby(standby)) = answer
            && !standby.holds_back
        {
            reader.hold_back_commits(now, settings, tasks);
        }
        state.send_modify(|current| {
            if let Some(answer) = answer {
                current.answer = Some((now, answer));
            }
            current.replay = replay;
            current.hindrance = hindrance;
        });
    }
}

/// Probes a primary with a write periodically.
async fn probe_writes(
    settings: &PostgresSettings,
    state: &watch::Sender<PostgresState>,
    tasks: &Tasks,
) {
    let mut connection = ServerConnection::new(local(settings, "failover-ctl agent proof"));
    let mut interval = time::interval(PROOF_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    let mut states = state.subscribe();
    loop {
        interval.tick().await;
        // A new primary is probed at once instead of at the next interval.
        let is_primary =
            |state: &PostgresState| matches!(state.answer, Some((_, ServerAnswer::Primary(_))));
        if !is_primary(&states.borrow_and_update()) {
            // Opened in advance, for when clients occupy every connection.
            connection.open(tasks).await;
            let changed = time::timeout(PROOF_INTERVAL, states.wait_for(is_primary)).await;
            match changed {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return,
                Err(_elapsed) => continue,
            }
        }
        let sent_at = clock::now();
        let outcome = connection.query(WRITE_PROBE, tasks).await;
        let now = clock::now();
        state.send_modify(|current| match &outcome {
            QueryOutcome::Answered(_) => {
                (current.proven_at, current.failure) = (Some(sent_at), None);
            }
            QueryOutcome::Waiting(since) if now.elapsed_upper_bound(*since) >= STALL_TIMEOUT => {
                current.failure = Some((now, WriteProbeFailure::Stalled));
            }
            QueryOutcome::NoConnectionLeft => {
                current.failure = Some((now, WriteProbeFailure::NoConnectionLeft));
            }
            QueryOutcome::Refused(failure) => current.failure = Some((now, *failure)),
            QueryOutcome::Failed => current.failure = Some((now, WriteProbeFailure::Error)),
            QueryOutcome::Waiting(_) | QueryOutcome::NotYet => {}
        });
    }
}

impl AnswerReader {
    /// Requests one checkpoint of a new primary: until then its control file names the previous timeline, `pg_rewind` on
    /// another node finds nothing to rewind, and a crash replays everything since the last restartpoint.
    fn checkpoint_once(&mut self, timeline: Timeline, settings: &PostgresSettings, tasks: &Tasks) {
        if self.checkpointed.replace(timeline) == Some(timeline) || timeline == Timeline::FIRST {
            return;
        }
        execute_in_background(settings, tasks, "checkpoint", &[CHECKPOINT]);
    }

    /// Resets a setting by `ALTER SYSTEM` that overrides the guard's setting to hold back commits.
    fn hold_back_commits(&mut self, now: HostInstant, settings: &PostgresSettings, tasks: &Tasks) {
        let is_recent = self
            .held_back_at
            .is_some_and(|at| now.elapsed_upper_bound(at) < HOLD_BACK_INTERVAL);
        if is_recent {
            return;
        }
        self.held_back_at = Some(now);
        warn!("resetting `synchronous_standby_names` set by ALTER SYSTEM");
        execute_in_background(settings, tasks, "hold back commits", &HOLD_BACK);
    }
}

/// Executes statements over a separate connection, in the background.
fn execute_in_background(
    settings: &PostgresSettings,
    tasks: &Tasks,
    what: &'static str,
    statements: &'static [&'static str],
) {
    let config = local(settings, "failover-ctl agent statements");
    let for_connection = tasks.clone();
    tasks.start(what, |stop| async move {
        let execution = async {
            let client = connect(&config, &for_connection).await?;
            for statement in statements {
                client.batch_execute(statement).await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            () = stop.cancelled() => {}
            result = execution => match result {
                Ok(()) => info!(operation = what, "PostgreSQL statements executed"),
                Err(error) => warn!(operation = what, error = format!("{error:#}"), "PostgreSQL statements failed"),
            },
        }
    });
}
