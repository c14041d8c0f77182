//! Estimate of the data loss of a promotion.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observation::ReplayProgress;
use crate::lease::{LeaseRecord, LeaseState, LeaseTiming, PrimaryPosition};
use crate::lsn::{Ancestor, TimelineHistory};
use crate::{Lsn, Timeline};

/// The data loss that a promotion may cause. The known part is exact. Commits acknowledged by the old
/// primary after its last renewal are bounded exactly in seconds; in bytes and rows they are estimated
/// from the highest rate of the minute before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLoss {
    /// Bytes of WAL that the old primary had flushed at its last renewal and the target does not have.
    pub known_bytes: u64,
    /// Time after that in which the old primary may have acknowledged commits.
    pub unseen: Duration,
    /// Bytes of WAL that may be lost in total.
    pub bytes_at_most: u64,
    /// Changed rows that may be lost in total.
    pub rows_at_most: u64,
    /// Time of the old primary's last commit, in microseconds since 1970 by its own clock.
    pub last_commit_at_micros: u64,
    /// Fork of the target's and the last primary's timelines; none if they are the same timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parted: Option<TimelineFork>,
    /// Time in which a holder whose lease was not stored as `held` may have accepted writes. It acknowledges
    /// no commit before that, except to sessions with `synchronous_commit` off or local, whose writes are not
    /// recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unopened: Option<Duration>,
}

/// Two timelines, and the position at which their histories forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineFork {
    /// Timeline of the target.
    pub here: Timeline,
    /// Timeline of the last primary.
    pub there: Timeline,
    /// Position of the fork; none if no known history has it. Then all WAL counts as lost.
    pub at: Option<Lsn>,
}

/// Data loss that one run may cause: accepted by name, or stated when the operator confirmed the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossLimit {
    /// Bytes of WAL.
    pub bytes: u64,
    /// Changed rows; none if only bytes were accepted.
    pub rows: Option<u64>,
}

impl LossLimit {
    /// Returns whether a data loss is within the limit.
    pub fn admits(&self, loss: Option<&DataLoss>) -> bool {
        loss.is_none_or(|loss| {
            loss.bytes_at_most <= self.bytes
                && self.rows.is_none_or(|rows| loss.rows_at_most <= rows)
        })
    }
}

/// Maximum age of a position when its renewal is sent: a server is queried every 0.15 s, and may take 2 s to
/// respond.
const MAX_SAMPLE_AGE: Duration = Duration::from_secs(3);

/// Minimum WAL of a changed row: a record header has 24 bytes, its block reference 20, and a tuple header with
/// one column 24 or more (`src/include/access/xlogrecord.h`, `htup_details.h`). COPY packs rows more densely,
/// which is one reason why the number of rows is an estimate.
const MIN_BYTES_PER_ROW: u64 = 64;

/// Estimates the loss if a standby with the progress `own` takes over from the primary that recorded `last`,
/// on the same timeline. A released lease does not change it: the primary may have written from its last
/// renewal until PostgreSQL had stopped.
pub fn estimate_loss_on_timeline(
    last: &PrimaryPosition,
    own: ReplayProgress,
    timing: &LeaseTiming,
) -> DataLoss {
    estimate_from_lsn(last, own.received_lsn, timing)
}

/// Estimates the loss from the lease record if a standby takes over whose timeline has these ancestors; none
/// if no primary has accepted writes yet.
pub fn estimate_loss(
    lease: &LeaseRecord,
    own: ReplayProgress,
    ancestors: Option<&[Ancestor]>,
    timing: &LeaseTiming,
) -> Option<DataLoss> {
    let last = lease.last_position?;
    let theirs = lease
        .ancestry
        .as_ref()
        .filter(|history| history.timeline() == last.timeline)
        .map(TimelineHistory::ancestors);
    let parted = (own.timeline != last.timeline).then(|| TimelineFork {
        here: own.timeline,
        there: last.timeline,
        at: find_fork(own.timeline, ancestors, last.timeline, theirs),
    });
    // Positions past the fork are not comparable: no WAL there is the last primary's.
    let common = match parted {
        None => own.received_lsn,
        Some(TimelineFork { at: Some(at), .. }) => own.received_lsn.min(at),
        Some(TimelineFork { at: None, .. }) => Lsn::new(0),
    };
    let recorded = lease.last_primary.as_ref() == Some(&lease.holder.node);
    let unopened = lease.state == LeaseState::Acquiring || !recorded;
    Some(DataLoss {
        parted,
        unopened: unopened.then_some(timing.kill_deadline),
        ..estimate_from_lsn(&last, common, timing)
    })
}

