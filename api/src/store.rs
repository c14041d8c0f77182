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
pub(crate) mod birthdays;
mod connect;
mod connection;
mod ended_sessions;
mod execute;
pub(crate) mod lists;
mod lock;
mod pool;
mod primary;
mod primary_monitor;
mod queries;
mod query_error;
mod requests;
mod rows;
mod schema;
mod server_clock;

use std::sync::Arc;
use std::time::Duration;

use causeway_runtime::postgres::TlsError;
use causeway_runtime::shutdown::Tasks;
use tokio::sync::watch;
use tracing::info;

use self::connect::Connector;
use self::pool::Pool;
use self::primary::{Primary, PrimaryState};
use self::primary_monitor::PrimaryMonitor;
pub use self::query_error::DatabaseError;
pub use self::schema::SchemaError;
use crate::config::Database;
use crate::metrics::Metrics;

/// The target of events that are logged at every level.
pub const ALWAYS_LOGGED: &str = "always";

/// The time beyond `statement_timeout` in which a healthy server reports that timeout.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// The data, wherever the primary is.
#[derive(Clone, Debug)]
pub struct Store {
    primary: Primary,
    pipelined: Arc<Pool>,
    lists: Arc<Pool>,
    creates: Arc<Pool>,
    birthdays: Arc<Pool>,
    connector: Connector,
    metrics: Metrics,
    has_schema: Arc<watch::Sender<bool>>,
    /// The time for the answer to a statement, after which the server is frozen or cut off.
    answer_timeout: Duration,
}

/// The state of the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    /// `primary`, `standby`, or `unknown` when no server answers.
    pub(crate) role: &'static str,
    pub(crate) writable: bool,
    /// The time since it last accepted writes.
    pub(crate) away_for: Duration,
    /// Whether the schema is up to date.
    pub(crate) has_schema: bool,
}

impl Store {
    /// Starts looking for the primary. No connection is handed out before [`Store::prepare_schema`] is done.
    pub(crate) fn start(
        settings: &Database,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, TlsError> {
        let connector = Connector::new(settings, tasks.clone())?;
        let primary = PrimaryMonitor::start(settings, connector.clone(), metrics.clone(), tasks);
        let ended = ended_sessions::start(primary.clone(), tasks);
        let pool = |size, shared, connector| {
            let (primary, metrics) = (primary.clone(), metrics.clone());
            Pool::new((size, shared), connector, primary, metrics, ended.clone())
        };
        let exclusive = |size| pool(size, false, connector.clone());
        let [lists, creates, birthdays] = match settings.pool_max {
            // Too few for each kind to have its own.
            few @ 0..3 => [&exclusive(few); 3].map(Arc::clone),
            all => {
                let (lists, creates) = (1.max(all / 5), all / 2);
                let reads = pool(lists, false, connector.for_reads());
                [reads, exclusive(creates), exclusive(all - lists - creates)]
            }
        };
        Ok(Self {
            pipelined: pool(settings.shared_connections, true, connector.for_reads()),
            lists,
            creates,
            birthdays,
            primary,
            connector,
            metrics,
            has_schema: Arc::new(watch::Sender::new(false)),
            answer_timeout: settings.statement_timeout + ANSWER_GRACE,
        })
    }

    /// Brings the schema up to date, or waits until another program has.
    pub(crate) async fn prepare_schema(&self, settings: &Database) -> Result<(), SchemaError> {
        schema::prepare(&self.primary, &self.connector, settings).await?;
        self.has_schema.send_replace(true);
        // Tools wait for exactly this message.
        info!(target: ALWAYS_LOGGED, "SchemaUpToDate");
        Ok(())
    }

    /// Returns the state of the database, without a query.
    pub(crate) fn state(&self) -> State {
        let (role, writable) = match self.primary.view() {
            PrimaryState::Available(_) => ("primary", true),
            PrimaryState::Reading(_) => ("primary", false),
            PrimaryState::Searching { read_only: true } => ("standby", false),
            PrimaryState::Suspected(_) | PrimaryState::Searching { read_only: false } => {
                ("unknown", false)
            }
        };
        State {
            role,
            writable,
            away_for: self.primary.absent_for(),
            has_schema: *self.has_schema.borrow(),
        }
    }

    /// Returns the era of the data, which changes when acknowledged rows may have been lost: with each
    /// run of a server that becomes the primary. Empty until the first has been found.
    pub(crate) fn era(&self) -> watch::Receiver<String> {
        self.primary.era.subscribe()
    }

    /// Brings the metrics of the connections up to date.
    pub(crate) fn report(&self) {
        let (mut idle, mut in_use) = (0, 0);
        for pool in self.exclusive_pools() {
            let (open, others) = pool.count();
            (idle, in_use) = (idle + open, in_use + others);
        }
        let (shared, _others) = self.pipelined.count();
        for (state, count) in [("idle", idle), ("in_use", in_use), ("shared", shared)] {
            let connections = self.metrics.db_pool_connections.with_label_values(&[state]);
            connections.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Closes the connections, and opens no more.
    pub(crate) fn close(&self) {
        self.pipelined.close();
        self.exclusive_pools().iter().for_each(|pool| pool.close());
    }

    fn exclusive_pools(&self) -> Vec<&Arc<Pool>> {
        let mut pools = vec![&self.lists, &self.creates, &self.birthdays];
        // The three are one where there are too few connections.
        pools.dedup_by(|one, other| Arc::ptr_eq(one, other));
        pools
    }
}
