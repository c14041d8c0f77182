//! Mutants (mutation testing). Each changes the environment of the agent and its guard, never their code, and
//! must be caught: a property that no mutant violates proves nothing.

use causeway_core::agent::AgentConfig;

use crate::cluster::Cluster;
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::{HISTORIES, failure_report, first_violation};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Deadlines count from the response to the renewal.
    CountFromTheAnswer,
    /// The candidate waits until the holder's kill deadline, and no longer.
    DropTheMargin,
    /// Guard receives the remaining time instead of the deadline.
    TrustALateGrant,
    /// Only the agent ends PostgreSQL.
    DisableGuard,
    /// PostgreSQL chooses the number of the timeline.
    ReuseATimeline,
    /// Guard trusts the check made before the command was sent.
    SkipTheCheckAfterAFreeze,
    /// The store ignores preconditions.
    PutUnconditionally,
    /// A missing lease counts as released.
    TakeAMissingLease,
    /// A rejected write counts as stored.
    TreatARejectionAsAGrant,
    /// The lease is released while PostgreSQL still drains.
    ReleaseBeforeTheEnd,
    /// Time is read from a slewed clock.
    TrustASlewedClock,
    /// The candidate's wait counts from sending the read.
    CountTheWaitFromTheAsking,
    /// Guard kills the postmaster, but not its backends.
    LeaveBackendsBehind,
    /// PostgreSQL keeps running after guard has ended.
    LetPostgresOutliveGuard,
    /// An observation may be older than the last command.
    ObserveBeforeTheCommand,
    /// Guard promotes although an interrupted promotion left the history file of the number.
    PromoteOverAHistory,
    /// Guard starts a standby with the placeholders of an interrupted promotion.
    LeavePlaceholdersBehind,
    /// Starts are not counted.
    CountNoStarts,
    /// A start counts only if the server had served clients before.
    CountStartsAfterService,
    /// A holder without a guard keeps using its last observation.
    RenewWithoutGuard,
    /// A new primary acknowledges commits before the lease is stored as `held`.
    AcknowledgeBeforeOpen,
    /// Every host with the holder's name counts as the holder.
    ResumeOnAnotherHost,
    /// The last primary resumes without the recorded WAL.
    IgnoreThePosition,
    /// No supervisor ends a guard that is frozen together with its agent.
    NoSupervisor,
    /// Guard announces a server that may write only after its start.
    AnnounceAfterTheStart,
    /// Every node is in the holder's region.
    TakeOverAcrossRegions,
    /// A server that responds and proves no write is kept.
    KeepAnUnprovenServer,
    /// A restarted agent counts its server's idle time from zero.
    ResetIdleTime,
    /// A start or promotion has a limit although its replay advances.
    LimitReplay,
    /// Agents report no problem.
    ReportNothing,
}

/// Only faults that may be injected, for a mutant that is caught in too few histories of all faults.
const ONLY: [(Mutant, &[Fault]); 16] = [
    (
        Mutant::CountTheWaitFromTheAsking,
        &[Fault::CutFromStore, Fault::FreezeAgent],
    ),
    (
        Mutant::CountFromTheAnswer,
        &[Fault::CutFromStore, Fault::FreezeAgent],
    ),
    (
        Mutant::TrustASlewedClock,
        &[Fault::CutFromStore, Fault::FreezeAgent],
    ),
    (
        Mutant::SkipTheCheckAfterAFreeze,
        &[Fault::FreezeBeforeTheStart],
    ),
    (
        Mutant::LeavePlaceholdersBehind,
        &[Fault::CrashPostgres, Fault::CrashGuard, Fault::FreezeAgent],
    ),
    (Mutant::CountNoStarts, &[Fault::BreakConfiguration]),
    (
        Mutant::CountStartsAfterService,
        &[Fault::BreakConfiguration],
    ),
    (Mutant::RenewWithoutGuard, &[Fault::LoseGuard]),
    (
        Mutant::AcknowledgeBeforeOpen,
        &[Fault::CutFromStore, Fault::FreezeAgent, Fault::FailWrites],
    ),
    (
        Mutant::ResumeOnAnotherHost,
        &[Fault::CloneHost, Fault::FreezeAgent, Fault::CutFromStore],
    ),
    (
        Mutant::IgnoreThePosition,
        &[Fault::CloneHost, Fault::RebootHost, Fault::CutFromPeers],
    ),
    (Mutant::NoSupervisor, &[Fault::FreezeAgentAndGuard]),
    (
        Mutant::AnnounceAfterTheStart,
        &[Fault::FreezeGuardAfterTheStart],
    ),
    (Mutant::KeepAnUnprovenServer, &[Fault::FailWrites]),
    (
        Mutant::ResetIdleTime,
        &[Fault::KeepCrashingAgent, Fault::HangPostgres],
    ),
    (Mutant::LimitReplay, &[Fault::ReplayForLong]),
];