/// Returns the position at which two timelines forked. A number is never used twice, so a common ancestor has
/// the same history in both.
fn find_fork(
    here: Timeline,
    ours: Option<&[Ancestor]>,
    there: Timeline,
    theirs: Option<&[Ancestor]>,
) -> Option<Lsn> {
    let left = |of: Option<&[Ancestor]>, timeline| {
        let of = of?.iter().find(|ancestor| ancestor.timeline == timeline)?;
        Some(of.left_at)
    };
    if let Some(at) = left(theirs, here).or_else(|| left(ours, there)) {
        return Some(at);
    }
    let mut common = ours?.iter().rev();
    common.find_map(|ancestor| Some(ancestor.left_at.min(left(theirs, ancestor.timeline)?)))
}

fn estimate_from_lsn(last: &PrimaryPosition, received: Lsn, timing: &LeaseTiming) -> DataLoss {
    let known_bytes = last.flush_lsn.bytes_since(received);
    let after = timing.kill_deadline + Duration::from_millis(last.age_millis);
    let unseen = after + MAX_SAMPLE_AGE;
    let bytes_at_most = known_bytes.saturating_add(at_rate(last.wal_bytes_per_sec, unseen));
    // The known missing WAL is counted; the rest is estimated by the rate.
    let known_rows = known_bytes.div_ceil(MIN_BYTES_PER_ROW);
    DataLoss {
        known_bytes,
        unseen: after,
        bytes_at_most,
        rows_at_most: known_rows.saturating_add(at_rate(last.rows_per_sec, unseen)),
        last_commit_at_micros: last.last_commit_at_micros,
        parted: None,
        unopened: None,
    }
}

fn at_rate(per_sec: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    per_sec.saturating_mul(millis).div_ceil(1000)
}

