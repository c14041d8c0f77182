//! The clock of the primary, within bounds that each answer narrows.

use jiff::Timestamp;
use tokio::time::Instant;

/// Two clocks drift apart by less than one second in so many.
const DRIFT: i64 = 2000;

/// The clock of the primary, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    pub(super) generation: u64,
    /// The latest time that the clock of this or an earlier primary has shown: a row that is written after a
    /// request is never stored with an earlier time, even after the clock was set back.
    pub(super) shown: Timestamp,
    /// Its lead over the time since `start`, in microseconds: at least and at most.
    ahead: (i64, i64),
    start: Instant,
    read_at: Instant,
    /// Whether it was set back before the last read.
    pub(super) was_set_back: bool,
}

impl ServerClock {
    pub(super) fn new(generation: u64, shown: Timestamp, asked_at: Instant) -> Self {
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

    /// Returns its earliest possible time at `moment`.
    pub(super) fn earliest_at(&self, moment: Instant) -> Timestamp {
        self.shows(self.ahead.0, moment)
    }

    /// Returns its latest possible time at `moment`.
    pub(super) fn latest_at(&self, moment: Instant) -> Timestamp {
        self.shows(self.ahead.1, moment)
    }

    fn shows(&self, ahead: i64, moment: Instant) -> Timestamp {
        let micros = ahead.saturating_add(self.since_start(moment));
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }

    /// Adds the time `shown` of a statement that was sent at `sent` and read the clock at some time since. A
    /// time outside of the known bounds means that the clock was set.
    pub(super) fn read(self, shown: Timestamp, sent: Instant) -> Self {
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
