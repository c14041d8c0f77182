//! The only module that speaks SQL.
//!
//! A statement of a request is tried again until its budget is spent, wherever the primary is by
//! then. That is safe because each of them may be repeated: see [`queries::Effect`].
//!
//! There are two lanes. Short reads share a few connections, since each waits for the server and not
//! for a disk. Writes, and whatever takes long, have connections of their own. Greetings, which are
//! most of the work, are gathered: those that come at the same time go in one statement.

mod beers;
mod connect;
mod failure;
mod gather;
mod hello;
mod keeper;
mod members;
mod opened;
mod pool;
mod primary;
mod queries;
mod requests;
mod schema;
mod shared;
mod users;

use std::sync::Arc;
use std::time::Duration;

use ha_runtime::postgres::TlsError;
use ha_runtime::shutdown::Tasks;
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::{debug, error, info};

use self::connect::Connector;
use self::failure::{Failure, Meaning};
use self::gather::Gather;
use self::hello::{Birthday, Name};
use self::opened::Opened;
use self::pool::Pool;
use self::primary::{Primary, View};
use self::queries::{Effect, Lane, Query};
pub use self::requests::NotStored;
pub use self::schema::SchemaError;
use self::shared::SharedConnections;
use crate::config::Database;
use crate::metrics::Metrics;
use crate::trace;

/// The target of what is logged at every level.
pub const ALWAYS_LOGGED: &str = "always";
/// The first pause before another try is drawn from nothing to this.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// No pause is longer than this. Whoever waits for a primary is woken sooner, when there is one.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// The server ends a statement by itself after its own timeout; one that has not said so this much
/// later is frozen or cut off.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// The data, wherever the primary is.
#[derive(Clone, Debug)]
pub struct Store {
    primary: Primary,
    shared: SharedConnections,
    pool: Pool,
    connector: Connector,
    metrics: Metrics,
    settings: Arc<Database>,
    has_schema: Arc<watch::Sender<bool>>,
    names: Gather<Name>,
    birthdays: Gather<Birthday>,
}

