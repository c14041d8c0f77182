//! Consent of the operator to each danger of a plan, before the plan is executed or resumed.
//!
//! A consent is valid for one run of one command: the cluster may have changed before a plan is resumed.

use std::fmt;

use super::loss::DataLoss;
use super::plan::{FailoverPlan, FencingMethod};
use crate::Timeline;

/// Dangers accepted on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// Data loss accepted, in bytes of WAL.
    pub accept_loss: Option<u64>,
    /// Timeline of the target.
    pub accept_timeline: Option<Timeline>,
    /// Whether the target may order text by another version than the last primary.
    pub accept_collation: bool,
    /// Whether the old primary may be left without a fencing proof.
    pub unfenced: bool,
    /// Whether the old primary's EC2 instance may be stopped.
    pub stop_instance: bool,
}

/// A danger of a plan that the command line does not accept by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingConsent {
    /// `--unfenced`.
    Unfenced,
    /// `--stop-instance`.
    StopInstance,
    /// `--accept-timeline` with this number.
    Timeline(Timeline),
    /// `--accept-collation`.
    Collation,
    /// `--accept-loss` with this many bytes.
    Loss(u64),
}

impl Consent {
    /// Returns the greatest danger of a plan that is not accepted. An operator who reads the plan and
    /// answers yes accepts it; `--yes` alone does not.
    pub fn missing(&self, plan: &FailoverPlan, loss: Option<&DataLoss>) -> Option<MissingConsent> {
        match plan.fence() {
            FencingMethod::Unfenced if !self.unfenced => return Some(MissingConsent::Unfenced),
            FencingMethod::InstanceStopped if !self.stop_instance => {
                return Some(MissingConsent::StopInstance);
            }
            FencingMethod::Unfenced
            | FencingMethod::InstanceStopped
            | FencingMethod::LeaseExpired => {}
        }
        if let Some(timeline) = plan.accept_timeline
            && self.accept_timeline != Some(timeline)
        {
            return Some(MissingConsent::Timeline(timeline));
        }
        if plan.collation_difference.is_some() && !self.accept_collation {
            return Some(MissingConsent::Collation);
        }
        let bytes = loss.map_or(0, |loss| loss.bytes_at_most);
        (bytes > self.accept_loss.unwrap_or(0)).then_some(MissingConsent::Loss(bytes))
    }
}

impl fmt::Display for MissingConsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfenced => f.write_str("--unfenced"),
            Self::StopInstance => f.write_str("--stop-instance"),
            Self::Timeline(timeline) => write!(f, "--accept-timeline {timeline}"),
            Self::Collation => f.write_str("--accept-collation"),
            Self::Loss(bytes) => write!(f, "--accept-loss {bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::collation::{CollationDifference, CollationProvider};
    use super::super::plan::PlanStep;
    use super::*;
    use crate::Epoch;

    #[test]
    fn danger_not_named_then_missing() {
        let plan = plan(FencingMethod::Unfenced, Timeline::new(3));
        let mut consent = Consent::default();
        assert_eq!(
            consent.missing(&plan, Some(&loss(9))),
            Some(MissingConsent::Unfenced)
        );
        consent.unfenced = true;
        let timeline = Timeline::new(3).unwrap();
        assert_eq!(
            consent.missing(&plan, Some(&loss(9))),
            Some(MissingConsent::Timeline(timeline))
        );
        consent.accept_timeline = Some(timeline);
        assert_eq!(
            consent.missing(&plan, Some(&loss(9))),
            Some(MissingConsent::Loss(9))
        );
        consent.accept_loss = Some(8);
        assert_eq!(
            consent.missing(&plan, Some(&loss(9))),
            Some(MissingConsent::Loss(9))
        );
        consent.accept_loss = Some(9);
        assert_eq!(consent.missing(&plan, Some(&loss(9))), None);
    }

    #[test]
    fn other_danger_named_then_missing() {
        let consent = Consent {
            unfenced: true,
            accept_loss: Some(u64::MAX),
            ..Consent::default()
        };
        let missing = |method| consent.missing(&plan(method, None), Some(&loss(9)));
        assert_eq!(
            missing(FencingMethod::InstanceStopped),
            Some(MissingConsent::StopInstance)
        );
        assert_eq!(missing(FencingMethod::LeaseExpired), None);
    }

    #[test]
    fn collation_differs_then_missing_until_named() {
        let plan = FailoverPlan {
            collation_difference: Some(CollationDifference {
                provider: CollationProvider::Libc,
                here: "2.36".to_owned(),
                there: "2.31".to_owned(),
                primary: Some("a".parse().unwrap()),
            }),
            ..plan(FencingMethod::LeaseExpired, None)
        };
        let missing = |accept_collation| {
            let consent = Consent {
                accept_collation,
                accept_loss: Some(9),
                ..Consent::default()
            };
            consent.missing(&plan, Some(&loss(9)))
        };
        assert_eq!(missing(false), Some(MissingConsent::Collation));
        assert_eq!(missing(true), None);
        let text = plan.to_string();
        assert!(
            text.contains("libc 2.36, and the primary `a` by 2.31"),
            "{text}"
        );
    }

    #[test]
    fn no_danger_then_no_consent_missing() {
        let plan = plan(FencingMethod::LeaseExpired, None);
        assert_eq!(Consent::default().missing(&plan, None), None);
        assert_eq!(Consent::default().missing(&plan, Some(&loss(0))), None);
    }

    fn loss(bytes: u64) -> DataLoss {
        DataLoss {
            known_bytes: bytes,
            unseen: Duration::ZERO,
            bytes_at_most: bytes,
            rows_at_most: 0,
            last_commit_at_micros: 0,
            parted: None,
            unopened: None,
        }
    }

    fn plan(method: FencingMethod, accept_timeline: Option<Timeline>) -> FailoverPlan {
        let node = "a".parse().unwrap();
        FailoverPlan {
            to: "c".parse().unwrap(),
            from: "a".parse().unwrap(),
            planned_epoch: Epoch::new(7),
            data_loss: None,
            accept_timeline,
            collation_difference: None,
            steps: vec![PlanStep::Fence { node, method }],
        }
    }
}