impl Mutant {
    /// Returns whether a violation catches this mutant: any violation for a mutant that endangers
    /// availability, only one of data safety for the others.
    pub(crate) fn is_shown_by(self, violation: &Violation) -> bool {
        let endangers_service = matches!(
            self,
            Self::LeavePlaceholdersBehind
                | Self::CountNoStarts
                | Self::CountStartsAfterService
                | Self::RenewWithoutGuard
                | Self::TakeOverAcrossRegions
                | Self::KeepAnUnprovenServer
                | Self::ResetIdleTime
                | Self::LimitReplay
                | Self::ReportNothing
        );
        endangers_service || violation.endangers_data()
    }

    fn faults(self) -> Option<&'static [Fault]> {
        ONLY.iter()
            .find(|(mutant, _)| *mutant == self)
            .map(|(_, faults)| *faults)
    }

    pub(crate) fn set(self, settings: &mut AgentConfig) {
        if self == Self::DropTheMargin {
            settings.timing.lease_duration = settings.timing.kill_deadline;
            settings.policy.lease_duration = settings.timing.kill_deadline;
        }
        if self == Self::TakeOverAcrossRegions {
            settings.policy.region_nodes = ["a", "b", "c"].map(|name| name.parse().unwrap()).into();
        }
    }
}

/// Checks that the mutant is caught in a history that has no violation without it.
fn is_caught(mutant: Mutant) {
    let only = mutant.faults();
    let Some((seed, violation)) = first_violation(only, Some(mutant), 0..HISTORIES) else {
        panic!("{mutant:?} was not caught in {HISTORIES} histories");
    };
    println!("{mutant:?} was caught by seed {seed}: {violation}");
    if let Err(violation) = Cluster::new(seed, only, None).run() {
        panic!("{}", failure_report(seed, only, None, &violation));
    }
}

#[test]
fn lease_counted_from_the_response_then_caught() {
    is_caught(Mutant::CountFromTheAnswer);
}

#[test]
fn no_margin_after_the_kill_deadline_then_caught() {
    is_caught(Mutant::DropTheMargin);
}

#[test]
fn late_grant_trusted_then_caught() {
    is_caught(Mutant::TrustALateGrant);
}

#[test]
fn no_guard_then_caught() {
    is_caught(Mutant::DisableGuard);
}

#[test]
fn timeline_number_reused_then_caught() {
    is_caught(Mutant::ReuseATimeline);
}

#[test]
fn frozen_between_check_and_action_then_caught() {
    is_caught(Mutant::SkipTheCheckAfterAFreeze);
}

#[test]
fn lease_written_unconditionally_then_caught() {
    is_caught(Mutant::PutUnconditionally);
}

#[test]
fn missing_lease_taken_then_caught() {
    is_caught(Mutant::TakeAMissingLease);
}

#[test]
fn rejection_treated_as_a_grant_then_caught() {
    is_caught(Mutant::TreatARejectionAsAGrant);
}

#[test]
fn lease_released_while_postgres_drains_then_caught() {
    is_caught(Mutant::ReleaseBeforeTheEnd);
}

#[test]
fn slewed_clock_trusted_then_caught() {
    is_caught(Mutant::TrustASlewedClock);
}

#[test]
fn wait_counted_from_the_request_then_caught() {
    is_caught(Mutant::CountTheWaitFromTheAsking);
}

#[test]
fn backends_left_running_then_caught() {
    is_caught(Mutant::LeaveBackendsBehind);
}

#[test]
fn postgres_outlives_guard_then_caught() {
    is_caught(Mutant::LetPostgresOutliveGuard);
}

#[test]
fn observation_older_than_the_command_then_caught() {
    is_caught(Mutant::ObserveBeforeTheCommand);
}

#[test]
fn promoted_over_a_history_file_then_caught() {
    is_caught(Mutant::PromoteOverAHistory);
}

#[test]
fn placeholders_left_behind_then_caught() {
    is_caught(Mutant::LeavePlaceholdersBehind);
}

#[test]
fn starts_not_counted_then_caught() {
    is_caught(Mutant::CountNoStarts);
}

#[test]
fn only_starts_after_service_counted_then_caught() {
    is_caught(Mutant::CountStartsAfterService);
}

#[test]
fn renewed_without_guard_then_caught() {
    is_caught(Mutant::RenewWithoutGuard);
}

#[test]
fn commits_acknowledged_too_early_then_caught() {
    is_caught(Mutant::AcknowledgeBeforeOpen);
}

#[test]
fn resumed_on_another_host_then_caught() {
    is_caught(Mutant::ResumeOnAnotherHost);
}

#[test]
fn position_ignored_then_caught() {
    is_caught(Mutant::IgnoreThePosition);
}

#[test]
fn no_supervisor_then_caught() {
    is_caught(Mutant::NoSupervisor);
}

#[test]
fn announced_after_the_start_then_caught() {
    is_caught(Mutant::AnnounceAfterTheStart);
}

#[test]
fn takeover_across_regions_then_caught() {
    is_caught(Mutant::TakeOverAcrossRegions);
}

#[test]
fn server_without_a_proven_write_kept_then_caught() {
    is_caught(Mutant::KeepAnUnprovenServer);
}

#[test]
fn idle_time_reset_then_caught() {
    is_caught(Mutant::ResetIdleTime);
}

#[test]
fn advancing_replay_limited_then_caught() {
    is_caught(Mutant::LimitReplay);
}

#[test]
fn no_problem_reported_then_caught() {
    is_caught(Mutant::ReportNothing);
}
