//! Watch over guard: a PostgreSQL that may accept writes although its node may not.

use super::{GuardDeadline, PostgresProcess};
use crate::HostInstant;
use crate::lease::GUARD_LATENCY;

/// Time since which PostgreSQL may accept writes although the kill deadline has passed, or without a deadline.
#[derive(Clone, Copy, Debug, Default)]
pub struct FencingWatch {
    since: Option<HostInstant>,
}

impl FencingWatch {
    /// Records guard's report, and returns whether guard has failed to end such a server in the time that it may need. No
    /// report changes nothing: a silent guard has not shown that the server has ended.
    pub fn observe(
        &mut self,
        now: HostInstant,
        report: Option<(PostgresProcess, Option<GuardDeadline>)>,
    ) -> bool {
        let is_overdue = match report {
            Some((PostgresProcess::Unmanaged, _)) => true,
            Some((PostgresProcess::MayWrite, deadline)) => {
                deadline.is_none_or(|deadline| now.has_passed_on_any_clock(deadline.kill_at))
            }
            Some((PostgresProcess::Stopped | PostgresProcess::Standby, _)) => false,
            None => self.since.is_some(),
        };
        self.since = is_overdue.then(|| self.since.unwrap_or(now));
        self.since
            .is_some_and(|since| now.elapsed_lower_bound(since) >= GUARD_LATENCY)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Epoch;

    fn at(millis: u64) -> HostInstant {
        HostInstant::at(Duration::from_millis(millis))
    }

    fn deadline() -> GuardDeadline {
        GuardDeadline {
            epoch: Epoch::new(1),
            requested_at: at(0),
            stop_at: at(7_300),
            kill_at: at(8_800),
        }
    }

    #[test]
    fn kill_deadline_passed_then_unfenced_after_guards_latency() {
        let mut watch = FencingWatch::default();
        let report = Some((PostgresProcess::MayWrite, Some(deadline())));

        assert!(!watch.observe(at(8_700), report));
        assert!(!watch.observe(at(8_800), report));
        assert!(!watch.observe(at(9_300), report));
        assert!(watch.observe(at(9_400), report));
        assert!(!watch.observe(
            at(9_500),
            Some((PostgresProcess::Stopped, Some(deadline())))
        ));
    }

    #[test]
    fn unmanaged_or_without_deadline_then_unfenced_unless_ended_at_once() {
        for process in [PostgresProcess::Unmanaged, PostgresProcess::MayWrite] {
            let mut watch = FencingWatch::default();
            assert!(!watch.observe(at(0), Some((process, None))));
            assert!(!watch.observe(at(100), Some((PostgresProcess::Stopped, None))));
            assert!(!watch.observe(at(700), Some((process, None))));
            assert!(
                watch.observe(at(1_300), Some((process, None))),
                "{process:?}"
            );
        }
    }

    #[test]
    fn guard_silent_then_unfenced_server_not_taken_as_ended() {
        let mut watch = FencingWatch::default();
        assert!(!watch.observe(at(0), Some((PostgresProcess::Unmanaged, None))));
        assert!(watch.observe(at(700), None));
        assert!(!watch.observe(at(800), Some((PostgresProcess::Standby, None))));
        assert!(!watch.observe(at(900), None));
    }

    #[test]
    fn standby_or_guard_always_silent_then_fenced() {
        let mut watch = FencingWatch::default();
        for report in [None, Some((PostgresProcess::Standby, None))] {
            assert!(!watch.observe(at(0), report));
            assert!(!watch.observe(at(60_000), report));
        }
    }
}
