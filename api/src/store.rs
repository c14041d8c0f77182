//! The only module that speaks SQL.
//!
//! A statement of a request is tried again until its budget is spent, wherever the primary is by
//! then. That is safe because each of them may be repeated: see [`queries::Effect`].

mod connect;
mod failure;
mod pool;
mod primary;
mod queries;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use ha_runtime::postgres::TlsError;
use ha_runtime::shutdown::Tasks;
use jiff::civil::Date;
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::{debug, error, info};

use self::connect::Connector;
use self::failure::{Failure, Meaning};
use self::pool::Pool;
use self::primary::{Primary, View};
use self::queries::{Effect, Query};
pub use self::schema::SchemaError;
use crate::config::{Case, Database};
use crate::domain::Username;
use crate::metrics::Metrics;

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
    pool: Pool,
    connector: Connector,
    metrics: Metrics,
    settings: Arc<Database>,
    has_schema: Arc<watch::Sender<bool>>,
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
        let primary = Primary::start(
            settings.servers.clone(),
            connector.clone(),
            metrics.clone(),
            tasks,
        );
        let pool = Pool::new(
            settings.pool_max,
            connector.clone(),
            primary.clone(),
            metrics.clone(),
        );
        Ok(Self {
            primary,
            pool,
            connector,
            metrics,
            settings: Arc::new(settings),
            has_schema: Arc::new(watch::Sender::new(false)),
        })
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
        info!("SchemaUpToDate");
        Ok(())
    }

    /// Returns what is known about the database, without asking it.
    pub fn state(&self) -> State {
        let (role, writable) = match self.primary.view() {
            View::Known(_) => ("primary", true),
            View::Searching { read_only: true } => ("standby", false),
            View::Suspected(_) | View::Searching { read_only: false } => ("unknown", false),
        };
        State {
            role,
            writable,
            away_for: self.primary.away_for(),
            has_schema: *self.has_schema.borrow(),
        }
    }

    /// Brings the metrics that are only read now and then up to date.
    pub fn report(&self) {
        self.pool.report();
    }

    /// Closes the connections. Nothing is lent afterwards.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Returns when a person was born, or `None` for a stranger.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`.
    pub async fn date_of_birth(
        &self,
        username: &Username,
        case: Case,
        deadline: Instant,
    ) -> Result<Option<Date>, Unavailable> {
        let (query, name) = match case {
            Case::Sensitive => (&queries::HELLO_GET, username.clone()),
            Case::Insensitive => (&queries::HELLO_GET_ANY_CASE, username.folded()),
        };
        let rows = self.run(query, &[&name.as_str()], deadline).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let unreadable = |error: tokio_postgres::Error| {
            error!(%error, "a date of birth could not be read");
            Unavailable::Bug
        };
        row.try_get(0).map(Some).map_err(unreadable)
    }

    /// Stores when a person was born. When this returns, it has been committed.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`; it may or may not be stored then.
    pub async fn remember(
        &self,
        username: &Username,
        case: Case,
        date_of_birth: Date,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let name = match case {
            Case::Sensitive => username.clone(),
            Case::Insensitive => username.folded(),
        };
        let params: [&(dyn ToSql + Sync); 2] = [&name.as_str(), &date_of_birth];
        self.run(&queries::HELLO_PUT, &params, deadline).await?;
        Ok(())
    }

    /// Runs a statement until it has an answer or `deadline` has come.
    async fn run(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Unavailable> {
        let mut ceiling = FIRST_PAUSE;
        loop {
            let failure = match self.attempt(query, params, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            let reason = self.judge(query, &failure)?;
            let pause = ceiling.mul_f64(rand::random_range(0.0..1.0));
            ceiling = LONGEST_PAUSE.min(ceiling * 2);
            if Instant::now() + pause >= deadline {
                return Err(unavailable(&failure));
            }
            self.metrics.db_retries.with_label_values(&[reason]).inc();
            time::sleep(pause).await;
        }
    }

    /// Runs a statement once.
    async fn attempt(
        &self,
        query: &'static Query,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        self.wait_for_schema(deadline).await?;
        let loan = self.pool.lend(deadline).await?;
        let began = Instant::now();
        let until = deadline.min(began + self.settings.statement_timeout + ANSWER_GRACE);
        let answered = time::timeout_at(until, loan.connection().run(query, params)).await;
        let took = began.elapsed();
        self.metrics
            .db_query_duration
            .with_label_values(&[query.name])
            .observe(took.as_secs_f64());
        let failure = match answered {
            Ok(Ok(rows)) => {
                loan.give_back();
                return Ok(rows);
            }
            Ok(Err(error)) => Failure::Statement(error),
            Err(_elapsed) => Failure::Unanswered(took),
        };
        let meaning = failure.meaning();
        self.primary.heed(loan.generation(), meaning);
        match meaning {
            Meaning::ServerSilent => loan.abandon(query.effect),
            Meaning::Passing | Meaning::Final | Meaning::Bug => loan.give_back(),
            Meaning::ServerLost | Meaning::ServerReadOnly | Meaning::ConnectionSpent => drop(loan),
        }
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

    /// Counts a failure, and returns why it is worth another try, or what to tell the caller.
    fn judge(&self, query: &Query, failure: &Failure) -> Result<&'static str, Unavailable> {
        let class = failure.sqlstate_class();
        self.metrics.db_errors.with_label_values(&[class]).inc();
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

fn unavailable(failure: &Failure) -> Unavailable {
    match failure {
        Failure::ReadOnly | Failure::NoPrimary { read_only: true } => Unavailable::ReadOnly,
        Failure::PoolExhausted => Unavailable::Busy,
        Failure::Statement(_) if failure.meaning() == Meaning::ServerReadOnly => {
            Unavailable::ReadOnly
        }
        Failure::Statement(_)
        | Failure::Connect(_)
        | Failure::Unanswered(_)
        | Failure::NoPrimary { read_only: false }
        | Failure::NoSchema => Unavailable::Away,
    }
}