impl fmt::Display for DataLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes of WAL known to be missing, and up to {:.1} s of unseen writes: at most {} bytes and {} rows at \
             the highest rate of the last minute (an estimate)",
            self.known_bytes,
            self.unseen.as_secs_f64(),
            self.bytes_at_most,
            self.rows_at_most,
        )?;
        match self.parted {
            Some(TimelineFork {
                here,
                there,
                at: Some(at),
            }) => write!(
                f,
                "; timeline {here} forked from {there} at {at}, so all later WAL of {there} is lost"
            )?,
            Some(TimelineFork {
                here,
                there,
                at: None,
            }) => write!(
                f,
                "; the fork of timelines {here} and {there} is not known, so all WAL counts as lost"
            )?,
            None => {}
        }
        if let Some(unopened) = self.unopened {
            write!(
                f,
                "; the last holder may have accepted writes for up to {:.1} s before the lease was stored as `held`: \
                 commits of sessions with `synchronous_commit` off or local in that time are not counted",
                unopened.as_secs_f64()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lease::{LeaseHolder, NonceGenerator, SystemId};
    use crate::{Epoch, NodeId};

    proptest! {
        /// A standby with more WAL never loses more.
        #[test]
        fn more_wal_received_then_no_more_loss(a in 0_u64..1000, b in 0_u64..1000, rate in 0_u64..1000) {
            let (less, more) = (a.min(b), a.max(b));
            let of = |received| estimate_loss_on_timeline(&last(1000, rate), own(received), &LeaseTiming::default());
            prop_assert!(of(more).rows_at_most <= of(less).rows_at_most);
            prop_assert!(of(more).known_bytes <= of(less).known_bytes);
        }
    }

    #[test]
    fn standby_behind_then_known_and_estimated_loss_added() {
        let loss = estimate_loss_on_timeline(&last(1000, 100), own(900), &LeaseTiming::default());

        assert_eq!(loss.known_bytes, 100);
        assert_eq!(loss.unseen, LeaseTiming::default().kill_deadline);
        assert_eq!(loss.bytes_at_most, 100 + 11_800);
        assert_eq!(loss.rows_at_most, 2 + 1_180);
    }

    #[test]
    fn old_position_then_its_age_is_added() {
        let old = PrimaryPosition {
            age_millis: 60_000,
            ..last(1000, 100)
        };
        let loss = estimate_loss_on_timeline(&old, own(1000), &LeaseTiming::default());

        assert_eq!(loss.known_bytes, 0);
        assert_eq!(
            loss.unseen,
            LeaseTiming::default().kill_deadline + Duration::from_mins(1)
        );
        assert_eq!(loss.rows_at_most, 1_180 + 6_000);
    }

    #[test]
    fn past_the_fork_then_all_wal_since_the_fork_is_lost() {
        let theirs = [(1, 400), (2, 600)];
        let lost = |timeline, received| {
            let loss = estimate_loss(
                &lease(3, &theirs),
                on(timeline, received),
                Some(&ancestors(&theirs[..timeline as usize - 1])),
                &LeaseTiming::default(),
            )
            .unwrap();
            (loss.known_bytes, loss.parted.map(|fork| fork.at))
        };
        assert_eq!(lost(3, 900), (100, None));
        assert_eq!(lost(2, 550), (450, Some(Some(Lsn::new(600)))));
        assert_eq!(lost(2, 900), (400, Some(Some(Lsn::new(600)))));
        assert_eq!(lost(1, 900), (600, Some(Some(Lsn::new(400)))));
    }

    #[test]
    fn other_timeline_then_loss_since_the_last_common_position() {
        let loss = |timeline, ours: Option<&[(u32, u64)]>| {
            let ours = ours.map(ancestors);
            let own = on(timeline, 2000);
            let lease = lease(3, &[(1, 400), (2, 600)]);
            let loss =
                estimate_loss(&lease, own, ours.as_deref(), &LeaseTiming::default()).unwrap();
            loss.known_bytes
        };
        // Promoted from the end of 3, and interrupted before it accepted writes: no WAL is missing.
        assert_eq!(loss(4, Some(&[(1, 400), (2, 600), (3, 1000)])), 0);
        assert_eq!(loss(4, Some(&[(1, 400), (2, 500)])), 500);
        assert_eq!(loss(4, Some(&[(1, 300)])), 700);
        assert_eq!(loss(4, None), 1000);
    }

    #[test]
    fn history_of_another_timeline_then_ignored() {
        let mut lease = lease(3, &[(1, 400), (2, 600)]);
        let ancestors = ancestors(&[(1, 400), (2, 600)]);
        lease.ancestry = Some(TimelineHistory::new(Timeline::new(2).unwrap(), ancestors));
        let loss = estimate_loss(&lease, on(2, 900), None, &LeaseTiming::default()).unwrap();
        assert_eq!(loss.known_bytes, 1000);
        assert!(loss.to_string().contains("is not known"), "{loss}");
    }

    #[test]
    fn holder_never_accepted_writes_then_loss_has_its_time() {
        let mut lease = lease(1, &[]);
        let of =
            |lease: &LeaseRecord| estimate_loss(lease, own(900), None, &LeaseTiming::default());
        assert_eq!(of(&lease).unwrap().unopened, None);

        lease.holder.node = "b".parse().unwrap();
        for state in [LeaseState::Acquiring, LeaseState::Released] {
            lease.state = state;
            let loss = of(&lease).unwrap();
            assert_eq!(loss.unopened, Some(LeaseTiming::default().kill_deadline));
            assert!(loss.to_string().contains("are not counted"));
        }
        lease.last_position = None;
        assert_eq!(of(&lease), None);
    }

    #[test]
    fn more_bytes_or_more_rows_than_accepted_then_not_admitted() {
        let loss = estimate_loss_on_timeline(&last(1000, 100), own(900), &LeaseTiming::default());
        let limit = |bytes, rows| LossLimit { bytes, rows }.admits(Some(&loss));
        let (bytes, rows) = (loss.bytes_at_most, loss.rows_at_most);

        assert!(limit(bytes, Some(rows)));
        assert!(limit(bytes, None));
        assert!(!limit(bytes - 1, None));
        assert!(!limit(bytes, Some(rows - 1)));
        let nothing = LossLimit {
            bytes: 0,
            rows: None,
        };
        assert!(nothing.admits(None));
    }

    fn lease(timeline: u32, ancestry: &[(u32, u64)]) -> LeaseRecord {
        let timeline = Timeline::new(timeline).unwrap();
        let a: NodeId = "a".parse().unwrap();
        LeaseRecord {
            format: 1,
            cluster: "main".into(),
            system_id: SystemId(1),
            epoch: Epoch::new(7),
            sequence: 40,
            nonce: NonceGenerator::new(1).generate(),
            holder: LeaseHolder {
                node: a.clone(),
                host_id: String::new(),
                boot_id: String::new(),
            },
            state: LeaseState::Held,
            last_position: Some(PrimaryPosition {
                timeline,
                ..last(1000, 0)
            }),
            last_primary: Some(a),
            ancestry: Some(TimelineHistory::new(timeline, ancestors(ancestry))),
            highest_reserved_timeline: timeline,
            synchronous_standby: None,
            members: Vec::new(),
            successor: None,
            unretired: None,
            idle_millis: 0,
        }
    }

    fn ancestors(of: &[(u32, u64)]) -> Vec<Ancestor> {
        let ancestor = |(timeline, left_at): &(u32, u64)| Ancestor {
            timeline: Timeline::new(*timeline).unwrap(),
            left_at: Lsn::new(*left_at),
        };
        of.iter().map(ancestor).collect()
    }

    fn on(timeline: u32, received: u64) -> ReplayProgress {
        ReplayProgress {
            timeline: Timeline::new(timeline).unwrap(),
            ..own(received)
        }
    }

    fn last(flushed: u64, rows_per_sec: u64) -> PrimaryPosition {
        PrimaryPosition {
            timeline: Timeline::FIRST,
            flush_lsn: Lsn::new(flushed),
            last_commit_at_micros: 0,
            wal_bytes_per_sec: rows_per_sec * 10,
            rows_per_sec,
            age_millis: 0,
        }
    }

    fn own(received: u64) -> ReplayProgress {
        let received = Lsn::new(received);
        ReplayProgress {
            timeline: Timeline::FIRST,
            received_lsn: received,
            replayed_lsn: received,
        }
    }
}
