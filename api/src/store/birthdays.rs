//! People and their birthdays, which are read and stored in batches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use causeway_runtime::shutdown::Tasks;
use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::Store;
pub(crate) use super::batcher::LEAST_TIME;
use super::batcher::{BatchRunner, Batcher};
use super::lock::lock;
use super::queries::{self, Effect, Query};
use super::query_error::{DatabaseError, QueryError, read, read_all};
use super::server_clock::ServerClock;
use crate::domain::Username;

/// The most reads of the clock for one batch.
const CLOCK_READS: usize = 4;

/// Reads and writes dates of birth.
#[derive(Debug)]
pub(crate) struct Birthdays {
    store: Store,
    reads: Arc<Batcher<BirthdayReader>>,
    writes: Arc<Batcher<BirthdayWriter>>,
}

impl Birthdays {
    pub(crate) fn start(store: &Store, tasks: &Tasks) -> Self {
        let writer = BirthdayWriter {
            store: store.clone(),
            clock: Mutex::default(),
            unsettled_until: Mutex::new(Instant::now()),
        };
        Self {
            reads: Batcher::start(BirthdayReader(store.clone()), &store.primary, tasks),
            writes: Batcher::start(writer, &store.primary, tasks),
            store: store.clone(),
        }
    }

    /// Returns the date of birth of a person, if it is stored, under this name or any spelling of it.
    pub(crate) async fn date_of_birth(
        &self,
        username: &Username,
        any_case: bool,
        deadline: Instant,
    ) -> Result<Option<Date>, DatabaseError> {
        if any_case {
            let name = username.folded();
            let query = &queries::HELLO_GET_ANY_CASE;
            let rows = self.store.run(query, &[&name.as_str()], deadline).await?;
            return Ok(read_all(&rows, |row| row.try_get(0))?.into_iter().next());
        }
        let query = BirthdayReader::QUERY;
        let read = || self.reads.submit(username.clone(), deadline);
        self.store.retry(query, deadline, read).await
    }

    /// Stores the date of birth of a person. On success it is committed. After [`DatabaseError`] it may have
    /// been, but will not be after a later write is acknowledged.
    pub(crate) async fn put_date_of_birth(
        &self,
        username: Username,
        date_of_birth: Date,
        deadline: Instant,
    ) -> Result<(), DatabaseError> {
        let arrived = Instant::now();
        let query = BirthdayWriter::QUERY;
        let read_clock = || self.writes.runner.server_clock(deadline);
        // One for all attempts: a later attempt must not replace a date that was stored since.
        let clock = self.store.retry(query, deadline, read_clock).await?;
        let mut since = clock.shown;
        let rewrite = AtomicBool::new(false);
        loop {
            let write = async || {
                let birthday = Birthday {
                    username: username.clone(),
                    date_of_birth,
                    arrived,
                    since,
                    rewrite: rewrite.load(Ordering::Relaxed),
                };
                let written = self.writes.submit(birthday, deadline).await;
                written.inspect_err(|error| {
                    rewrite.fetch_or(error.is_unknown_outcome(), Ordering::Relaxed);
                })
            };
            match self.store.retry(query, deadline, write).await? {
                PutOutcome::Stored => return Ok(()),
                PutOutcome::Rejected { since: newer } => since = newer,
            }
        }
    }
}

/// Reads batches of dates of birth.
#[derive(Debug)]
struct BirthdayReader(Store);

/// Writes batches of dates of birth.
#[derive(Debug)]
struct BirthdayWriter {
    store: Store,
    clock: Mutex<Option<ServerClock>>,
    /// The time until which an attempt of unknown outcome may still be committed.
    unsettled_until: Mutex<Instant>,
}

/// A request to store a date of birth.
#[derive(Clone, Debug)]
struct Birthday {
    username: Username,
    date_of_birth: Date,
    arrived: Instant,
    /// A time on the server's clock before the request. A date that was stored after it is not replaced.
    since: Timestamp,
    /// Whether to write the date even if it is stored: an earlier attempt may have been committed on a
    /// primary that stopped before its standby had it.
    rewrite: bool,
}

/// The names that a statement rejected, each with the stored date and its time.
type Rejected<'a> = BTreeMap<&'a str, Option<(Date, Timestamp)>>;

/// The outcome of a request.
#[derive(Clone, Copy, Debug)]
enum PutOutcome {
    Stored,
    /// The statement was late, or a date was stored after `since`; the next attempt replaces one of that time.
    Rejected {
        since: Timestamp,
    },
}

impl Birthday {
    /// Returns the outcome where the statement stored nothing, but found `stored`.
    fn outcome(&self, stored: Option<(Date, Timestamp)>, clock: &ServerClock) -> PutOutcome {
        let since = self.since;
        match stored {
            Some((date, at)) if at > since => {
                // If the clock was set back, the stored time may be in its future.
                let is_past = at <= clock.latest_at(Instant::now());
                let is_newer = !clock.was_set_back && is_past && at > clock.latest_at(self.arrived);
                // Another request has stored its date meanwhile, as if just after this one.
                if is_newer && !(self.rewrite && date == self.date_of_birth) {
                    return PutOutcome::Stored;
                }
                PutOutcome::Rejected { since: at }
            }
            _ => PutOutcome::Rejected { since },
        }
    }
}

impl BatchRunner for BirthdayReader {
    const QUERY: &'static Query = &queries::HELLO_GET;
    /// One waits for the server while another is built; more would only be smaller.
    const STATEMENTS: usize = 2;

    type Item = Username;
    type Answer = Option<Date>;

    fn row(_: &Username) -> Option<&str> {
        None
    }

