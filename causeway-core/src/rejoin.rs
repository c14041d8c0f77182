//! How an old primary, or a standby that went too far, comes back: by following, or by rewinding.

use std::fmt;

use crate::failover::observation::ReplayProgress;
use crate::lsn::Ancestor;
use crate::{Lsn, Timeline};

/// What it takes to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejoinMethod {
    /// What the node has is a part of the primary's history: it goes on from there.
    Follow,
    /// It has log that the primary's history does not.
    Rewind(Divergence),
}

/// Where a node and its primary parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// The node went on past the place at which the primary's history left its timeline.
    Past {
        /// The timeline.
        timeline: Timeline,
        /// Where the primary's history left it.
        left_at: Lsn,
        /// How far the node went.
        came_to: Lsn,
    },
    /// The primary's history never was on the node's timeline.
    UnknownTimeline(Timeline),
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Past {
                timeline,
                left_at,
                came_to,
            } => {
                write!(
                    f,
                    "timeline {timeline} was left at {left_at}, and this node has it up to {came_to}"
                )
            }
            Self::UnknownTimeline(timeline) => {
                write!(f, "the primary's history was never on timeline {timeline}")
            }
        }
    }
}

/// Compares how far a node has come with the primary's timeline and its history.
///
/// A timeline above the primary's is a stranger to it like any other: numbers are reserved in the lease
/// one by one, so somebody began it and did not open, or lost.
pub fn rejoin_method(own: ReplayProgress, primary: Timeline, history: &[Ancestor]) -> RejoinMethod {
    if own.timeline == primary {
        return RejoinMethod::Follow;
    }
    let Some(branch) = history.iter().find(|ancestor| ancestor.timeline == own.timeline) else {
        return RejoinMethod::Rewind(Divergence::UnknownTimeline(own.timeline));
    };
    if own.received_lsn > branch.left_at {
        let (timeline, left_at, came_to) = (own.timeline, branch.left_at, own.received_lsn);
        return RejoinMethod::Rewind(Divergence::Past {
            timeline,
            left_at,
            came_to,
        });
    }
    RejoinMethod::Follow
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(timeline: u32, received: u64) -> ReplayProgress {
        let received = Lsn::new(received);
        ReplayProgress {
            timeline: Timeline::new(timeline).unwrap(),
            received_lsn: received,
            replayed_lsn: received,
        }
    }

    #[test]
    fn follows_up_to_the_branch_and_rewinds_past_it() {
        let history = [Ancestor {
            timeline: Timeline::FIRST,
            left_at: Lsn::new(100),
        }];

        let primary = Timeline::new(3).unwrap();
        let method = |own| rejoin_method(own, primary, &history);
        assert_eq!(method(own(1, 100)), RejoinMethod::Follow);
        assert_eq!(method(own(3, 500)), RejoinMethod::Follow);
        assert!(matches!(
            method(own(1, 101)),
            RejoinMethod::Rewind(Divergence::Past { .. })
        ));
        for stranger in [2, 4] {
            assert!(matches!(
                method(own(stranger, 50)),
                RejoinMethod::Rewind(Divergence::UnknownTimeline(_))
            ));
        }
    }
}
