//! Batches of birthdays: those that are asked for, and those that are stored.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::Store;
use super::batcher::BatchRunner;
use super::lock::lock;
use super::queries::{self, Effect, Query};
use super::query_error::{QueryError, read};
use super::server_clock::ServerClock;
use crate::domain::Username;

/// The clock is known to within the quickest of so many answers.
const CLOCK_READS: usize = 4;

/// Finds dates of birth.
#[derive(Debug)]
pub(super) struct BirthdayReader(pub(super) Store);

/// Stores dates of birth.
#[derive(Debug)]
pub(super) struct BirthdayWriter {
    store: Store,
    clock: Mutex<Option<ServerClock>>,
    /// Until when an attempt of unknown outcome may still write a birthday.
    unsettled_until: Mutex<Instant>,
}

/// When a person was born, on its way to the table.
#[derive(Clone, Debug)]
pub(super) struct Birthday {
    pub(super) username: Username,
    pub(super) date_of_birth: Date,
    pub(super) arrived: Instant,
    /// A time on the server's clock, before the request. What was stored after it is not replaced.
    pub(super) since: Option<Timestamp>,
    /// Whether it is to be written even if it seems to be there: an earlier attempt may have been
    /// committed on a primary that was ended before its standby had it.
    pub(super) rewrite: bool,
}

/// The names that a statement rejected, each with what is stored.
type Rejected<'a> = BTreeMap<&'a str, Option<(Date, Timestamp)>>;

/// What became of a birthday.
#[derive(Clone, Copy, Debug)]
pub(super) enum PutOutcome {
    Stored,
    /// The statement was late, or the date that it may replace was stored then.
    Rejected {
        since: Option<Timestamp>,
    },
}

impl Birthday {
    /// Returns what becomes of it where the statement stored nothing, but found `stored`.
    fn rejected(&self, stored: Option<(Date, Timestamp)>, clock: &ServerClock) -> PutOutcome {
        let since = self.since;
        match stored {
            Some((date, at)) if Some(at) > since => {
                // Where the clock was set back, what is stored may lie in its future.
                let is_past = at <= clock.at_most(Instant::now());
                let is_newer = !clock.was_set_back && is_past && at > clock.at_most(self.arrived);
                // Another request has stored it meanwhile, as if a moment after this one.
                if is_newer && !(self.rewrite && date == self.date_of_birth) {
                    return PutOutcome::Stored;
                }
                PutOutcome::Rejected { since: Some(at) }
            }
            _ => PutOutcome::Rejected { since },
        }
    }
}

impl BatchRunner for BirthdayReader {
    const QUERY: &'static Query = &queries::HELLO_GET;
    /// One waits for the server while another is made up; more would only be smaller.
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
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            clock: Mutex::default(),
            unsettled_until: Mutex::new(Instant::now()),
        }
    }

    /// Returns a time on the clock of the primary that is not after now.
    pub(super) async fn server_time(&self, deadline: Instant) -> Result<Timestamp, QueryError> {
        Ok(self.server_clock(deadline).await?.shown)
    }

    /// Returns the clock of the primary, as it was last read. It is read with every write, and so is
    /// rarely asked for. A clock that was set forward makes the writes under way late, and each of
    /// those reads it.
    async fn server_clock(&self, deadline: Instant) -> Result<ServerClock, QueryError> {
        let primary = self.store.primary.known(Effect::Writes, deadline);
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

    /// Reads the clock until it is clear whether what is stored is older or newer than each request.
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
            at.is_some_and(|(_, at)| clock.at_least(arrived) < at && at <= clock.at_most(arrived))
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

    /// A name that comes twice may not be twice in one statement (SQLSTATE 21000). The earlier of two is
    /// answered as if overwritten a moment later.
    async fn run(
        &self,
        items: Vec<&Birthday>,
        first_ends: Instant,
        deadline: Instant,
    ) -> Result<Vec<PutOutcome>, QueryError> {
        let clock = self.server_clock(deadline).await?;
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
        let dates: Vec<Date> = each().map(|it| it.date_of_birth).collect();
        let rewrites: Vec<bool> = each().map(|it| it.rewrite || rewrite_all).collect();
        let since: Vec<Timestamp> = each().map(|it| it.since.unwrap_or(clock.shown)).collect();
        let late_at_theirs = clock.at_least(late_at);
        let params: [&(dyn ToSql + Sync); 5] = [&names, &dates, &rewrites, &since, &late_at_theirs];
        let attempted = self.store.attempt(Self::QUERY, &params, deadline).await;
        let rows = attempted.inspect_err(|error| {
            if error.is_unknown_outcome() {
                let mut until = lock(&self.unsettled_until);
                *until = until.max(late_at);
            }
        })?;
        let mut clock = clock;
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
            Some(stored) => birthday.rejected(*stored, &clock),
            None => PutOutcome::Stored,
        };
        Ok(items.iter().map(outcome).collect())
    }
}
