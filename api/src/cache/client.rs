//! Sessions of one cache server. A session is one connection for all requests, and begins by raising the
//! generation.
//!
//! Between two sessions the server may have been emptied, restored, or replaced by a replica that lacks
//! the last writes. So a session first raises the generation by a random distance, to a number that no
//! stored value carries. The same follows when the generation is missing or has gone back. A failed
//! invalidation ends the session, and the cache is not read until another session has begun.
//!
//! One task begins the sessions and is the circuit breaker: after a failed attempt, requests bypass the
//! cache until an attempt succeeds.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisResult, cmd};
use tokio::sync::watch;
use tokio::time;
use tracing::{debug, info, warn};

use super::redis::CacheBackend;

const GENERATION: &str = "users:gen";
/// Wide, so that a count that was lost and begins at zero meets a number of before with a chance of one
/// in a million million; and there is room for four million of them below 2^63, where it begins anew.
const DISTANCE: Range<i64> = (1 << 40)..(1 << 41);
/// This many timeouts without an answer between them end a session. Any other failure ends it at once.
const MAX_TIMEOUTS: u32 = 5;
/// Interval between attempts to begin a session, which also repeats a failed invalidation.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// Interval of the health check, which keeps readiness up to date without requests.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A key under which nothing is stored.
const PROBE: &str = "users:none";

#[derive(Debug)]
pub(super) struct CacheClient<B: CacheBackend> {
    backend: B,
    connection: watch::Sender<CacheConnection<B>>,
}

/// Connection to the server, if there is one.
#[derive(Debug)]
enum CacheConnection<B: CacheBackend> {
    /// A session begins, and requests wait for it.
    Connecting,
    Up(Arc<Session<B>>),
    /// The last attempt to begin a session failed, and requests bypass the cache.
    Down,
}

#[derive(Debug)]
struct Session<B: CacheBackend> {
    connection: B::Connection,
    /// The highest generation that was seen.
    floor: AtomicI64,
    /// Since the last answer.
    timeouts: AtomicU32,
}

impl<B: CacheBackend> CacheClient<B> {
    pub(super) fn new(backend: B) -> Self {
        Self {
            backend,
            connection: watch::Sender::new(CacheConnection::Connecting),
        }
    }

    /// Returns the current generation and the value under `key`, or `None` without a connection to the server.
    pub(super) async fn look_up(&self, key: &str) -> Option<(i64, Option<Vec<u8>>)> {
        let session = self.session().await?;
        let found = session.look_up(key).await;
        self.account(&session, found)
    }

    /// Stores `value` for `ttl`.
    pub(super) async fn store(&self, key: &str, value: &str, ttl: Duration) {
        if let Some(session) = self.session().await {
            let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
            let mut set = cmd("SET");
            set.arg(key).arg(value).arg("PX").arg(millis);
            let stored = match session.run::<()>(&set).await {
                // A full server still answers, and smaller values may fit.
                Err(error) if error.code() == Some("OOM") => Ok(()),
                stored => stored,
            };
            self.account(&session, stored);
        }
    }

    /// Invalidates every value that was stored for an earlier generation. After a failure the cache is not
    /// read here until the next session has raised the generation.
    pub(super) async fn invalidate(&self) {
        // The first attempt may be what notices that the connection has ended.
        for _attempt in 0..2 {
            let Some(session) = self.session().await else {
                return;
            };
            match session.raise_generation(1).await {
                Ok(generation) => {
                    session.floor.fetch_max(generation, Ordering::Relaxed);
                    return;
                }
                Err(error) => {
                    warn!(%error, "cache invalidation failed; bypassing the cache until it succeeds");
                    self.end(&session);
                }
            }
        }
    }

    /// Begins sessions, and keeps track of whether the server answers.
    pub(super) async fn run_sessions(&self) -> Infallible {
        let mut is_used = true;
        loop {
            let began = time::Instant::now();
            match self.begin().await {
                Ok(session) => {
                    if !is_used {
                        info!("cache available again");
                    }
                    is_used = true;
                    self.probe(&session).await;
                }
                Err(error) if is_used => {
                    warn!(%error, "cache unavailable; bypassing it");
                    is_used = false;
                }
                Err(error) => debug!(%error, "cache request failed"),
            }
            // A session that ends at once is no better than none.
            if !is_used || began.elapsed() < RETRY_INTERVAL {
                self.close();
                time::sleep(RETRY_INTERVAL).await;
            }
        }
    }

