//! What keeps this node from following, named for status, metric and log.

use std::time::Duration;

use causeway_core::HostInstant;
use causeway_core::problem::{NodeProblem, ProblemKind};

use crate::agent::standby::state::StandbyState;
use crate::agent::standby_setup::StandbySetupError;
use crate::agent::standby_setup::comparison::RejoinNeed;

/// For how long a standby may not stream before that is a problem: a restart of either end takes less.
const NOT_STREAMING: Duration = Duration::from_secs(10);

impl StandbyState {
    /// Returns what keeps this node from following at this moment.
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
                ProblemKind::DivergedWalKept,
                format!(
                    "{count} saves in `diverged` of the state directory: examine and remove them"
                ),
            );
        }
        let since = self
            .not_streaming_since
            .map(|since| now.elapsed_lower_bound(since));
        if since.is_some_and(|elapsed| elapsed >= NOT_STREAMING) {
            add(ProblemKind::NotStreaming, self.why_not());
        }
        problems
    }

    /// Returns the best reason known for which the server does not stream.
    fn why_not(&self) -> String {
        let from = self.primary().map_or("the primary", |node| node.as_str());
        let why = match (&self.need, &self.trouble, self.busy) {
            (_, _, Some(busy)) => busy.to_owned(),
            (Some(RejoinNeed::Rewind(_)), _, _) => "it has diverged".to_owned(),
            (Some(RejoinNeed::Copy(_)), _, _) => "WAL that it needs is removed".to_owned(),
            (_, Some(trouble), _) => causeway_runtime::telemetry::chain(trouble),
            _ if self.failed_starts > 1 => {
                format!(
                    "PostgreSQL ended {} times before it could follow",
                    self.failed_starts
                )
            }
            (_, None, None) => match &self.why {
                Some(why) => why.clone(),
                None => "the reason is not known: see PostgreSQL's log".to_owned(),
            },
        };
        format!("it receives nothing from `{from}`: {why}")
    }
}

#[cfg(test)]
mod tests {
    use causeway_core::failover::observation::{DataDirectoryState, ServerView};

    use super::*;

    fn at(secs: u64) -> HostInstant {
        HostInstant::at(Duration::from_secs(secs))
    }

    fn kinds(following: &StandbyState, now: HostInstant) -> Vec<ProblemKind> {
        following.problems(now).iter().map(|problem| problem.kind).collect()
    }

    #[test]
    fn ended_server_then_not_streaming_after_ten_seconds() {
        let mut following = StandbyState::default();
        following.follows(&"a".parse().unwrap());
        following.watch(
            at(1),
            ServerView::Stopped(DataDirectoryState::Standby),
            false,
        );

        assert_eq!(kinds(&following, at(10)), []);
        assert_eq!(kinds(&following, at(11)), [ProblemKind::NotStreaming]);
    }

    #[test]
    fn walreceiver_fails_again_and_again_then_not_streaming() {
        let mut following = StandbyState::default();
        following.follows(&"a".parse().unwrap());
        let progress = causeway_core::failover::observation::ReplayProgress {
            timeline: causeway_core::Timeline::FIRST,
            received_lsn: causeway_core::Lsn::new(1),
            replayed_lsn: causeway_core::Lsn::new(1),
        };
        // Each time it calls itself streaming for a moment.
        for second in 1..13 {
            let streams = following.note_streaming(at(second), second % 2 == 0);
            following.watch(at(second), ServerView::Standby(progress), streams);
        }
        assert_eq!(kinds(&following, at(13)), [ProblemKind::NotStreaming]);
        assert!(!following.note_streaming(at(13), true));
        assert!(following.note_streaming(at(15), true), "it has lasted");
    }

    #[test]
    fn save_failed_then_named_and_rebuild_still_wanted() {
        let mut following = StandbyState::default();
        following.follows(&"a".parse().unwrap());
        let trouble = StandbySetupError::NotSaved(anyhow::anyhow!("no room"));
        following.failed(at(1), trouble, Duration::from_secs(2));

        assert_eq!(kinds(&following, at(2)), [ProblemKind::DivergedWalNotSaved]);
        assert!(following.waits(at(2)), "tried again too early");
        assert!(!following.waits(at(3)), "never tried again");
    }

    #[test]
    fn primary_changes_then_what_was_found_about_the_old_is_forgotten() {
        let mut following = StandbyState::default();
        following.follows(&"a".parse().unwrap());
        following.need = Some(RejoinNeed::Copy("gone".to_owned()));
        following.follows(&"b".parse().unwrap());

        assert_eq!(kinds(&following, at(2)), []);
    }
}