    async fn run(
        &self,
        items: Vec<&Username>,
        _first_ends: Instant,
        deadline: Instant,
    ) -> Result<Vec<Option<Date>>, QueryError> {
        let names: Vec<&str> = items.iter().map(|name| name.as_str()).collect();
        let rows = self.0.attempt(Self::QUERY, &[&names], deadline).await?;
        let found = rows.iter().map(|row| Ok((read(row, 0)?, read(row, 1)?)));
        let found: BTreeMap<&str, Date> = found.collect::<Result<_, QueryError>>()?;
        Ok(names.iter().map(|name| found.get(name).copied()).collect())
    }
}

impl BirthdayWriter {
    /// Returns the clock of the primary, as it was last read: with every write, and otherwise by a statement
    /// of its own. A clock that was set forward makes the writes under way late, and each of those reads it.
    async fn server_clock(&self, deadline: Instant) -> Result<ServerClock, QueryError> {
        let primary = self.store.primary.server_for(Effect::Writes, deadline);
        let generation = primary.await?.generation;
        if let Some(clock) = *lock(&self.clock)
            && clock.generation == generation
        {
            return Ok(clock);
        }
        let asked_at = Instant::now();
        let shown = self.read_server_clock(deadline).await?;
        let mut clock = ServerClock::new(generation, shown, asked_at);
        let mut known = lock(&self.clock);
        clock.shown = known.map_or(shown, |before| before.shown.max(shown));
        Ok(*known.insert(clock))
    }

    /// Reads the clock until it is clear whether the stored date is older or newer than each request.
    async fn read_until_clear(
        &self,
        items: &[&Birthday],
        rejected: &Rejected<'_>,
        mut clock: ServerClock,
        deadline: Instant,
    ) -> Result<ServerClock, QueryError> {
        let is_unclear = |birthday: &&Birthday, clock: &ServerClock| {
            let at = rejected.get(birthday.username.as_str()).copied().flatten();
            let arrived = birthday.arrived;
            at.is_some_and(|(_, at)| {
                clock.earliest_at(arrived) < at && at <= clock.latest_at(arrived)
            })
        };
        for _ in 0..CLOCK_READS {
            if !items.iter().any(|birthday| is_unclear(birthday, &clock)) {
                break;
            }
            let asked_at = Instant::now();
            clock = clock.read(self.read_server_clock(deadline).await?, asked_at);
        }
        Ok(clock)
    }

    async fn read_server_clock(&self, deadline: Instant) -> Result<Timestamp, QueryError> {
        let reading = self.store.attempt(&queries::SERVER_CLOCK, &[], deadline);
        let rows = reading.await?;
        read(rows.first().ok_or(QueryError::NoSchema)?, 0)
    }
}

impl BatchRunner for BirthdayWriter {
    const QUERY: &'static Query = &queries::HELLO_PUT;
    /// A flush to the disk is most of what a write waits for, and several can wait for one. Measured
    /// beside 1, 2, 8 and 16 with 64 clients: 2 are a fifth slower, 8 take twice the processor time.
    const STATEMENTS: usize = 4;

    type Item = Birthday;
    type Answer = PutOutcome;

    fn row(birthday: &Birthday) -> Option<&str> {
        Some(birthday.username.as_str())
    }

    /// A name must not occur twice in one statement (SQLSTATE 21000). The earlier of two requests is answered
    /// as if overwritten just after.
    async fn run(
        &self,
        items: Vec<&Birthday>,
        first_ends: Instant,
        deadline: Instant,
    ) -> Result<Vec<PutOutcome>, QueryError> {
        let mut clock = self.server_clock(deadline).await?;
        let began = Instant::now();
        let late_at = first_ends.min(began + self.store.answer_timeout);
        let rewrite_all = began < *lock(&self.unsettled_until);
        let mut latest: BTreeMap<&str, &Birthday> = BTreeMap::new();
        for birthday in &items {
            let last = latest.entry(birthday.username.as_str()).or_insert(birthday);
            if last.arrived < birthday.arrived {
                *last = birthday;
            }
        }
        let names: Vec<&str> = latest.keys().copied().collect();
        let each = || latest.values();
        let dates: Vec<Date> = each().map(|birthday| birthday.date_of_birth).collect();
        let rewrites: Vec<bool> = each()
            .map(|birthday| birthday.rewrite || rewrite_all)
            .collect();
        let since: Vec<Timestamp> = each().map(|birthday| birthday.since).collect();
        let late_at_theirs = clock.earliest_at(late_at);
        let params: [&(dyn ToSql + Sync); 5] = [&names, &dates, &rewrites, &since, &late_at_theirs];
        let attempted = self.store.attempt(Self::QUERY, &params, deadline).await;
        let rows = attempted.inspect_err(|error| {
            if error.is_unknown_outcome() {
                let mut until = lock(&self.unsettled_until);
                *until = until.max(late_at);
            }
        })?;
        let mut rejected = Rejected::new();
        for row in &rows {
            match (read(row, 0)?, read(row, 2)?) {
                (Some(name), at) => drop(rejected.insert(name, read::<Option<_>>(row, 1)?.zip(at))),
                (None, Some(shown)) => clock = clock.read(shown, began),
                (None, None) => {}
            }
        }
        let clock = self
            .read_until_clear(&items, &rejected, clock, deadline)
            .await?;
        let mut known = lock(&self.clock);
        if known.is_some_and(|known| known.generation == clock.generation) {
            *known = Some(clock);
        }
        drop(known);
        let outcome = |birthday: &&Birthday| match rejected.get(birthday.username.as_str()) {
            Some(stored) => birthday.outcome(*stored, &clock),
            None => PutOutcome::Stored,
        };
        Ok(items.iter().map(outcome).collect())
    }
}
