//! What a promotion may lose, said before it begins.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observation::Progress;
use crate::lease::{Position, Timing};

/// The loss that a promotion may cause. What is known is exact; what the old primary may have
/// acknowledged after its last renewal is bounded exactly in seconds, and in bytes and rows by the
/// highest rate of the minute before, so those two are estimates and are called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Bytes that the old primary had flushed at its last renewal and the target does not have.
    pub known_bytes: u64,
    /// For how long after that the old primary may have acknowledged commits.
    pub unseen: Duration,
    /// All bytes that may be lost.
    pub bytes_at_most: u64,
    /// All changed rows that may be lost.
    pub rows_at_most: u64,
    /// When the old primary last saw a commit: microseconds since 1970, by its own clock.
    pub last_commit_at_micros: u64,
}

/// How much older than its renewal a recorded position can be: a server is asked every 0.15 s, and may
/// take 2 s to answer.
const SAMPLING: Duration = Duration::from_secs(3);

/// The least log that a changed row costs: a record's header is 24 bytes, its block reference 20, and a
/// tuple's header with one column 24 or more (`src/include/access/xlogrecord.h`, `htup_details.h`);
/// COPY packs rows more densely, which is one reason why the number of rows is an estimate.
const BYTES_PER_ROW: u64 = 64;

/// States what is lost if a standby that is as far as `own` takes over from the primary that recorded
/// `last`. That its lease was released changes nothing: it may have gone on writing from its last
/// renewal until its PostgreSQL had ended.
pub fn state(last: &Position, own: Progress, timing: &Timing) -> Loss {
    let known_bytes = last.flush_lsn.bytes_since(own.received);
    let after = timing.hard + Duration::from_millis(last.age_millis);
    let unseen = after + SAMPLING;
    let bytes_at_most = known_bytes.saturating_add(at_rate(last.bytes_per_sec, unseen));
    // The log that is known to be missing is there to be counted, and the rest goes by the rate.
    let known_rows = known_bytes.div_ceil(BYTES_PER_ROW);
    Loss {
        known_bytes,
        unseen: after,
        bytes_at_most,
        rows_at_most: known_rows.saturating_add(at_rate(last.rows_per_sec, unseen)),
        last_commit_at_micros: last.last_commit_at_micros,
    }
}

fn at_rate(per_sec: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    per_sec.saturating_mul(millis).div_ceil(1000)
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes known to be missing, and what was written in up to {:.1} s unseen: at most {} bytes and {} rows \
             by the highest rate of the last minute (an estimate)",
            self.known_bytes,
            self.unseen.as_secs_f64(),
            self.bytes_at_most,
            self.rows_at_most,
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Lsn, Timeline};

    proptest! {
        /// More of the log received never means more lost.
        #[test]
        fn a_standby_that_has_more_loses_no_more(a in 0_u64..1000, b in 0_u64..1000, rate in 0_u64..1000) {
            let (less, more) = (a.min(b), a.max(b));
            let of = |received| state(&last(1000, rate), own(received), &Timing::default());
            prop_assert!(of(more).rows_at_most <= of(less).rows_at_most);
            prop_assert!(of(more).known_bytes <= of(less).known_bytes);
        }
    }

    #[test]
    fn what_is_known_and_what_may_have_come_after_are_both_counted() {
        let loss = state(&last(1000, 100), own(900), &Timing::default());

        assert_eq!(loss.known_bytes, 100);
        assert_eq!(loss.unseen, Timing::default().hard);
        assert_eq!(loss.bytes_at_most, 100 + 11_800);
        assert_eq!(loss.rows_at_most, 2 + 1_180);
    }

    #[test]
    fn position_that_was_old_when_recorded_then_more_is_unseen() {
        let old = Position {
            age_millis: 60_000,
            ..last(1000, 100)
        };
        let loss = state(&old, own(1000), &Timing::default());

        assert_eq!(loss.known_bytes, 0);
        assert_eq!(loss.unseen, Timing::default().hard + Duration::from_mins(1));
        assert_eq!(loss.rows_at_most, 1_180 + 6_000);
    }

    fn last(flushed: u64, rows_per_sec: u64) -> Position {
        Position {
            timeline: Timeline::FIRST,
            flush_lsn: Lsn::new(flushed),
            last_commit_at_micros: 0,
            bytes_per_sec: rows_per_sec * 10,
            rows_per_sec,
            age_millis: 0,
        }
    }

    fn own(received: u64) -> Progress {
        let received = Lsn::new(received);
        Progress {
            timeline: Timeline::FIRST,
            received,
            replayed: received,
        }
    }
}
