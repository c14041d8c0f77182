//! The only module that speaks SQL.
//!
//! A statement of a request is tried again until its budget is spent, wherever the primary is by
//! then. That is safe because each of them may be repeated: see [`queries::Effect`].
//!
//! Short reads share a few connections, since each waits for the server and not for a disk. Each kind
//! of what takes longer has connections of its own ([`queries::ConnectionKind`]). A read that has no answer soon is
//! sent again on another. Greetings, which are most of the work, are batched: those that come at the
//! same time go in one statement.

mod batcher;
mod connect;
mod connection;
mod ended_sessions;
mod executor;
mod hello;
mod lists;
mod pool;
mod primary;
mod primary_monitor;
mod queries;
mod query_error;
mod requests;
mod rows;
mod schema;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use causeway_runtime::postgres::TlsError;
use causeway_runtime::shutdown::Tasks;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Row;
use tracing::{error, info};

use self::batcher::Batcher;
pub(crate) use self::batcher::LEAST_TIME;
use self::connect::Connector;
use self::ended_sessions::EndedSessions;
use self::hello::{Birthday, Name, ServerClock};
pub(crate) use self::lists::{Listed, Rows};
use self::pool::Pool;
use self::primary::{Primary, PrimaryState};
pub use self::requests::NotStored;
pub use self::schema::SchemaError;
use crate::config::Database;
use crate::metrics::Metrics;

/// The target of what is logged at every level.
pub const ALWAYS_LOGGED: &str = "always";

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
    /// Starts looking for the primary. No connection is handed out before [`Store::prepare_schema`] is done.
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
            PrimaryState::Available(_) => ("primary", true),
            PrimaryState::Reading(known) if known.answer.timeline.is_some() => ("primary", false),
            PrimaryState::Reading(_) | PrimaryState::Searching { read_only: true } => {
                ("standby", false)
            }
            PrimaryState::Suspected(_) | PrimaryState::Searching { read_only: false } => {
                ("unknown", false)
            }
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
        self.primary.era.subscribe()
    }

    /// Returns how old the rows can be that are read now, if they are a standby's.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.primary.staleness()
    }

    /// Brings the metrics that are only read now and then up to date.
    pub(crate) fn report(&self) {
        let (mut idle, mut in_use) = (0, 0);
        for pool in self.own_pools() {
            let (open, others) = pool.count();
            (idle, in_use) = (idle + open, in_use + others);
        }
        let (shared, _others) = self.shared.count();
        for (state, count) in [("idle", idle), ("in_use", in_use), ("shared", shared)] {
            let connections = self.metrics.db_pool_connections.with_label_values(&[state]);
            connections.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Closes the connections, and opens no more.
    pub(crate) fn close(&self) {
        self.shared.close();
        self.own_pools().into_iter().for_each(|it| it.close());
    }

    fn own_pools(&self) -> Vec<&Arc<Pool>> {
        let mut pools = vec![&self.lists, &self.creates, &self.puts];
        // The three are one where there are too few connections.
        pools.dedup_by(|one, other| Arc::ptr_eq(one, other));
        pools
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
