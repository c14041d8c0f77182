//! Rejoin of an old primary, or of a standby past a fork: follow the primary, or rewind first.

use std::fmt;

use crate::failover::observation::ReplayProgress;
use crate::lsn::Ancestor;
use crate::{Lsn, Timeline};

/// Way for a node to become a standby of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejoinMethod {
    /// The node's WAL is part of the primary's history: it streams from there.
    Follow,
    /// The node has WAL that is not in the primary's history.
    Rewind(Divergence),
}

/// Divergence of a node from its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// The node has WAL past the fork at which the primary's history left its timeline.
    Past {
        /// Timeline of the node.
        timeline: Timeline,
        /// Position of the fork.
        left_at: Lsn,
        /// End of the node's WAL.
        came_to: Lsn,
    },
    /// The node's timeline is not in the primary's history.
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
                    "timeline {timeline} was left by the primary at {left_at}, and this node has WAL up to {came_to}"
                )
            }
            Self::UnknownTimeline(timeline) => {
                write!(
                    f,
                    "the primary's history does not contain timeline {timeline}"
                )
            }
        }
    }
}

/// Compares a node's progress with the primary's timeline and its history.
///
/// A timeline above the primary's is not in its history either. Numbers are reserved in the lease one by one,
/// so another node began it and lost the lease.
pub fn rejoin_method(own: ReplayProgress, primary: Timeline, history: &[Ancestor]) -> RejoinMethod {
    if own.timeline == primary {
        return RejoinMethod::Follow;
    }
    let Some(branch) = history
        .iter()
        .find(|ancestor| ancestor.timeline == own.timeline)
    else {
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
    fn wal_past_the_fork_then_rewind() {
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