    /// Asks the server every [`PROBE_INTERVAL`] whether it answers, until the session has ended.
    async fn probe(&self, session: &Arc<Session<B>>) {
        let mut connection = self.connection.subscribe();
        loop {
            let ended =
                connection.wait_for(|connection| !matches!(connection, CacheConnection::Up(_)));
            if time::timeout(PROBE_INTERVAL, ended).await.is_ok() {
                return;
            }
            let probed = session.look_up(PROBE).await;
            self.account(session, probed);
        }
    }

    async fn begin(&self) -> RedisResult<Arc<Session<B>>> {
        let session = Arc::new(Session {
            connection: self.backend.connect().await?,
            floor: AtomicI64::default(),
            timeouts: AtomicU32::default(),
        });
        // The generation is raised after every write that bypassed the cache. A later write waits for the
        // session, and raises it again.
        self.connection.send_replace(CacheConnection::Connecting);
        session.begin_generation().await?;
        self.connection
            .send_replace(CacheConnection::Up(Arc::clone(&session)));
        Ok(session)
    }

    /// Lets requests bypass the server.
    pub(super) fn close(&self) {
        self.connection.send_replace(CacheConnection::Down);
    }

    /// Returns whether there is a connection to the server, and whether the last command succeeded.
    pub(super) fn health(&self) -> (bool, bool) {
        match &*self.connection.borrow() {
            CacheConnection::Up(session) => (true, session.timeouts.load(Ordering::Relaxed) == 0),
            CacheConnection::Connecting | CacheConnection::Down => (false, false),
        }
    }

    /// Returns the session, which may be about to begin.
    async fn session(&self) -> Option<Arc<Session<B>>> {
        let mut connection = self.connection.subscribe();
        let decided = connection
            .wait_for(|connection| !matches!(connection, CacheConnection::Connecting))
            .await;
        match &*decided.ok()? {
            CacheConnection::Up(session) => Some(Arc::clone(session)),
            CacheConnection::Connecting | CacheConnection::Down => None,
        }
    }

    /// Ends a session, if it has not ended. Another is begun at once.
    fn end(&self, session: &Arc<Session<B>>) {
        self.connection.send_if_modified(|connection| {
            let is_current =
                matches!(connection, CacheConnection::Up(current) if Arc::ptr_eq(current, session));
            if is_current {
                *connection = CacheConnection::Connecting;
            }
            is_current
        });
    }

    /// Counts the outcome of an operation, and ends the session where it has failed.
    fn account<T>(&self, session: &Arc<Session<B>>, done: RedisResult<T>) -> Option<T> {
        match done {
            Ok(done) => {
                session.timeouts.store(0, Ordering::Relaxed);
                Some(done)
            }
            Err(error) => {
                // Errors of Redis and of the connection contain no password.
                debug!(%error, "cache request failed");
                let timeouts = session.timeouts.fetch_add(1, Ordering::Relaxed) + 1;
                if !error.is_timeout() || timeouts >= MAX_TIMEOUTS {
                    self.end(session);
                }
                None
            }
        }
    }
}

impl<B: CacheBackend> Session<B> {
    /// Runs a command. The commands of many follow each other without waiting.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.connection.clone()).await
    }

    /// Returns the current generation and the value under `key`.
    async fn look_up(&self, key: &str) -> RedisResult<(i64, Option<Vec<u8>>)> {
        // Read first: other requests may raise it before this answer arrives.
        let floor = self.floor.load(Ordering::Relaxed);
        let mut look = cmd("MGET");
        look.arg(GENERATION).arg(key);
        // The stored generation may be any bytes.
        let (generation, value): (Option<Vec<u8>>, _) = self.run(&look).await?;
        let text = generation.and_then(|bytes| String::from_utf8(bytes).ok());
        let generation = text.and_then(|text| text.parse().ok());
        if let Some(generation) = generation.filter(|generation| *generation >= floor) {
            self.floor.fetch_max(generation, Ordering::Relaxed);
            return Ok((generation, value));
        }
        warn!("cache generation lost; starting a new one");
        Ok((self.begin_generation().await?, value))
    }

    /// Raises the generation to a number that no stored value carries.
    async fn begin_generation(&self) -> RedisResult<i64> {
        let generation = self.raise_generation(rand::random_range(DISTANCE)).await?;
        self.floor.store(generation, Ordering::Relaxed);
        Ok(generation)
    }

    /// Raises the generation. Where there is none, or one that cannot be raised, it becomes `by`.
    async fn raise_generation(&self, by: i64) -> RedisResult<i64> {
        match self.run(cmd("INCRBY").arg(GENERATION).arg(by)).await {
            // The stored value is not a number, or cannot be incremented.
            Err(error) if error.code().is_some() => {
                let set: RedisResult<()> = self.run(cmd("SET").arg(GENERATION).arg(by)).await;
                set.map(|()| by)
            }
            raised => raised,
        }
    }
}
