//! Write rates of a primary, for the estimate of a failover's data loss.

use std::collections::VecDeque;
use std::time::Duration;

use causeway_core::{HostInstant, Lsn};
use causeway_runtime::clock;

/// Window of the maximum rate.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// Interval between two samples: short, so that a load that has just started counts before the next renewal.
const RATE_SAMPLE: Duration = Duration::from_millis(500);

/// Sample of monotonic counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteSample {
    pub(super) at: HostInstant,
    pub(super) lsn: Lsn,
    /// Changed rows, from statistics that lag by a second or more.
    pub(super) rows: u64,
    /// Transaction ids assigned, which do not lag.
    pub(super) xids: u64,
    pub(super) segment_bytes: u64,
}

/// Write rates of the server.
#[derive(Debug, Default)]
pub(super) struct WriteRates {
    last: Option<WriteSample>,
    /// End, bytes per second and rows per second of each interval in the window.
    intervals: VecDeque<(HostInstant, u64, u64)>,
    moved_to: Lsn,
    pub(super) moved_at_micros: u64,
}

impl WriteRates {
    pub(super) fn add_sample(&mut self, now: WriteSample) {
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
        let bytes = per_sec(bytes_written(then, now, before));
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
        self.intervals
            .iter()
            .map(|interval| interval.1)
            .max()
            .unwrap_or(0)
    }

    pub(super) fn rows_per_sec(&self) -> u64 {
        self.intervals
            .iter()
            .map(|interval| interval.2)
            .max()
            .unwrap_or(0)
    }
}

/// Returns the WAL written between two samples, in bytes. A segment switch (`pg_switch_wal`, a base backup,
/// `archive_timeout`) skips the rest of a segment without writing it. Of a segment that was left, at most the volume of
/// the interval `before` plus 1 MiB therefore counts.
fn bytes_written(then: WriteSample, now: WriteSample, before: u64) -> u64 {
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
    fn load_not_in_statistics_yet_then_counted() {
        let mut rates = WriteRates::default();
        rates.add_sample(sample(0, 1000, 5));
        rates.add_sample(sample(500, 101_000, 305));

        assert_eq!(rates.wal_bytes_per_sec(), 200_000);
        assert_eq!(rates.rows_per_sec(), 600);
    }

    #[test]
    fn segment_switched_then_rest_not_counted() {
        let mut rates = WriteRates::default();
        rates.add_sample(sample(0, SEGMENT + 100, 0));
        rates.add_sample(sample(1000, 2 * SEGMENT + 100, 0));

        assert!(
            rates.wal_bytes_per_sec() < 2 << 20,
            "{}",
            rates.wal_bytes_per_sec()
        );
    }
}
