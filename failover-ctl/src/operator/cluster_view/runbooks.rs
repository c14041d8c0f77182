//! Runbooks of what is wrong with a cluster, for `failover-ctl status`.

use causeway_core::problem::ProblemKind;

use super::{ClusterView, FailoverForecast};
use crate::protocol::node_status::NodeRole;

impl ClusterView<'_> {
    /// Returns the runbooks of everything that is wrong, each once, as paths in the repository. The conditions of
    /// the whole cluster come first.
    pub(crate) fn runbooks(&self) -> Vec<String> {
        let mut names = self.cluster_runbooks();
        for (_, status) in &self.nodes {
            match status {
                Some(status) => names.extend(
                    status
                        .problems
                        .iter()
                        .filter_map(|found| runbook(found.problem)),
                ),
                None => names.push("agent-absent"),
            }
        }
        let mut unique = Vec::new();
        for name in names {
            let path = format!("docs/runbooks/{name}.md");
            if !unique.contains(&path) {
                unique.push(path);
            }
        }
        unique
    }

    fn cluster_runbooks(&self) -> Vec<&'static str> {
        let primaries = self
            .statuses()
            .filter(|status| status.role == NodeRole::Primary)
            .count();
        let mut names = Vec::new();
        match primaries {
            0 => names.push("no-primary"),
            1 => {}
            _ => names.push("split-brain"),
        }
        if self.lease.is_err() {
            names.push("quorum-degraded");
        }
        if !matches!(self.forecast(), FailoverForecast::Automatic { .. }) {
            names.push("failover-not-ready");
        }
        names
    }
}

/// Returns the name of a problem's runbook; none if its detail names the remedy.
fn runbook(problem: ProblemKind) -> Option<&'static str> {
    Some(match problem {
        ProblemKind::LeaseUnknown | ProblemKind::LeaseStoreUnreachable => "quorum-degraded",
        ProblemKind::DuplicateNode => "split-brain",
        ProblemKind::GuardUnresponsive | ProblemKind::WatchdogNotArmed => "fencing-failed",
        ProblemKind::LeaseMissing
        | ProblemKind::LeaseUnusable
        | ProblemKind::ClusterMismatch
        | ProblemKind::LeaseRetired
        | ProblemKind::NotWriting
        | ProblemKind::Replaying
        | ProblemKind::NoHolder
        | ProblemKind::OperatorNeeded => "no-primary",
        ProblemKind::ReadOnlyDefault => "api-read-only",
        ProblemKind::ConnectionsExhausted => "connections-exhausted",
        ProblemKind::CannotStart | ProblemKind::CrashLooping => "postgres-down",
        ProblemKind::NotPromotable | ProblemKind::NodesDiffer | ProblemKind::PeerMismatch => {
            "failover-not-ready"
        }
        ProblemKind::NotStreaming
        | ProblemKind::UnknownPrimary
        | ProblemKind::WalRemoved
        | ProblemKind::RejoinFailed => "replica-not-streaming",
        ProblemKind::Diverged
        | ProblemKind::DivergedWalNotSaved
        | ProblemKind::DivergedWalAccumulated => "timeline-diverged",
        ProblemKind::CollationDiffers => "collation-mismatch-between-nodes",
        ProblemKind::ReplayPaused => "replication-lag-high",
        ProblemKind::StateNotStored => "disk-full",
        ProblemKind::RecordNotMoved => "dns-mismatch",
        ProblemKind::OldLeaseNotRetired | ProblemKind::CommandKeyExposed => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_problem_then_its_runbook_names_it() {
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks");
        for problem in ProblemKind::ALL {
            let Some(name) = runbook(problem) else {
                continue;
            };
            let page = pages.join(format!("{name}.md"));
            let text = std::fs::read_to_string(&page)
                .unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            assert!(
                text.contains(&format!("`{problem}`")),
                "{} does not name `{problem}`",
                page.display()
            );
        }
    }
}
