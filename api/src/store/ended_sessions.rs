//! Connections that have ended here, until their server has no backend of them any more: one that waits
//! for a standby, is frozen, or is behind a network that lost the end, lives on. Their places at that
//! server are taken as long, also while another is used, so that a replica never has more backends at
//! one than it was given connections.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{self, Instant};
use tokio_postgres::types::ToSql;
use tracing::debug;

use super::connection::Connection;
use super::primary::Primary;
use super::queries::{self, Effect};
use crate::config::Server;

/// How often the server is asked whether it still has a session.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// The same for one that ended so long ago, which the server is told to end.
const ASK_SELDOM_EVERY: Duration = Duration::from_millis(500);
const LONG_AGO: Duration = Duration::from_secs(1);
/// How long its answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// The place where connections that have ended are handed in.
#[derive(Clone, Debug)]
pub(super) struct EndedSessions(mpsc::UnboundedSender<Ended>);

#[derive(Debug)]
struct Ended {
    session: String,
    server: Server,
    at: Instant,
    _place: OwnedSemaphorePermit,
}

impl EndedSessions {
    /// Starts asking the primary.
    pub(super) fn start(primary: Primary, tasks: &causeway_runtime::shutdown::Tasks) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tasks.start("ended sessions", |stop| async move {
            stop.run_until_cancelled(watch(receiver, &primary)).await;
        });
        Self(sender)
    }

    /// Keeps a place until the server has ended the session.
    pub(super) fn add(
        &self,
        connection: &Connection,
        server: &Server,
        place: OwnedSemaphorePermit,
    ) {
        let ended = Ended {
            session: connection.session_name.clone(),
            server: server.clone(),
            at: Instant::now(),
            _place: place,
        };
        // Where nobody keeps it any more, the program ends.
        self.0.send(ended).ok();
    }
}

async fn watch(mut receiver: mpsc::UnboundedReceiver<Ended>, primary: &Primary) {
    let mut sessions = Vec::new();
    loop {
        let ages = sessions.iter().map(|it: &Ended| it.at.elapsed());
        let pause = match ages.min() {
            None => Duration::MAX,
            Some(age) if age < LONG_AGO => ASK_EVERY,
            Some(_) => ASK_SELDOM_EVERY,
        };
        let more = receiver.recv_many(&mut sessions, usize::MAX);
        if time::timeout(pause, more).await == Ok(0) {
            return;
        }
        let asked = time::timeout(ASK_TIMEOUT, left(&sessions, primary)).await;
        if let Ok(Some((server, left))) = asked {
            sessions.retain(|it| it.server != server || left.contains(&it.session));
        }
    }
}

/// Returns the server that is used, and those that it still has.
async fn left(sessions: &[Ended], primary: &Primary) -> Option<(Server, BTreeSet<String>)> {
    let deadline = Instant::now() + ASK_TIMEOUT;
    let known = primary.known(Effect::Reads, deadline).await.ok()?;
    let server = &known.address.server;
    let names = |of: &dyn Fn(&&Ended) -> bool| {
        let these = sessions.iter().filter(|it| it.server == *server);
        let these = these.filter(of).map(|it| it.session.as_str());
        these.collect::<Vec<_>>()
    };
    let all = names(&|_| true);
    let long_ago = names(&|it| it.at.elapsed() >= LONG_AGO);
    if all.is_empty() {
        return None;
    }
    let params: [&(dyn ToSql + Sync); 2] = [&all, &long_ago];
    match known.monitor.run(&queries::SESSIONS_LEFT, &params).await {
        Ok(rows) => {
            let left = rows.iter().map(|it| it.try_get(0).ok());
            Some((server.clone(), left.collect::<Option<_>>()?))
        }
        Err(error) => {
            debug!(%error, "could not ask for sessions that have ended");
            None
        }
    }
}
