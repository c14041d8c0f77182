//! Sessions of closed connections whose backend may still run: it waits for a standby, is frozen, or the network lost
//! the end of the connection. Until the server has no such backend, the session counts against the connection limit at
//! that server, so that a replica never has more backends than connections.

use std::collections::BTreeSet;
use std::time::Duration;

use causeway_runtime::shutdown::Tasks;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{self, Instant};
use tokio_postgres::types::ToSql;
use tracing::debug;

use super::primary::Primary;
use super::queries::{self, Effect};
use crate::config::Endpoint;

/// Interval at which the server is queried for the backend of a session.
const QUERY_INTERVAL: Duration = Duration::from_millis(50);
/// The backend of a session that ended this long ago is terminated.
const LONG_AGO: Duration = Duration::from_secs(1);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// The session of a closed connection.
#[derive(Debug)]
pub(super) struct EndedSession {
    pub(super) name: String,
    pub(super) server: Endpoint,
    pub(super) at: Instant,
    /// Its place in the pool.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Starts asking the primary. The permit of a session is kept until the server has ended it.
pub(super) fn start(primary: Primary, tasks: &Tasks) -> mpsc::UnboundedSender<EndedSession> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tasks.start("ended sessions", |stop| async move {
        stop.run_until_cancelled(watch(receiver, &primary)).await;
    });
    sender
}

async fn watch(mut receiver: mpsc::UnboundedReceiver<EndedSession>, primary: &Primary) {
    let mut sessions = Vec::new();
    loop {
        let pause = if sessions.is_empty() {
            Duration::MAX
        } else {
            QUERY_INTERVAL
        };
        let more = receiver.recv_many(&mut sessions, usize::MAX);
        if time::timeout(pause, more).await == Ok(0) {
            return;
        }
        let asked = time::timeout(ASK_TIMEOUT, left(&sessions, primary)).await;
        if let Ok(Some((server, left))) = asked {
            sessions.retain(|ended| ended.server != server || left.contains(&ended.name));
        }
    }
}

/// Returns the server that is used, and the sessions of which it still has a backend.
async fn left(ended: &[EndedSession], primary: &Primary) -> Option<(Endpoint, BTreeSet<String>)> {
    let deadline = Instant::now() + ASK_TIMEOUT;
    let known = primary.server_for(Effect::Reads, deadline).await.ok()?;
    let server = &known.address.server;
    let names = |of: &dyn Fn(&&EndedSession) -> bool| {
        let these = ended.iter().filter(|session| session.server == *server);
        let these = these.filter(of).map(|session| session.name.as_str());
        these.collect::<Vec<_>>()
    };
    let all = names(&|_| true);
    let long_ago = names(&|session| session.at.elapsed() >= LONG_AGO);
    if all.is_empty() {
        return None;
    }
    let params: [&(dyn ToSql + Sync); 2] = [&all, &long_ago];
    match known.monitor.run(&queries::SESSIONS_LEFT, &params).await {
        Ok(rows) => {
            let left = rows.iter().map(|row| row.try_get(0).ok());
            Some((server.clone(), left.collect::<Option<_>>()?))
        }
        Err(error) => {
            debug!(%error, "query for ended sessions failed");
            None
        }
    }
}
