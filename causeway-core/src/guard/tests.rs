//! Deadlines, wall-clock jumps and the supervisor, one situation at a time.

use super::*;

fn at(secs: u64) -> HostInstant {
    HostInstant::at(Duration::from_secs(secs))
}

fn deadline(epoch: u64, requested_at: u64) -> GuardDeadline {
    GuardDeadline {
        epoch: Epoch::new(epoch),
        requested_at: at(requested_at),
        stop_at: at(requested_at + 7),
        kill_at: at(requested_at + 9),
    }
}

fn armed() -> Guard {
    let mut guard = Guard::new();
    guard.accept_deadline(deadline(3, 100)).unwrap();
    guard
}

#[test]
fn deadline_passed_then_primary_ended_and_standby_kept() {
    let mut guard = armed();
    let wall = Duration::from_secs;

    assert_eq!(
        guard.tick(at(101), wall(1), PostgresProcess::MayWrite),
        GuardAction::None
    );
    assert_eq!(
        guard.tick(at(107), wall(7), PostgresProcess::MayWrite),
        GuardAction::FastShutdown
    );
    assert_eq!(
        guard.tick(at(109), wall(9), PostgresProcess::MayWrite),
        GuardAction::Kill
    );
    assert_eq!(
        guard.tick(at(200), wall(100), PostgresProcess::Standby),
        GuardAction::None
    );
    assert_eq!(
        Guard::new().tick(at(1), wall(1), PostgresProcess::MayWrite),
        GuardAction::Kill
    );
}

#[test]
fn unmanaged_postmaster_then_killed_before_the_deadline() {
    assert_eq!(
        armed().tick(at(101), Duration::ZERO, PostgresProcess::Unmanaged),
        GuardAction::Kill
    );
}

#[test]
fn other_epoch_or_under_three_seconds_left_then_no_start() {
    let guard = armed();
    assert_eq!(guard.check_start_allowed(at(104), Epoch::new(3)), Ok(()));
    assert!(matches!(
        guard.check_start_allowed(at(105), Epoch::new(3)),
        Err(DeadlineError::TooLate(_))
    ));
    assert!(matches!(
        guard.check_start_allowed(at(101), Epoch::new(4)),
        Err(DeadlineError::OtherEpoch { .. })
    ));
    assert_eq!(
        Guard::new().check_start_allowed(at(1), Epoch::new(3)),
        Err(DeadlineError::NotArmed)
    );
}

#[test]
fn guard_frozen_then_supervisor_limit_is_within_the_lease() {
    let guard = armed();
    let limit = |secs, server| guard.supervisor_limit(at(secs), server);

    // The kill deadline is at 109, and 0.6 s later no process may be left.
    assert_eq!(
        limit(100, PostgresProcess::MayWrite),
        Duration::from_millis(9_600)
    );
    assert_eq!(
        limit(108, PostgresProcess::MayWrite),
        Duration::from_millis(1_600)
    );
    assert_eq!(
        limit(120, PostgresProcess::MayWrite),
        Duration::from_millis(600)
    );
    assert_eq!(
        limit(120, PostgresProcess::Standby),
        Duration::from_secs(30)
    );
    assert_eq!(
        Guard::new().supervisor_limit(at(1), PostgresProcess::MayWrite),
        Duration::from_millis(600)
    );
}

#[test]
fn stop_deadline_or_other_epoch_then_commits_held_back() {
    let guard = armed();
    assert_eq!(guard.check_commits_allowed(at(106), Epoch::new(3)), Ok(()));
    assert!(guard.check_commits_allowed(at(107), Epoch::new(3)).is_err());
    assert!(guard.check_commits_allowed(at(101), Epoch::new(2)).is_err());
}

#[test]
fn earlier_deadline_or_epoch_then_deadline_unchanged() {
    let mut guard = armed();
    guard.accept_deadline(deadline(3, 90)).unwrap();
    assert_eq!(guard.deadline(), Some(deadline(3, 100)));
    assert!(guard.accept_deadline(deadline(2, 200)).is_err());
    assert_eq!(guard.deadline(), Some(deadline(3, 100)));
}

#[test]
fn host_paused_then_only_a_new_renewal_keeps_the_server() {
    let wall = Duration::from_secs;
    let mut guard = armed();
    assert_eq!(
        guard.tick(at(101), wall(1), PostgresProcess::MayWrite),
        GuardAction::None
    );
    // The wall clock is two hours ahead, and the boot clock has not moved.
    assert_eq!(
        guard.tick(at(101), wall(7201), PostgresProcess::MayWrite),
        GuardAction::None
    );
    assert_eq!(guard.wants_renewal_since(), Some(at(101)));
    assert_eq!(
        guard.tick(at(102), wall(7202), PostgresProcess::MayWrite),
        GuardAction::FastShutdown
    );

    // A renewal sent before the jump does not count, one sent after it does.
    guard.accept_deadline(deadline(3, 100)).unwrap();
    assert_eq!(
        guard.tick(at(102), wall(7202), PostgresProcess::MayWrite),
        GuardAction::FastShutdown
    );
    guard.accept_deadline(deadline(3, 102)).unwrap();
    assert_eq!(
        guard.tick(at(103), wall(7203), PostgresProcess::MayWrite),
        GuardAction::None
    );
}
