//! A holder that serves, stalls or restarts, one situation at a time.

use super::super::tests::{at, observed, settings, up};
use super::*;
use crate::agent::WriteProbeFailure;
use crate::failover::observation::DataDirectoryState;

/// Observes what `observe` returns for each tenth of a second, and returns time and reason of the first
/// release within two minutes.
fn first_release(observe: impl Fn(u64) -> LocalObservation) -> Option<(u64, ReleaseReason)> {
    let mut watch = ServiceWatch::new(at(0), at(0), InheritedDurations::default());
    (0..1_200).find_map(|tenth| {
        let millis = tenth * 100;
        let reason = watch.observe(at(millis), &observe(millis), true, &settings())?;
        Some((millis, reason))
    })
}

fn health(health: ServerHealth) -> LocalObservation {
    LocalObservation {
        health,
        starts: Some(1),
        ..observed(ServerView::MayWrite)
    }
}

fn before(idle: Duration) -> InheritedDurations {
    InheritedDurations {
        unproven: idle,
        idle,
    }
}

#[test]
fn server_ends_at_each_start_then_released() {
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    let found = first_release(|millis| LocalObservation {
        starts: Some(millis / 400),
        ..ended.clone()
    });
    assert_eq!(found, Some((1_600, ReleaseReason::CrashLooping)));
}

#[test]
fn server_ends_twice_a_minute_then_problem() {
    let mut watch = ServiceWatch::new(at(0), at(0), InheritedDurations::default());
    for (secs, starts) in [(1, 1), (25, 2)] {
        let local = LocalObservation {
            starts: Some(starts),
            ..up()
        };
        assert_eq!(
            watch.observe(at(secs * 1_000), &local, true, &settings()),
            None
        );
        assert_eq!(watch.crash_looping(at(secs * 1_000)), None, "{secs}");
    }
    let local = LocalObservation {
        starts: Some(3),
        ..up()
    };
    watch.observe(at(50_000), &local, true, &settings());
    let named = watch.crash_looping(at(50_000)).unwrap();
    assert_eq!(named.kind, ProblemKind::CrashLooping);
    assert_eq!(watch.crash_looping(at(120_000)), None);
}

#[test]
fn server_ends_after_each_recovery_then_released() {
    // It replays the same WAL for 19 s each time, then fails at a record that it cannot replay.
    let found = first_release(|millis| {
        let server = if millis % 20_000 < 19_000 {
            ServerView::MayWrite
        } else {
            ServerView::Stopped(DataDirectoryState::Primary)
        };
        LocalObservation {
            starts: Some(1 + millis / 20_000),
            replay: Some(millis % 20_000),
            health: ServerHealth::Recovering,
            ..observed(server)
        }
    });
    assert!(
        matches!(found, Some((_, ReleaseReason::CrashLooping))),
        "{found:?}"
    );
}

#[test]
fn empty_directory_then_released_after_start_timeout() {
    let found = first_release(|_| observed(ServerView::Stopped(DataDirectoryState::Empty)));
    assert_eq!(found, Some((60_000, ReleaseReason::NotUpInTime)));
}

#[test]
fn agent_restarted_then_idle_time_continues() {
    let silent = health(ServerHealth::Unresponsive);
    let mut idle = Duration::ZERO;
    let released = (0..10).find_map(|life| {
        let begin = at(life * 3_000);
        let mut watch = ServiceWatch::new(begin, begin, before(idle));
        let end = at(life * 3_000 + 2_500);
        let reason = watch.observe(end, &silent, true, &settings());
        idle = watch.idle(end);
        reason
    });
    assert_eq!(released, Some(ReleaseReason::AnswersNothing));
}

#[test]
fn write_proven_then_idle_time_reset() {
    let mut watch = ServiceWatch::new(at(0), at(0), before(Duration::from_secs(50)));
    assert_eq!(watch.observe(at(100), &up(), true, &settings()), None);
    assert_eq!(watch.idle(at(100)), Duration::ZERO);
}

#[test]
fn replay_advances_then_not_released() {
    let found = first_release(|millis| LocalObservation {
        replay: Some(millis / 50_000),
        ..health(ServerHealth::Recovering)
    });
    assert_eq!(found, None);
}

#[test]
fn replay_stalls_then_released_after_start_timeout() {
    let found = first_release(|_| LocalObservation {
        replay: Some(7),
        ..health(ServerHealth::Recovering)
    });
    assert_eq!(found, Some((60_000, ReleaseReason::NotUpInTime)));
}

#[test]
fn silent_server_then_released_after_probe_timeout() {
    let found = first_release(|_| health(ServerHealth::Unresponsive));
    assert_eq!(found, Some((5_000, ReleaseReason::AnswersNothing)));
}

#[test]
fn write_stalls_then_released_after_stall_timeout() {
    let stalled = WriteProbeFailure::Stalled;
    let found = first_release(|_| health(ServerHealth::Unproven(stalled)));
    assert_eq!(found, Some((20_000, ReleaseReason::CannotWrite(stalled))));
}

#[test]
fn connections_or_transaction_ids_exhausted_then_kept() {
    for failure in [
        WriteProbeFailure::NoConnectionLeft,
        WriteProbeFailure::XidLimit,
    ] {
        let found = first_release(|_| health(ServerHealth::Unproven(failure)));
        assert_eq!(found, None, "{failure}");
    }
}

/// It has served no client yet, and another node may have a connection left.
#[test]
fn connections_exhausted_before_writes_then_released() {
    let full = health(ServerHealth::Unproven(WriteProbeFailure::NoConnectionLeft));
    let mut watch = ServiceWatch::new(at(0), at(0), InheritedDurations::default());
    let found =
        (0..600).find_map(|tenth| watch.observe(at(tenth * 100), &full, false, &settings()));
    let reason = ReleaseReason::CannotWrite(WriteProbeFailure::NoConnectionLeft);
    assert_eq!(found, Some(reason));
}

#[test]
fn short_stall_after_exhausted_connections_then_kept() {
    let found = first_release(|millis| match millis {
        0..60_000 => health(ServerHealth::Unproven(WriteProbeFailure::NoConnectionLeft)),
        60_000..70_000 => health(ServerHealth::Unproven(WriteProbeFailure::Stalled)),
        _ => up(),
    });
    assert_eq!(found, None);
}

#[test]
fn writes_proven_then_kept() {
    assert_eq!(first_release(|_| up()), None);
}

#[test]
fn guard_away_then_no_release_and_no_renewal() {
    let mut watch = ServiceWatch::new(at(0), at(0), InheritedDurations::default());
    let mut guard = GuardWatch::default();
    let unguarded = observed(ServerView::Unguarded);
    for millis in (0..60_000).step_by(100) {
        let reason = watch.observe(at(millis), &unguarded, true, &settings());
        guard.observe(at(millis), &unguarded);
        assert_eq!(reason, None);
        assert_eq!(guard.is_gone(at(millis)), millis >= 8_000, "{millis}");
    }
    guard.observe(at(60_000), &up());
    assert!(!guard.is_gone(at(60_000)));
}