/// Why there is no answer from the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No server answers, or none in time.
    Away,
    /// Servers answer, but none accepts writes.
    ReadOnly,
    /// Every connection is in use, and has been for too long.
    Busy,
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
    ///
    /// # Errors
    ///
    /// [`TlsError`] when the trusted authorities cannot be read.
    pub fn start(settings: Database, metrics: Metrics, tasks: &Tasks) -> Result<Self, TlsError> {
        let connector = Connector::new(&settings, tasks.clone())?;
        let primary = Primary::start(&settings, connector.clone(), metrics.clone(), tasks);
        let (names, asked) = Gather::new();
        let (birthdays, given) = Gather::new();
        let store = Self {
            shared: SharedConnections::new(
                settings.shared_connections,
                connector.for_sharing(),
                primary.clone(),
            ),
            pool: Pool::new(
                settings.pool_max,
                connector.clone(),
                primary.clone(),
                metrics.clone(),
            ),
            primary,
            connector,
            metrics,
            settings: Arc::new(settings),
            has_schema: Arc::new(watch::Sender::new(false)),
            names,
            birthdays,
        };
        gather::start(&asked, &store, tasks);
        gather::start(&given, &store, tasks);
        Ok(store)
    }

    /// Brings the schema up to date, or waits until somebody else has.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] when the database stays away, refuses, or has another history.
    pub async fn prepare_schema(&self) -> Result<(), SchemaError> {
        let settings = &self.settings;
        let patience = settings.startup_timeout;
        schema::prepare(&self.primary, &self.connector, settings.migrate, patience).await?;
        self.has_schema.send_replace(true);
        // Tools wait for exactly this message.
        info!(target: ALWAYS_LOGGED, "SchemaUpToDate");
        Ok(())
    }

    /// Returns what is known about the database, without asking it.
    pub fn state(&self) -> State {
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
    pub fn era(&self) -> watch::Receiver<String> {
        self.primary.era()
    }

    /// Returns how old the rows can be that are read now, if they are a standby's.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.primary.staleness()
    }

    /// Brings the metrics that are only read now and then up to date.
    pub fn report(&self) {
        self.pool.report();
        let shared = i64::try_from(self.shared.open()).unwrap_or(i64::MAX);
        let connections = &self.metrics.db_pool_connections;
        connections.with_label_values(&["shared"]).set(shared);
    }

    /// Closes the connections. Nothing is lent afterwards.
    pub fn close(&self) {
        self.shared.close();
        self.pool.close();
    }

    /// Runs a statement until it has an answer or `deadline` has come.
    async fn run(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Unavailable> {
        let mut patience = Patience::new(query, deadline);
        loop {
            match self.attempt(query, params, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => self.pause(&mut patience, &failure).await?,
            }
        }
    }

    /// Returns when it is time for another try, or what to tell the caller if there is to be none.
    async fn pause(&self, patience: &mut Patience, failure: &Failure) -> Result<(), Unavailable> {
        let reason = self.judge(patience.query, failure)?;
        let pause = patience.next_pause();
        if Instant::now() + pause >= patience.deadline {
            return Err(unavailable(failure));
        }
        self.metrics.db_retries.with_label_values(&[reason]).inc();
        time::sleep(pause).await;
        Ok(())
    }

    /// Runs a statement once.
    async fn attempt(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let mut span = trace::statement(query.name);
        self.wait_for_schema(deadline).await?;
        let attempted = match query.lane {
            Lane::Shared => self.attempt_shared(query, params, deadline).await,
            Lane::Own => self.attempt_alone(query, params, deadline).await,
        };
        if let Err(failure) = &attempted {
            let class = failure.sqlstate_class();
            self.metrics.db_errors.with_label_values(&[class]).inc();
            span.failed(class);
        }
        attempted
    }

    async fn attempt_shared(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let opened = self.shared.lend(query.effect, deadline).await?;
        let failure = match self.answer(&opened, query, params, deadline).await {
            Ok(rows) => return Ok(rows),
            Err(failure) => failure,
        };
        match failure.meaning() {
            Meaning::ServerSilent => self.connector.abandon(&opened.connection, query.effect),
            Meaning::ConnectionSpent => opened.connection.end(),
            Meaning::Passing
            | Meaning::Final
            | Meaning::Bug
            | Meaning::ServerLost
            | Meaning::ServerReadOnly => {}
        }
        Err(failure)
    }

    async fn attempt_alone(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let loan = self.pool.lend(query.effect, deadline).await?;
        let answer = self.answer(loan.opened(), query, params, deadline).await;
        if let Err(Failure::OutOfTime(_)) = answer {
            loan.leave(query.effect, self.settings.statement_timeout + ANSWER_GRACE);
            return answer;
        }
        match answer.as_ref().map_err(Failure::meaning) {
            Ok(_) | Err(Meaning::Passing | Meaning::Final | Meaning::Bug) => loan.give_back(),
            Err(Meaning::ServerSilent) => loan.abandon(query.effect),
            Err(Meaning::ServerLost | Meaning::ServerReadOnly | Meaning::ConnectionSpent) => {
                drop(loan);
            }
        }
        answer
    }

    /// Returns what the server answers on this connection; if it should be left, it is.
    async fn answer(
        &self,
        opened: &Opened,
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
        let waiting = has_schema.wait_for(|it| *it);
        match time::timeout_at(deadline, waiting).await {
            Ok(Ok(_true)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::NoSchema),
        }
    }

    /// Returns why a failure is worth another try, or what to tell the caller.
    fn judge(&self, query: &Query, failure: &Failure) -> Result<&'static str, Unavailable> {
        if query.effect == Effect::Writes && failure.is_unknown_outcome() {
            self.metrics.db_commit_unknown.inc();
        }
        let text = ha_runtime::telemetry::chain(failure);
        debug!(stmt = query.name, error = text, "statement failed");
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

/// How long one request goes on trying.
#[derive(Debug)]
struct Patience {
    query: &'static Query,
    deadline: Instant,
    longest_pause: Duration,
}

impl Patience {
    fn new(query: &'static Query, deadline: Instant) -> Self {
        Self {
            query,
            deadline,
            longest_pause: FIRST_PAUSE,
        }
    }

    /// Returns a pause drawn from nothing to a ceiling, which doubles.
    fn next_pause(&mut self) -> Duration {
        let pause = self.longest_pause.mul_f64(rand::random_range(0.0..1.0));
        self.longest_pause = LONGEST_PAUSE.min(self.longest_pause * 2);
        pause
    }
}

/// Reads every row.
fn read_all<T>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, Unavailable> {
    let all: Result<Vec<T>, _> = rows.iter().map(read).collect();
    all.map_err(|error| {
        error!(%error, "a row could not be read");
        Unavailable::Bug
    })
}

fn unavailable(failure: &Failure) -> Unavailable {
    match failure {
        Failure::ReadOnly | Failure::NoPrimary { read_only: true } => Unavailable::ReadOnly,
        Failure::PoolExhausted => Unavailable::Busy,
        Failure::Statement(_) if failure.meaning() == Meaning::ServerReadOnly => {
            Unavailable::ReadOnly
        }
        Failure::Statement(_)
        | Failure::Unreadable(_)
        | Failure::Connect(_)
        | Failure::Unanswered(_)
        | Failure::OutOfTime(_)
        | Failure::Ended
        | Failure::Replaced
        | Failure::OtherSystem(..)
        | Failure::OldTimeline(..)
        | Failure::Unreplicated
        | Failure::NoPrimary { read_only: false }
        | Failure::NoSchema => Unavailable::Away,
    }
}
