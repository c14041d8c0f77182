//! People and their birthdays.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::batcher::BatchItem;
use super::executor::{ANSWER_GRACE, FIRST_PAUSE};
use super::queries::{self, Effect, Query};
use super::query_error::QueryError;
use super::{Store, Unavailable, lock, read_all};
use crate::config::Case;
use crate::domain::Username;

/// Two clocks go apart by less than one second in so many.
const DRIFT: i64 = 2000;
/// The clock is known to within the quickest of so many answers.
const CLOCK_READS: usize = 4;

/// A name whose date of birth is asked for.
#[derive(Debug)]
pub(super) struct Name(Username);

/// When a person was born, on its way to the table.
#[derive(Clone, Debug)]
pub(super) struct Birthday {
    username: Username,
    date_of_birth: Date,
    arrived: Instant,
    /// A time on the server's clock, before the request. What was stored after it is not replaced.
    since: Option<Timestamp>,
    /// Whether it is to be written even if it seems to be there: an earlier attempt may have been
    /// committed on a primary that was ended before its standby had it.
    rewrite: bool,
}

/// What became of a birthday.
#[derive(Clone, Copy, Debug)]
pub(super) enum PutOutcome {
    Stored,
    /// The statement was late, or the date that it may replace was stored then.
    Refused {
        since: Option<Timestamp>,
    },
}

impl Birthday {
    /// Returns what becomes of it where the statement stored nothing, but found `stored`.
    fn refused(&self, stored: Option<(Date, Timestamp)>, clock: &ServerClock) -> PutOutcome {
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
                PutOutcome::Refused { since: Some(at) }
            }
            _ => PutOutcome::Refused { since },
        }
    }
}

/// The clock of the primary, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    generation: u64,
    /// The latest that it, or a primary's before, has shown: a row that is written after a request is
    /// never stored at an earlier time than this, whatever the clock.
    shown: Timestamp,
    /// How far it is ahead of the time since `start`, in microseconds: at least and at most.
    ahead: (i64, i64),
    start: Instant,
    read_at: Instant,
    /// Whether it was set back before it was read last.
    was_set_back: bool,
}

impl ServerClock {
    fn new(generation: u64, shown: Timestamp, asked_at: Instant) -> Self {
        let unknown = Self {
            generation,
            shown,
            ahead: (i64::MIN / 2, i64::MAX / 2),
            start: asked_at,
            read_at: asked_at,
            was_set_back: false,
        };
        unknown.read(shown, asked_at)
    }

    fn since_start(&self, moment: Instant) -> i64 {
        let since = moment.saturating_duration_since(self.start).as_micros();
        i64::try_from(since).unwrap_or(i64::MAX)
    }

    /// Returns what it shows at `moment` at least.
    fn at_least(&self, moment: Instant) -> Timestamp {
        self.shows(self.ahead.0, moment)
    }

    /// Returns what it shows at `moment` at most.
    fn at_most(&self, moment: Instant) -> Timestamp {
        self.shows(self.ahead.1, moment)
    }

    fn shows(&self, ahead: i64, moment: Instant) -> Timestamp {
        let micros = ahead.saturating_add(self.since_start(moment));
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }

    /// Takes in what a statement returned that was sent at `sent`, and read the clock at some time since.
    /// What does not fit what is known of the clock means that it was set.
    fn read(self, shown: Timestamp, sent: Instant) -> Self {
        let now = Instant::now();
        let micros = shown.as_microsecond();
        let new = (
            micros - self.since_start(now),
            micros - self.since_start(sent),
        );
        let drift = (self.since_start(now) - self.since_start(self.read_at)) / DRIFT;
        let old = (self.ahead.0 - drift, self.ahead.1 + drift);
        let both = (new.0.max(old.0), new.1.min(old.1));
        let was_set = both.0 > both.1;
        Self {
            shown: shown.max(self.shown),
            ahead: if was_set { new } else { both },
            read_at: now,
            was_set_back: was_set && new.1 < old.0,
            ..self
        }
    }
}

