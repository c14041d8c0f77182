//! The only module that speaks SQL.
//!
//! A statement of a request is tried again until its budget is spent, wherever the primary is by
//! then. That is safe because each of them may be repeated: see [`queries::Effect`].
//!
//! Short reads share a few connections, since each waits for the server and not for a disk. Each kind
//! of what takes longer has connections of its own ([`queries::Lane`]). A read that has no answer soon is
//! sent again on another. Greetings, which are most of the work, are batched: those that come at the
//! same time go in one statement.

mod batcher;
mod connect;
mod ended_sessions;
mod failure;
mod hello;
mod keeper;
mod lists;
mod pool;
mod primary;
mod queries;
mod requests;
mod rows;
mod schema;

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ha_runtime::postgres::TlsError;
use ha_runtime::shutdown::Tasks;
use tokio::sync::{SemaphorePermit, watch};
use tokio::time::{self, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::{debug, error, info};

use self::batcher::Batcher;
pub(crate) use self::batcher::LEAST_TIME;
use self::connect::Connector;
use self::ended_sessions::EndedSessions;
use self::failure::{Failure, Meaning};
use self::hello::{Birthday, Name, ServerClock};
pub(crate) use self::lists::{Listed, Rows};
use self::pool::{Pool, PooledConnection, PrimaryConnection};
use self::primary::{Primary, View};
use self::queries::{Effect, Lane, Query};
pub use self::requests::NotStored;
pub use self::schema::SchemaError;
use crate::config::Database;
use crate::metrics::Metrics;

/// The target of what is logged at every level.
pub const ALWAYS_LOGGED: &str = "always";
/// The first pause before another try is drawn from nothing to this.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// No pause is longer than this. Whoever waits for a primary is woken sooner, when there is one.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// The server ends a statement by itself after its own timeout; one that has not said so this much
/// later is frozen or cut off.
const ANSWER_GRACE: Duration = Duration::from_millis(500);
/// A read that has no answer by now is sent again elsewhere: its backend may be frozen.
const HEDGE_AFTER: Duration = Duration::from_millis(250);

/// The data, wherever the primary is.
#[derive(Clone, Debug)]
pub struct Store {
    primary: Primary,
    shared: Arc<Pool>,
    lists: Arc<Pool>,
    creates: Arc<Pool>,
    puts: Arc<Pool>,
    connector: Connector,
    metrics: Metrics,
    settings: Arc<Database>,
    has_schema: Arc<watch::Sender<bool>>,
    names: Batcher<Name>,
    birthdays: Batcher<Birthday>,
    clock: Arc<Mutex<Option<ServerClock>>>,
    /// Until when an attempt of which nobody knows what became may still write a birthday.
    unsettled_until: Arc<Mutex<Instant>>,
}

/// Why there is no answer from the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No server answers, or none in time.
    Away,
    /// Servers answer, but none accepts writes.
    ReadOnly,
    /// Every connection is in use, and has been for too long.
    Busy,
    /// The table has this rule, which the values break.
    Constraint(String),
    /// A mistake in this program; the log has it.
    Bug,
}

/// What is known about the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// `primary`, `standby`, or `unknown` when no server answers.
    pub role: &'static str,
    /// Whether the database accepts writes.
    pub writable: bool,
    /// How long ago it last said so.
    pub away_for: Duration,
    /// Whether the schema is up to date.
    pub has_schema: bool,
}

impl Store {
    /// Starts looking for the primary. Nothing is lent before [`Store::prepare_schema`] is done.
    pub(crate) fn start(
        settings: Database,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, TlsError> {
        let connector = Connector::new(&settings, tasks.clone())?;
        let primary = Primary::start(&settings, connector.clone(), metrics.clone(), tasks);
        let ended = EndedSessions::start(primary.clone(), tasks);
        let pool = |size, shared, connector| {
            let (primary, metrics) = (primary.clone(), metrics.clone());
            Pool::new((size, shared), connector, primary, metrics, ended.clone())
        };
        let own = |size| pool(size, false, connector.clone());
        let [lists, creates, puts] = match settings.pool_max {
            // Too few for each kind to have its own.
            few @ 0..3 => [&own(few); 3].map(Arc::clone),
            all => {
                let (lists, creates) = (1.max(all / 5), all / 2);
                let reads = pool(lists, false, connector.for_reads());
                [reads, own(creates), own(all - lists - creates)]
            }
        };
        let store = Self {
            shared: pool(settings.shared_connections, true, connector.for_reads()),
            lists,
            creates,
            puts,
            primary,
            connector,
            metrics,
            settings: Arc::new(settings),
            has_schema: Arc::new(watch::Sender::new(false)),
            names: Batcher::new(),
            birthdays: Batcher::new(),
            clock: Arc::default(),
            unsettled_until: Arc::new(Mutex::new(Instant::now())),
        };
        store.names.start(&store, tasks);
        store.birthdays.start(&store, tasks);
        Ok(store)
    }

    /// Brings the schema up to date, or waits until somebody else has.
    pub(crate) async fn prepare_schema(&self) -> Result<(), SchemaError> {
        let settings = &self.settings;
        let patience = settings.startup_timeout;
        schema::prepare(&self.primary, &self.connector, settings.migrate, patience).await?;
        self.has_schema.send_replace(true);
        // Tools wait for exactly this message.
        info!(target: ALWAYS_LOGGED, "SchemaUpToDate");
        Ok(())
    }

    /// Returns what is known about the database, without asking it.
    pub(crate) fn state(&self) -> State {
        let (role, writable) = match self.primary.view() {
            View::Known(_) => ("primary", true),
            View::Reading(known) if known.answer.timeline.is_some() => ("primary", false),
            View::Reading(_) | View::Searching { read_only: true } => ("standby", false),
            View::Suspected(_) | View::Searching { read_only: false } => ("unknown", false),
        };
        State {
            role,
            writable,
            away_for: self.primary.away_for(),
            has_schema: *self.has_schema.borrow(),
        }
    }

    /// Returns the era of the data, which changes when acknowledged rows may have been lost: with each
    /// run of a server that becomes the primary. Empty until the first has been found.
    pub(crate) fn era(&self) -> watch::Receiver<String> {
        self.primary.era()
    }

    /// Returns how old the rows can be that are read now, if they are a standby's.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.primary.staleness()
    }

