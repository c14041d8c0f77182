//! What would happen if it were done wrong. Each mistake is made in the world around the agent and
//! its guard, never in them, and has to be caught: a property that no mistake can violate says nothing.

use causeway_core::agent::AgentConfig;

use crate::cluster::Cluster;
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::{HISTORIES, first_violation, told};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The deadlines count from when the grant was read.
    CountFromTheAnswer,
    /// The challenger waits until the holder's deadline, and no longer.
    DropTheMargin,
    /// Guard is told how much time is left, and not until when.
    BelieveALateGrant,
    /// Nothing but the agent ends PostgreSQL.
    ForgetGuard,
    /// PostgreSQL chooses the number of the timeline.
    ReuseATimeline,
    /// Guard trusts what was checked before the order was sent.
    ActAfterAFreeze,
    /// The store does not look at the condition.
    PutUnconditionally,
    /// A missing lease is a free one.
    TakeAMissingLease,
    /// Whoever is refused goes on as if the lease were renewed.
    TakeARefusalForAGrant,
    /// The lease is released while PostgreSQL still drains.
    ReleaseBeforeTheEnd,
    /// Time is what a clock says that is being slewed.
    BelieveASlewedClock,
    /// The challenger's wait counts from when it asked.
    CountTheWaitFromTheAsking,
    /// Guard kills the postmaster and not its backends.
    LeaveBackendsBehind,
    /// PostgreSQL goes on when guard is gone.
    LetPostgresOutliveGuard,
    /// What is seen of the server may be older than the last order to it.
    ObserveBeforeTheCommand,
    /// A promotion that was cut off has left the history file of the number that it tried.
    PromoteOverAHistory,
    /// Guard starts a standby with the placeholders of a promotion that was cut off.
    LeavePlaceholdersBehind,
    /// Starts are not counted.
    CountNoStarts,
    /// A start counts only if the server had served before.
    CountStartsAfterService,
    /// A holder without a guard goes on with what it saw last.
    RenewWithoutGuard,
    /// A new primary acknowledges commits before the lease says that it is open.
    AcknowledgeBeforeOpen,
    /// Whoever has the holder's name is the holder.
    ResumeOnAnotherHost,
    /// The last primary comes back whatever its disk holds.
    IgnoreThePosition,
    /// Nothing ends a guard that is frozen together with its agent.
    NoSupervisor,
    /// The supervisor hears of a server that may write once it runs.
    AnnounceAfterTheStart,
    /// Every node is in the holder's region.
    TakeOverAcrossRegions,
    /// A server that answers and proves no write is kept.
    KeepTheUnproven,
    /// An agent that is started again knows nothing of what its server did not do before.
    ForgetIdleness,
    /// A start or promotion has a limit although its replay advances.
    LimitReplay,
    /// Agents report no problem.
    ReportNothing,
}

/// The only faults that may happen, for a mistake that shows in so few histories that all of them would
/// have to be told.
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
        Mutant::BelieveASlewedClock,
        &[Fault::CutFromStore, Fault::FreezeAgent],
    ),
    (Mutant::ActAfterAFreeze, &[Fault::FreezeBeforeTheStart]),
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
    (Mutant::KeepTheUnproven, &[Fault::FailWrites]),
    (
        Mutant::ForgetIdleness,
        &[Fault::KeepCrashingAgent, Fault::HangPostgres],
    ),
    (Mutant::LimitReplay, &[Fault::ReplayForLong]),
];

