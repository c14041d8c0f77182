//! Problems that keep this node from streaming.

use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::problem::{NodeProblem, ProblemKind};

use crate::agent::standby::state::StandbyState;
use crate::agent::standby_setup::StandbySetupError;
use crate::agent::standby_setup::comparison::RejoinNeed;

/// Time without streaming that is a problem: a restart of either server takes less.
const NOT_STREAMING_TIMEOUT: Duration = Duration::from_secs(10);

impl StandbyState {
    /// Returns the problems at `now`.
    pub(crate) fn problems(&self, now: HostInstant) -> Vec<NodeProblem> {
        let mut problems = Vec::new();
        let mut add = |kind, detail: String| problems.push(NodeProblem::new(kind, detail));
        if let Some(unknown) = &self.unknown {
            add(
                ProblemKind::UnknownPrimary,
                format!(
                    "the lease names `{unknown}`, which is not in this node's `[[nodes]]`: add it"
                ),
            );
        }
        match &self.need {
            Some(RejoinNeed::Rewind(why)) => {
                add(ProblemKind::Diverged, format!("{why}; `rejoin` rewinds it"));
            }
            Some(RejoinNeed::Copy(why)) => {
                add(
                    ProblemKind::WalRemoved,
                    format!("{why}; `rejoin` copies it"),
                );
            }
            Some(RejoinNeed::Ready) | None => {}
        }
        match &self.trouble {
            Some(trouble @ StandbySetupError::NotSaved(_)) => {
                add(
                    ProblemKind::DivergedWalNotSaved,
                    causeway_runtime::telemetry::chain(trouble),
                );
            }
            Some(trouble @ StandbySetupError::Rebuild(_)) => {
                add(
                    ProblemKind::RejoinFailed,
                    causeway_runtime::telemetry::chain(trouble),
                );
            }
            Some(StandbySetupError::PrimarySilent(_) | StandbySetupError::Here(_)) | None => {}
        }
        if self.paused {
            add(
                ProblemKind::ReplayPaused,
                "replay is paused: `select pg_wal_replay_resume()` continues it".to_owned(),
            );
        }
        if let Some(count) = self.unexamined {
            add(
                ProblemKind::DivergedWalAccumulated,
                format!(
                    "{count} saves in `diverged` of the state directory: examine and remove them"
                ),
            );
        }
        let since = self
            .not_streaming_since
            .map(|since| now.elapsed_lower_bound(since));
        if since.is_some_and(|elapsed| elapsed >= NOT_STREAMING_TIMEOUT) {
            add(ProblemKind::NotStreaming, self.not_streaming_reason());
        }
        problems
    }

    /// Returns the most specific known reason why the standby does not stream.
    fn not_streaming_reason(&self) -> String {
        let from = self.primary().map_or("the primary", |node| node.as_str());
        let reason = match (&self.need, &self.trouble, self.busy) {
            (_, _, Some(busy)) => busy.to_owned(),
            (Some(RejoinNeed::Rewind(_)), _, _) => "this node has diverged".to_owned(),
            (Some(RejoinNeed::Copy(_)), _, _) => "the WAL that it needs was removed".to_owned(),
            (_, Some(trouble), _) => causeway_runtime::telemetry::chain(trouble),
            _ if self.failed_starts > 1 => {
                format!(
                    "PostgreSQL exited {} times before it streamed",
                    self.failed_starts
                )
            }
            (_, None, None) => match &self.why {
                Some(why) => why.clone(),
                None => "unknown reason, see PostgreSQL's log".to_owned(),
            },
        };
        format!("no WAL received from `{from}`: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use causeway_core::failover::observation::{DataDirectoryState, ServerView};

    use super::*;

    fn at(secs: u64) -> HostInstant {
        HostInstant::at(Duration::from_secs(secs))
    }

    fn kinds(standby: &StandbyState, now: HostInstant) -> Vec<ProblemKind> {
        standby
            .problems(now)
            .iter()
            .map(|problem| problem.kind)
            .collect()
    }

    #[test]
    fn ended_server_then_not_streaming_after_ten_seconds() {
        let mut standby = StandbyState::default();
        standby.set_primary(&"a".parse().unwrap());
        standby.observe(
            at(1),
            ServerView::Stopped(DataDirectoryState::Standby),
            false,
        );

        assert_eq!(kinds(&standby, at(10)), []);
        assert_eq!(kinds(&standby, at(11)), [ProblemKind::NotStreaming]);
    }

    #[test]
    fn walreceiver_fails_again_and_again_then_not_streaming() {
        let mut standby = StandbyState::default();
        standby.set_primary(&"a".parse().unwrap());
        let progress = causeway_core::failover::observation::ReplayProgress {
            timeline: causeway_core::Timeline::FIRST,
            received_lsn: causeway_core::Lsn::new(1),
            replayed_lsn: causeway_core::Lsn::new(1),
        };
        // Each time it calls itself streaming for a moment.
        for second in 1..13 {
            let streams = standby.record_streaming(at(second), second % 2 == 0);
            standby.observe(at(second), ServerView::Standby(progress), streams);
        }
        assert_eq!(kinds(&standby, at(13)), [ProblemKind::NotStreaming]);
        assert!(!standby.record_streaming(at(13), true));
        assert!(standby.record_streaming(at(15), true), "it has lasted");
    }

    #[test]
    fn save_failed_then_named_and_rebuild_still_wanted() {
        let mut standby = StandbyState::default();
        standby.set_primary(&"a".parse().unwrap());
        let trouble = StandbySetupError::NotSaved(anyhow::anyhow!("no room"));
        standby.record_failure(at(1), trouble, Duration::from_secs(2));

        assert_eq!(kinds(&standby, at(2)), [ProblemKind::DivergedWalNotSaved]);
        assert!(standby.is_backing_off(at(2)), "tried again too early");
        assert!(!standby.is_backing_off(at(3)), "never tried again");
    }

    #[test]
    fn primary_changes_then_comparison_cleared() {
        let mut standby = StandbyState::default();
        standby.set_primary(&"a".parse().unwrap());
        standby.need = Some(RejoinNeed::Copy("gone".to_owned()));
        standby.set_primary(&"b".parse().unwrap());

        assert_eq!(kinds(&standby, at(2)), []);
    }
}