impl Store {
    /// Returns when a person was born, or `None` for a stranger.
    pub(crate) async fn date_of_birth(
        &self,
        username: &Username,
        case: Case,
        deadline: Instant,
    ) -> Result<Option<Date>, Unavailable> {
        if case == Case::Insensitive {
            let name = username.folded();
            let query = &queries::HELLO_GET_ANY_CASE;
            let rows = self.run(query, &[&name.as_str()], deadline).await?;
            return Ok(read_all(&rows, |row| row.try_get(0))?.into_iter().next());
        }
        let mut longest = FIRST_PAUSE;
        loop {
            let name = Name(username.clone());
            match self.names.submit(name, deadline, &self.primary).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let query = Name::QUERY;
                    self.pause(query, &error, &mut longest, deadline).await?;
                }
            }
        }
    }

    /// Stores when a person was born. When this returns, it has been committed; and if the database was
    /// unavailable, it may have been, but will not be later than another that is acknowledged.
    pub(crate) async fn remember(
        &self,
        username: &Username,
        case: Case,
        date_of_birth: Date,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let username = match case {
            Case::Sensitive => username.clone(),
            Case::Insensitive => username.folded(),
        };
        let mut birthday = Birthday {
            username,
            date_of_birth,
            arrived: Instant::now(),
            since: None,
            rewrite: false,
        };
        let mut longest = FIRST_PAUSE;
        loop {
            let submitted = async {
                // One for all attempts: a later one must not replace what was stored since.
                if birthday.since.is_none() {
                    let clock = self.server_clock(deadline).await.map_err(Arc::new)?;
                    birthday.since = Some(clock.shown);
                }
                let birthday = birthday.clone();
                let submitted = self.birthdays.submit(birthday, deadline, &self.primary);
                submitted.await
            };
            match submitted.await {
                Ok(PutOutcome::Stored) => return Ok(()),
                Ok(PutOutcome::Refused { since }) => birthday.since = since,
                Err(error) => {
                    birthday.rewrite |= error.is_unknown_outcome();
                    let query = Birthday::QUERY;
                    self.pause(query, &error, &mut longest, deadline).await?;
                }
            }
        }
    }

    /// Returns what the clock of the primary is, as it was last read. It is read with every write, and so
    /// is rarely asked for. A clock that was set forward makes the writes under way late, and each of
    /// those reads it.
    async fn server_clock(&self, deadline: Instant) -> Result<ServerClock, QueryError> {
        let generation = self
            .primary
            .known(Effect::Writes, deadline)
            .await?
            .generation;
        if let Some(clock) = *lock(&self.clock)
            && clock.generation == generation
        {
            return Ok(clock);
        }
        let asked_at = Instant::now();
        let shown = self.read_server_clock(deadline).await?;
        let mut clock = ServerClock::new(generation, shown, asked_at);
        let mut known = lock(&self.clock);
        if let Some(before) = *known {
            clock.shown = clock.shown.max(before.shown);
        }
        *known = Some(clock);
        Ok(clock)
    }

    async fn read_server_clock(&self, deadline: Instant) -> Result<Timestamp, QueryError> {
        let rows = self.attempt(&queries::SERVER_CLOCK, &[], deadline).await?;
        let row = rows.first().ok_or(QueryError::NoSchema)?;
        row.try_get(0).map_err(QueryError::Unreadable)
    }
}

impl BatchItem for Name {
    const QUERY: &'static Query = &queries::HELLO_GET;
    /// One waits for the server while another is made up; more would only be smaller.
    const STATEMENTS: usize = 2;

    type Answer = Option<Date>;

    fn row(&self) -> Option<&str> {
        None
    }

    async fn run(
        items: Vec<&Self>,
        store: &Store,
        _first_ends: Instant,
        deadline: Instant,
    ) -> Result<Vec<Self::Answer>, QueryError> {
        let names: Vec<&str> = items.iter().map(|it| it.0.as_str()).collect();
        let rows = store.attempt(Self::QUERY, &[&names], deadline).await?;
        let mut found = BTreeMap::new();
        for row in &rows {
            let name: &str = row.try_get(0).map_err(QueryError::Unreadable)?;
            let date: Date = row.try_get(1).map_err(QueryError::Unreadable)?;
            found.insert(name, date);
        }
        Ok(names.iter().map(|it| found.get(it).copied()).collect())
    }
}

