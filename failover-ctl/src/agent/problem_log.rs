//! Current problems of this node, logged when they start and end.

use std::collections::BTreeMap;

use causeway_core::HostInstant;
use causeway_core::problem::{NodeProblem, ProblemKind};
use tracing::{info, warn};

use crate::protocol::node_status::ProblemStatus;

/// Problems found at the last tick, with their start times.
#[derive(Debug, Default)]
pub(crate) struct ProblemLog {
    standing: BTreeMap<ProblemKind, (HostInstant, String)>,
}

impl ProblemLog {
    /// Replaces the problems by those of one tick. New and ended kinds are logged; a changed detail is not, because
    /// it may contain a number that changes at every tick.
    pub(crate) fn update(&mut self, now: HostInstant, found: Vec<NodeProblem>) {
        let mut standing = BTreeMap::new();
        for NodeProblem { kind, detail } in found {
            let since = match self.standing.remove(&kind) {
                Some((since, _)) => since,
                None if standing.contains_key(&kind) => continue,
                None => {
                    warn!(problem = kind.name(), detail, "problem found");
                    now
                }
            };
            standing.insert(kind, (since, detail));
        }
        for (kind, (since, _)) in &self.standing {
            let stood_secs = now.elapsed_lower_bound(*since).as_secs_f64();
            info!(problem = kind.name(), stood_secs, "problem ended");
        }
        self.standing = standing;
    }

    /// Returns the problems for `/status`.
    pub(crate) fn status(&self, now: HostInstant) -> Vec<ProblemStatus> {
        self.standing
            .iter()
            .map(|(kind, (since, detail))| ProblemStatus {
                problem: *kind,
                detail: detail.clone(),
                since_secs: now.elapsed_lower_bound(*since).as_secs_f64(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: u64) -> HostInstant {
        HostInstant::at(Duration::from_secs(secs))
    }

    #[test]
    fn problem_continues_then_start_time_kept() {
        let mut log = ProblemLog::default();
        let problem = |detail: &str| vec![NodeProblem::new(ProblemKind::GuardUnresponsive, detail)];

        log.update(at(10), problem("for 1 s"));
        log.update(at(14), problem("for 5 s"));

        let status = log.status(at(15));
        assert_eq!(status.len(), 1, "{status:?}");
        assert_eq!(status[0].detail, "for 5 s");
        assert!((status[0].since_secs - 5.0).abs() < 0.01, "{status:?}");
    }

    #[test]
    fn problem_ended_then_start_time_reset() {
        let mut log = ProblemLog::default();
        let problem = || vec![NodeProblem::new(ProblemKind::NotWriting, "no proof")];

        log.update(at(10), problem());
        log.update(at(11), Vec::new());
        assert_eq!(log.status(at(11)), []);
        log.update(at(20), problem());

        assert!(log.status(at(21))[0].since_secs < 1.5);
    }
}