impl Mutant {
    /// Returns whether a violation is one that this mutant leads to: a mutant that endangers service is shown
    /// by any, and one that endangers data only by such.
    pub(crate) fn is_shown_by(self, violation: &Violation) -> bool {
        let endangers_service = matches!(
            self,
            Self::LeavePlaceholdersBehind
                | Self::CountNoStarts
                | Self::CountStartsAfterService
                | Self::RenewWithoutGuard
                | Self::TakeOverAcrossRegions
                | Self::KeepTheUnproven
                | Self::ForgetIdleness
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

/// Checks that the mistake is caught in one of the histories that are all good without it.
fn is_caught(mutant: Mutant) {
    let only = mutant.faults();
    let Some((seed, violation)) = first_violation(only, Some(mutant), 0..HISTORIES) else {
        panic!("{mutant:?} was not caught in {HISTORIES} histories");
    };
    println!("{mutant:?} was caught by seed {seed}: {violation}");
    if let Err(violation) = Cluster::new(seed, only, None).run() {
        panic!("{}", told(seed, only, None, &violation));
    }
}

#[test]
fn counting_the_lease_from_the_answer_is_caught() {
    is_caught(Mutant::CountFromTheAnswer);
}

#[test]
fn dropping_the_margin_is_caught() {
    is_caught(Mutant::DropTheMargin);
}

#[test]
fn believing_a_late_grant_is_caught() {
    is_caught(Mutant::BelieveALateGrant);
}

#[test]
fn forgetting_the_guard_is_caught() {
    is_caught(Mutant::ForgetGuard);
}

#[test]
fn reusing_a_timeline_number_is_caught() {
    is_caught(Mutant::ReuseATimeline);
}

#[test]
fn acting_after_a_freeze_between_check_and_act_is_caught() {
    is_caught(Mutant::ActAfterAFreeze);
}

#[test]
fn writing_the_lease_unconditionally_is_caught() {
    is_caught(Mutant::PutUnconditionally);
}

#[test]
fn believing_a_missing_lease_to_be_free_is_caught() {
    is_caught(Mutant::TakeAMissingLease);
}

#[test]
fn going_on_after_being_deposed_is_caught() {
    is_caught(Mutant::TakeARefusalForAGrant);
}

#[test]
fn releasing_the_lease_while_postgres_drains_is_caught() {
    is_caught(Mutant::ReleaseBeforeTheEnd);
}

#[test]
fn believing_a_slewed_clock_is_caught() {
    is_caught(Mutant::BelieveASlewedClock);
}

#[test]
fn counting_the_wait_from_the_asking_is_caught() {
    is_caught(Mutant::CountTheWaitFromTheAsking);
}

#[test]
fn leaving_backends_behind_is_caught() {
    is_caught(Mutant::LeaveBackendsBehind);
}

#[test]
fn letting_postgres_outlive_its_guard_is_caught() {
    is_caught(Mutant::LetPostgresOutliveGuard);
}

#[test]
fn deciding_on_a_look_from_before_the_last_order_is_caught() {
    is_caught(Mutant::ObserveBeforeTheCommand);
}

#[test]
fn promoting_over_a_history_file_is_caught() {
    is_caught(Mutant::PromoteOverAHistory);
}

#[test]
fn leaving_placeholders_behind_is_caught() {
    is_caught(Mutant::LeavePlaceholdersBehind);
}

#[test]
fn counting_no_starts_is_caught() {
    is_caught(Mutant::CountNoStarts);
}

#[test]
fn counting_only_starts_after_service_is_caught() {
    is_caught(Mutant::CountStartsAfterService);
}

#[test]
fn renewing_without_a_guard_is_caught() {
    is_caught(Mutant::RenewWithoutGuard);
}

#[test]
fn acknowledging_before_open_is_caught() {
    is_caught(Mutant::AcknowledgeBeforeOpen);
}

#[test]
fn resuming_on_another_host_is_caught() {
    is_caught(Mutant::ResumeOnAnotherHost);
}

#[test]
fn ignoring_the_position_is_caught() {
    is_caught(Mutant::IgnoreThePosition);
}

#[test]
fn having_no_supervisor_is_caught() {
    is_caught(Mutant::NoSupervisor);
}

#[test]
fn announcing_after_the_start_is_caught() {
    is_caught(Mutant::AnnounceAfterTheStart);
}

#[test]
fn taking_over_across_regions_is_caught() {
    is_caught(Mutant::TakeOverAcrossRegions);
}

#[test]
fn keeping_a_server_without_a_proven_write_is_caught() {
    is_caught(Mutant::KeepTheUnproven);
}

#[test]
fn forgetting_idleness_is_caught() {
    is_caught(Mutant::ForgetIdleness);
}

#[test]
fn limiting_a_replay_that_advances_is_caught() {
    is_caught(Mutant::LimitReplay);
}

#[test]
fn reporting_nothing_is_caught() {
    is_caught(Mutant::ReportNothing);
}