impl BatchItem for Birthday {
    const QUERY: &'static Query = &queries::HELLO_PUT;
    /// A flush to the disk is most of what a write waits for, and several can wait for one. Measured
    /// beside 1, 2, 8 and 16 with 64 clients: 2 are a fifth slower, 8 take twice the processor time.
    const STATEMENTS: usize = 4;

    type Answer = PutOutcome;

    fn row(&self) -> Option<&str> {
        Some(self.username.as_str())
    }

    /// A name that comes twice may not be twice in one statement (SQLSTATE 21000). The earlier of two is
    /// answered as if overwritten a moment later.
    async fn run(
        items: Vec<&Self>,
        store: &Store,
        first_ends: Instant,
        deadline: Instant,
    ) -> Result<Vec<Self::Answer>, QueryError> {
        let clock = store.server_clock(deadline).await?;
        let began = Instant::now();
        let given_up_at = began + store.settings.statement_timeout + ANSWER_GRACE;
        let late_at = first_ends.min(given_up_at);
        let rewrite_all = began < *lock(&store.unsettled_until);
        let mut latest: BTreeMap<&str, &Self> = BTreeMap::new();
        for it in &items {
            let one = latest.entry(it.username.as_str()).or_insert(it);
            if one.arrived < it.arrived {
                *one = it;
            }
        }
        let names: Vec<&str> = latest.keys().copied().collect();
        let each = || latest.values();
        let dates: Vec<Date> = each().map(|it| it.date_of_birth).collect();
        let rewrites: Vec<bool> = each().map(|it| it.rewrite || rewrite_all).collect();
        let since: Vec<Timestamp> = each().map(|it| it.since.unwrap_or(clock.shown)).collect();
        let late_at_theirs = clock.at_least(late_at);
        let params: [&(dyn ToSql + Sync); 5] = [&names, &dates, &rewrites, &since, &late_at_theirs];
        let attempted = store.attempt(Self::QUERY, &params, deadline).await;
        let rows = attempted.inspect_err(|error| {
            if error.is_unknown_outcome() {
                let mut until = lock(&store.unsettled_until);
                *until = until.max(late_at);
            }
        })?;
        let mut refused: BTreeMap<&str, Option<(Date, Timestamp)>> = BTreeMap::new();
        let mut clock = clock;
        for row in &rows {
            let name: Option<&str> = row.try_get(0).map_err(QueryError::Unreadable)?;
            let date: Option<Date> = row.try_get(1).map_err(QueryError::Unreadable)?;
            let at: Option<Timestamp> = row.try_get(2).map_err(QueryError::Unreadable)?;
            match (name, at) {
                (Some(name), _) => drop(refused.insert(name, date.zip(at))),
                (None, Some(shown)) => clock = clock.read(shown, began),
                (None, None) => {}
            }
        }
        // Whether what is there is older or newer than the request has to be clear.
        let is_unclear = |it: &&Self, clock: &ServerClock| {
            let at = refused.get(it.username.as_str()).copied().flatten();
            let (least, most) = (clock.at_least(it.arrived), clock.at_most(it.arrived));
            at.is_some_and(|(_date, at)| least < at && at <= most)
        };
        for _ in 0..CLOCK_READS {
            if items.iter().any(|it| is_unclear(it, &clock)) {
                let asked_at = Instant::now();
                clock = clock.read(store.read_server_clock(deadline).await?, asked_at);
            }
        }
        let mut known = lock(&store.clock);
        if known.is_some_and(|it| it.generation == clock.generation) {
            *known = Some(clock);
        }
        drop(known);
        let put = |it: &&Self| match refused.get(it.username.as_str()) {
            Some(stored) => it.refused(*stored, &clock),
            None => PutOutcome::Stored,
        };
        Ok(items.iter().map(put).collect())
    }
}
