//! This node's own PostgreSQL, asked over its Unix socket several times a second.
//!
//! Two connections are kept. Over one it is asked how it is; over the other it proves once a second that
//! it can write and flush. So a server whose disk stalls is told from one that answers nothing, and one
//! whose clients have taken every connection is still asked over those that were opened before.

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
use self::queries::{AnswerReader, CHECKPOINT, HOLD_BACK, LOOK, PROVE};
pub(crate) use self::state::{PostgresState, ServerAnswer, StandbyAnswer, WriteHindrance};
use crate::config::PostgresSettings;

/// How often the server is asked. A promotion is noticed this much later at worst.
const ASK_INTERVAL: Duration = Duration::from_millis(150);

/// How often a primary is made to prove that it can write and flush.
const PROOF_INTERVAL: Duration = Duration::from_secs(1);

/// After how long a write that has not returned counts as stalled: two fsyncs of a busy volume.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// How often a standby is made to hold back commits while it does not.
const HOLD_BACK_INTERVAL: Duration = Duration::from_secs(5);

/// Asks the server until told to stop, and publishes what it says.
pub(crate) async fn watch(
    settings: PostgresSettings,
    state: watch::Sender<PostgresState>,
    tasks: Tasks,
    stop: CancellationToken,
) {
    let asking = ask(&settings, &state, &tasks);
    let proving = prove(&settings, &state, &tasks);
    tokio::select! {
        () = stop.cancelled() => {}
        () = asking => {}
        () = proving => {}
    }
}

/// Asks how the server is, again and again.
async fn ask(settings: &PostgresSettings, state: &watch::Sender<PostgresState>, tasks: &Tasks) {
    let mut line = ServerConnection::new(local(settings, "failover-ctl agent"));
    let mut known = AnswerReader::new(settings);
    let mut interval = time::interval(ASK_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        let answer = match line.ask(LOOK, tasks).await {
            QueryOutcome::Answered(row) => match known.read(&row) {
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
        let now = clock::now();
        let replay = match answer {
            Some(ServerAnswer::Standby(standby)) => Some(standby.progress.replayed_lsn.get()),
            Some(ServerAnswer::Primary(_) | ServerAnswer::NoConnectionLeft) => None,
            Some(ServerAnswer::NotYet | ServerAnswer::Refused(_)) | None => known.replay(now),
        };
        let hindrance = match answer {
            Some(ServerAnswer::NoConnectionLeft) => Some(WriteHindrance::ConnectionsExhausted),
            Some(_) => known.hindrance,
            None => None,
        };
        if let Some(ServerAnswer::Primary(primary)) = answer {
            known.checkpoint_once(primary.position.timeline, settings, tasks);
        }
        if let Some(ServerAnswer::Standby(standby)) = answer
            && !standby.holds_back
        {
            known.hold_back(now, settings, tasks);
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

/// Has a server that accepts writes prove it, again and again.
async fn prove(settings: &PostgresSettings, state: &watch::Sender<PostgresState>, tasks: &Tasks) {
    let mut line = ServerConnection::new(local(settings, "failover-ctl agent proof"));
    let mut interval = time::interval(PROOF_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    let mut reader = state.subscribe();
    loop {
        interval.tick().await;
        // A server that has just become a primary proves it at once, and not at the next interval.
        let writes = |state: &PostgresState| matches!(state.answer, Some((_, ServerAnswer::Primary(_))));
        if !writes(&reader.borrow_and_update()) {
            // Opened beforehand, it is there when every connection is taken or refused later.
            line.open(tasks).await;
            let changed = time::timeout(PROOF_INTERVAL, reader.wait_for(writes)).await;
            match changed {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return,
                Err(_elapsed) => continue,
            }
        }
        let sent_at = clock::now();
        let asked = line.ask(PROVE, tasks).await;
        let now = clock::now();
        state.send_modify(|current| match &asked {
            QueryOutcome::Answered(_) => (current.proven_at, current.failure) = (Some(sent_at), None),
            QueryOutcome::Waiting(since) if now.elapsed_upper_bound(*since) >= STALLED_AFTER => {
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
    /// Has a new primary write a checkpoint, once: until then its control file names the timeline before,
    /// `pg_rewind` on another node says that there is nothing to rewind, and a crash replays everything
    /// since the last restartpoint.
    fn checkpoint_once(&mut self, timeline: Timeline, settings: &PostgresSettings, tasks: &Tasks) {
        if self.checkpointed.replace(timeline) == Some(timeline) || timeline == Timeline::FIRST {
            return;
        }
        run(settings, tasks, "checkpoint", &[CHECKPOINT]);
    }

    /// Has a standby use guard's setting by which commits are held back, where `ALTER SYSTEM` outweighs it.
    fn hold_back(&mut self, now: HostInstant, settings: &PostgresSettings, tasks: &Tasks) {
        let lately = self
            .held_back_at
            .is_some_and(|at| now.elapsed_upper_bound(at) < HOLD_BACK_INTERVAL);
        if lately {
            return;
        }
        self.held_back_at = Some(now);
        warn!("resetting `synchronous_standby_names` set by ALTER SYSTEM");
        run(settings, tasks, "hold back commits", &HOLD_BACK);
    }
}

/// Runs statements over a connection of their own, in the background.
fn run(
    settings: &PostgresSettings,
    tasks: &Tasks,
    what: &'static str,
    statements: &'static [&'static str],
) {
    let config = local(settings, "failover-ctl agent at work");
    let for_connection = tasks.clone();
    tasks.start(what, |stop| async move {
        let running = async {
            let client = connect(&config, &for_connection).await?;
            for statement in statements {
                client.batch_execute(statement).await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            () = stop.cancelled() => {}
            result = running => match result {
                Ok(()) => info!(operation = what, "PostgreSQL statements executed"),
                Err(error) => warn!(operation = what, error = format!("{error:#}"), "PostgreSQL statements failed"),
            },
        }
    });
}
