//! How fast a primary has been writing, for the statement of what a failover may lose.

use std::collections::VecDeque;
use std::time::Duration;

use causeway_core::{HostInstant, Lsn};
use causeway_runtime::clock;

/// Over how long the highest rate is kept.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// The time between two samples of the rate: short, so that a load which has just begun counts before
/// the next renewal.
const RATE_SAMPLE: Duration = Duration::from_millis(500);

/// What the rates are made from: counters that only rise.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteSample {
    pub(super) at: HostInstant,
    pub(super) lsn: Lsn,
    /// Rows changed, as the statistics have it: a second late or more.
    pub(super) rows: u64,
    /// Transaction identifiers given out: at once.
    pub(super) xids: u64,
    pub(super) segment_bytes: u64,
}

/// How fast the server has been writing.
#[derive(Debug, Default)]
pub(super) struct WriteRates {
    last: Option<WriteSample>,
    /// For each interval of the window: when it ended, and bytes and rows per second in it.
    intervals: VecDeque<(HostInstant, u64, u64)>,
    moved_to: Lsn,
    pub(super) moved_at_micros: u64,
}

impl WriteRates {
    pub(super) fn note(&mut self, now: WriteSample) {
        if now.lsn != self.moved_to {
            self.moved_to = now.lsn;
            self.moved_at_micros = u64::try_from(clock::wall().as_micros()).unwrap_or(u64::MAX);
        }
        let Some(then) = self.last else {
            self.last = Some(now);
            return;
        };
        let elapsed = now.at.elapsed_upper_bound(then.at);
        if elapsed < RATE_SAMPLE {
            return;
        }
        let millis = u64::try_from(elapsed.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let per_sec = |amount: u64| amount.saturating_mul(1000).div_ceil(millis);
        let before = self
            .intervals
            .back()
            .map_or(0, |interval| interval.1)
            .saturating_mul(millis)
            / 1000;
        let bytes = per_sec(written(then, now, before));
        let rows = now
            .rows
            .saturating_sub(then.rows)
            .max(now.xids.saturating_sub(then.xids));
        self.intervals.push_back((now.at, bytes, per_sec(rows)));
        self.intervals
            .retain(|(at, ..)| now.at.elapsed_upper_bound(*at) < RATE_WINDOW);
        self.last = Some(now);
    }

    pub(super) fn wal_bytes_per_sec(&self) -> u64 {
        self.intervals.iter().map(|interval| interval.1).max().unwrap_or(0)
    }

    pub(super) fn rows_per_sec(&self) -> u64 {
        self.intervals.iter().map(|interval| interval.2).max().unwrap_or(0)
    }
}

/// Returns how much log was written between two samples. The end of a segment can be a leap and not a
/// writing: a switch (`pg_switch_wal`, a base backup, `archive_timeout`) leaves the rest of a segment
/// empty. So of a segment that was left, no more counts than the interval `before` would have filled,
/// and a mebibyte.
fn written(then: WriteSample, now: WriteSample, before: u64) -> u64 {
    let all = now.lsn.bytes_since(then.lsn);
    let segment = now.segment_bytes.max(1);
    if then.lsn.get() / segment == now.lsn.get() / segment {
        return all;
    }
    let in_this_segment = now.lsn.get() % segment;
    all.min(
        in_this_segment
            .saturating_add(before)
            .saturating_add(1 << 20),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16 << 20;

    fn sample(millis: u64, lsn: u64, xids: u64) -> WriteSample {
        let at = HostInstant::at(Duration::from_millis(millis));
        WriteSample {
            at,
            lsn: Lsn::new(lsn),
            rows: 0,
            xids,
            segment_bytes: SEGMENT,
        }
    }

    #[test]
    fn a_load_that_has_just_begun_counts_before_the_statistics_know_of_it() {
        let mut rates = WriteRates::default();
        rates.note(sample(0, 1000, 5));
        rates.note(sample(500, 101_000, 305));

        assert_eq!(rates.wal_bytes_per_sec(), 200_000);
        assert_eq!(rates.rows_per_sec(), 600);
    }

    #[test]
    fn the_empty_rest_of_a_segment_is_not_counted_as_written() {
        let mut rates = WriteRates::default();
        rates.note(sample(0, SEGMENT + 100, 0));
        rates.note(sample(1000, 2 * SEGMENT + 100, 0));

        assert!(
            rates.wal_bytes_per_sec() < 2 << 20,
            "{}",
            rates.wal_bytes_per_sec()
        );
    }
}
