//! Names of the reasons for which a node does not take the lease.

use strum::VariantNames as _;

use super::{Decision, Escalation, NoAction};

impl Decision {
    /// Returns the name of the reason for not taking the lease; none for a takeover.
    pub fn obstacle(&self) -> Option<&'static str> {
        match self {
            Self::TakeLease(_) => None,
            Self::NoAction(reason) => Some(reason.into()),
            Self::Escalate(reason) => Some(reason.into()),
        }
    }

    /// Returns the name of every such reason.
    pub fn obstacles() -> impl Iterator<Item = &'static str> {
        NoAction::VARIANTS
            .iter()
            .chain(Escalation::VARIANTS)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Epoch;
    use crate::failover::decision::{PromotionMode, Takeover};

    #[test]
    fn reason_then_named_once_and_takeover_has_none() {
        let names: BTreeSet<_> = Decision::obstacles().collect();
        assert_eq!(names.len(), Decision::obstacles().count(), "{names:?}");
        let behind = NoAction::BehindPeer("b".parse().unwrap());
        for (decision, name) in [
            (Decision::NoAction(NoAction::ManualOnly), "manual-only"),
            (Decision::NoAction(behind), "behind-peer"),
            (
                Decision::Escalate(Escalation::OwnWalMissing),
                "own-wal-missing",
            ),
        ] {
            assert_eq!(decision.obstacle(), Some(name));
            assert!(names.contains(name), "{names:?}");
        }
        let takeover = Takeover {
            epoch: Epoch::new(1),
            mode: PromotionMode::Resume,
        };
        assert_eq!(Decision::TakeLease(takeover).obstacle(), None);
    }
}