    /// Brings the metrics that are only read now and then up to date.
    pub(crate) fn report(&self) {
        let (mut idle, mut lent) = (0, 0);
        for pool in self.own_pools() {
            let (open, others) = pool.count();
            (idle, lent) = (idle + open, lent + others);
        }
        let (shared, _others) = self.shared.count();
        for (state, count) in [("idle", idle), ("lent", lent), ("shared", shared)] {
            let connections = self.metrics.db_pool_connections.with_label_values(&[state]);
            connections.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Closes the connections, and opens no more.
    pub(crate) fn close(&self) {
        self.shared.close();
        self.own_pools().for_each(Pool::close);
    }

    fn own_pools(&self) -> impl Iterator<Item = &Pool> {
        // The three are one where there are too few connections.
        let is_one = Arc::ptr_eq(&self.lists, &self.puts);
        let pools = [&self.lists, &self.creates, &self.puts];
        pools
            .into_iter()
            .take(if is_one { 1 } else { 3 })
            .map(|it| &**it)
    }

    /// Runs a statement until it has an answer or `deadline` has come.
    async fn run(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Unavailable> {
        let mut longest_pause = FIRST_PAUSE;
        loop {
            match self.attempt(query, params, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => {
                    let pause = self.pause(query, &failure, &mut longest_pause, deadline);
                    pause.await?;
                }
            }
        }
    }

    /// Returns when it is time for another try, or what to tell the caller if there is to be none.
    async fn pause(
        &self,
        query: &Query,
        failure: &Failure,
        longest: &mut Duration,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let reason = self.judge(query, failure)?;
        let pause = longest.mul_f64(rand::random_range(0.0..1.0));
        *longest = LONGEST_PAUSE.min(*longest * 2);
        if Instant::now() + pause >= deadline {
            return Err(unavailable(failure));
        }
        self.metrics.db_retries.with_label_values(&[reason]).inc();
        time::sleep(pause).await;
        Ok(())
    }

    /// Runs a statement once, and a read once more elsewhere if it has no answer soon.
    async fn attempt(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        self.wait_for_schema(deadline).await?;
        let pool = match query.lane {
            Lane::Shared => &self.shared,
            Lane::Lists => &self.lists,
            Lane::Creates => &self.creates,
            Lane::Birthdays => &self.puts,
        };
        let first = self.attempt_on(pool, query, params, deadline);
        let attempted = if query.effect == Effect::Reads {
            self.hedge(first, query, params, deadline).await
        } else {
            first.await
        };
        if let Err(failure) = &attempted {
            let class = failure.sqlstate_class();
            self.metrics.db_errors.with_label_values(&[class]).inc();
        }
        attempted
    }

    async fn hedge(
        &self,
        first: impl Future<Output = Result<Vec<Row>, Failure>>,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let mut first = pin!(first);
        if let Ok(answered) = time::timeout(HEDGE_AFTER, &mut first).await {
            return answered;
        }
        let second = Box::pin(async {
            let _hedge = query.hedges.acquire().await;
            loop {
                self.metrics.db_retries.with_label_values(&["hedge"]).inc();
                let attempted = self.attempt_on(&self.lists, query, params, deadline).await;
                if let Ok(rows) = attempted {
                    break rows;
                }
                time::sleep(HEDGE_AFTER).await;
            }
        });
        tokio::select! {
            answered = &mut first => answered,
            rows = second => Ok(rows),
        }
    }

    async fn attempt_on(
        &self,
        pool: &Arc<Pool>,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let (connection, _lock_turn) = acquire(pool, query, deadline).await?;
        let answer = {
            let mut answer = pin!(self.answer(&connection.opened, query, params, deadline));
            if let Ok(answer) = time::timeout(HEDGE_AFTER, &mut answer).await {
                answer
            } else {
                connection.suspect(self.settings.statement_timeout + ANSWER_GRACE);
                answer.await
            }
        };
        let is_locked = answer.as_ref().is_err_and(Failure::is_lock_timeout);
        // A batch has rows of its own that are locked, and the others are written beside them.
        let is_locked = is_locked && query.lane != Lane::Birthdays;
        query.is_locked.store(is_locked, Ordering::Relaxed);
        match answer.as_ref().map_err(Failure::meaning) {
            Err(_) if matches!(answer, Err(Failure::OutOfTime(_))) => drop(connection),
            Err(Meaning::ServerSilent) => drop(connection),
            Ok(_) | Err(Meaning::Passing | Meaning::Final | Meaning::Bug) => connection.release(),
            Err(Meaning::ServerLost | Meaning::ServerReadOnly | Meaning::ConnectionSpent) => {
                connection.close();
            }
        }
        answer
    }

    /// Returns what the server answers on this connection; if it should be left, it is.
    async fn answer(
        &self,
        opened: &PrimaryConnection,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let connection = &opened.connection;
        let began = Instant::now();
        let silent_at = began + self.settings.statement_timeout + ANSWER_GRACE;
        let running = connection.run(query, params);
        let answered = time::timeout_at(deadline.min(silent_at), running).await;
        let took = began.elapsed();
        self.metrics
            .db_query_duration
            .with_label_values(&[query.name])
            .observe(took.as_secs_f64());
        let failure = match answered {
            Ok(Ok(_)) if query.effect == Effect::Writes && connection.has_warned() => {
                Failure::Unreplicated
            }
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) if error.code().is_none() && connection.was_ended() => Failure::Ended,
            Ok(Err(error)) => Failure::Statement(error),
            Err(_elapsed) if deadline < silent_at => Failure::OutOfTime(took),
            Err(_elapsed) => Failure::Unanswered(took),
        };
        self.primary.heed(opened.generation, &failure);
        Err(failure)
    }

    async fn wait_for_schema(&self, deadline: Instant) -> Result<(), Failure> {
        let mut has_schema = self.has_schema.subscribe();
        let waited = time::timeout_at(deadline, has_schema.wait_for(|it| *it)).await;
        matches!(waited, Ok(Ok(_)))
            .then_some(())
            .ok_or(Failure::NoSchema)
    }

    /// Returns why a failure is worth another try, or what to tell the caller.
    fn judge(&self, query: &Query, failure: &Failure) -> Result<&'static str, Unavailable> {
        if query.effect == Effect::Writes && failure.is_unknown_outcome() {
            self.metrics.db_commit_unknown.inc();
        }
        let text = ha_runtime::telemetry::chain(failure);
        debug!(stmt = query.name, error = text, "statement failed");
        if let Some(name) = failure.constraint() {
            return Err(Unavailable::Constraint(name.to_owned()));
        }
        match failure.meaning() {
            Meaning::ServerLost => Ok("server-lost"),
            Meaning::ServerReadOnly => Ok("read-only"),
            Meaning::ServerSilent => Ok("server-silent"),
            Meaning::ConnectionSpent => Ok("connection-spent"),
            Meaning::Passing => Ok("passing"),
            Meaning::Final => Err(unavailable(failure)),
            Meaning::Bug => {
                error!(stmt = query.name, error = text, "statement is wrong");
                Err(Unavailable::Bug)
            }
        }
    }
}

/// Acquires a connection; alone, if the statement waited for a lock last.
async fn acquire(
    pool: &Arc<Pool>,
    query: &'static Query,
    deadline: Instant,
) -> Result<(PooledConnection, Option<SemaphorePermit<'static>>), Failure> {
    let mut turn = None;
    loop {
        let connection = pool.acquire(query.effect, deadline).await?;
        if turn.is_some() || !query.is_locked.load(Ordering::Relaxed) {
            return Ok((connection, turn));
        }
        connection.release();
        let waited = time::timeout_at(deadline, query.lock_turn.acquire()).await;
        turn = waited.map_err(|_elapsed| Failure::PoolExhausted)?.ok();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads every row.
fn read_all<T>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, Unavailable> {
    let all: Result<Vec<T>, _> = rows.iter().map(read).collect();
    all.map_err(|error| unreadable(&error))
}

fn unreadable(error: &tokio_postgres::Error) -> Unavailable {
    error!(%error, "a row could not be read");
    Unavailable::Bug
}

fn unavailable(failure: &Failure) -> Unavailable {
    let is_read_only = matches!(failure, Failure::NoPrimary { read_only: true });
    if is_read_only || failure.meaning() == Meaning::ServerReadOnly {
        Unavailable::ReadOnly
    } else if matches!(failure, Failure::PoolExhausted) {
        Unavailable::Busy
    } else {
        Unavailable::Away
    }
}
