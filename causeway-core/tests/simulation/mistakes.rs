//! What would happen if it were done wrong. Each mistake is made in the world around the agent and
//! its guard, never in them, and has to be caught: a property that no mistake can violate says nothing.

use causeway_core::agent::Settings;

use crate::cluster::Cluster;
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::{HISTORIES, first_violation, told};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
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
    LookBeforeTheOrder,
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
const ONLY: [(Mistake, &[Fault]); 16] = [
    (
        Mistake::CountTheWaitFromTheAsking,
        &[Fault::CutFromStore, Fault::FreezeAgent],
    ),
    (
        Mistake::CountFromTheAnswer,
        &[Fault::CutFromStore, Fault::FreezeAgent],
    ),
    (
        Mistake::BelieveASlewedClock,
        &[Fault::CutFromStore, Fault::FreezeAgent],
    ),
    (Mistake::ActAfterAFreeze, &[Fault::FreezeBeforeTheStart]),
    (
        Mistake::LeavePlaceholdersBehind,
        &[Fault::CrashPostgres, Fault::CrashGuard, Fault::FreezeAgent],
    ),
    (Mistake::CountNoStarts, &[Fault::BreakConfiguration]),
    (
        Mistake::CountStartsAfterService,
        &[Fault::BreakConfiguration],
    ),
    (Mistake::RenewWithoutGuard, &[Fault::LoseGuard]),
    (
        Mistake::AcknowledgeBeforeOpen,
        &[Fault::CutFromStore, Fault::FreezeAgent, Fault::FailWrites],
    ),
    (
        Mistake::ResumeOnAnotherHost,
        &[Fault::CloneHost, Fault::FreezeAgent, Fault::CutFromStore],
    ),
    (
        Mistake::IgnoreThePosition,
        &[Fault::CloneHost, Fault::RebootHost, Fault::CutFromPeers],
    ),
    (Mistake::NoSupervisor, &[Fault::FreezeAgentAndGuard]),
    (
        Mistake::AnnounceAfterTheStart,
        &[Fault::FreezeGuardAfterTheStart],
    ),
    (Mistake::KeepTheUnproven, &[Fault::FailWrites]),
    (
        Mistake::ForgetIdleness,
        &[Fault::KeepCrashingAgent, Fault::HangPostgres],
    ),
    (Mistake::LimitReplay, &[Fault::ReplayForLong]),
];

impl Mistake {
    /// Says whether a violation is one that this mutant leads to: a mutant that endangers service is shown
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
            .find(|(mistake, _)| *mistake == self)
            .map(|(_, faults)| *faults)
    }

    pub(crate) fn set(self, settings: &mut Settings) {
        if self == Self::DropTheMargin {
            settings.timing.term = settings.timing.hard;
            settings.policy.term = settings.timing.hard;
        }
        if self == Self::TakeOverAcrossRegions {
            settings.policy.region_nodes = ["a", "b", "c"].map(|it| it.parse().unwrap()).into();
        }
    }
}

/// Checks that the mistake is caught in one of the histories that are all good without it.
fn is_caught(mistake: Mistake) {
    let only = mistake.faults();
    let Some((seed, violation)) = first_violation(only, Some(mistake), 0..HISTORIES) else {
        panic!("{mistake:?} was not caught in {HISTORIES} histories");
    };
    println!("{mistake:?} was caught by seed {seed}: {violation}");
    if let Err(violation) = Cluster::new(seed, only, None).run() {
        panic!("{}", told(seed, only, None, &violation));
    }
}

#[test]
fn counting_the_lease_from_the_answer_is_caught() {
    is_caught(Mistake::CountFromTheAnswer);
}

#[test]
fn dropping_the_margin_is_caught() {
    is_caught(Mistake::DropTheMargin);
}

#[test]
fn believing_a_late_grant_is_caught() {
    is_caught(Mistake::BelieveALateGrant);
}

#[test]
fn forgetting_the_guard_is_caught() {
    is_caught(Mistake::ForgetGuard);
}

#[test]
fn reusing_a_timeline_number_is_caught() {
    is_caught(Mistake::ReuseATimeline);
}

#[test]
fn acting_after_a_freeze_between_check_and_act_is_caught() {
    is_caught(Mistake::ActAfterAFreeze);
}

#[test]
fn writing_the_lease_unconditionally_is_caught() {
    is_caught(Mistake::PutUnconditionally);
}

#[test]
fn believing_a_missing_lease_to_be_free_is_caught() {
    is_caught(Mistake::TakeAMissingLease);
}

#[test]
fn going_on_after_being_deposed_is_caught() {
    is_caught(Mistake::TakeARefusalForAGrant);
}

#[test]
fn releasing_the_lease_while_postgres_drains_is_caught() {
    is_caught(Mistake::ReleaseBeforeTheEnd);
}

#[test]
fn believing_a_slewed_clock_is_caught() {
    is_caught(Mistake::BelieveASlewedClock);
}

#[test]
fn counting_the_wait_from_the_asking_is_caught() {
    is_caught(Mistake::CountTheWaitFromTheAsking);
}

#[test]
fn leaving_backends_behind_is_caught() {
    is_caught(Mistake::LeaveBackendsBehind);
}

#[test]
fn letting_postgres_outlive_its_guard_is_caught() {
    is_caught(Mistake::LetPostgresOutliveGuard);
}

#[test]
fn deciding_on_a_look_from_before_the_last_order_is_caught() {
    is_caught(Mistake::LookBeforeTheOrder);
}

#[test]
fn promoting_over_a_history_file_is_caught() {
    is_caught(Mistake::PromoteOverAHistory);
}

#[test]
fn leaving_placeholders_behind_is_caught() {
    is_caught(Mistake::LeavePlaceholdersBehind);
}

#[test]
fn counting_no_starts_is_caught() {
    is_caught(Mistake::CountNoStarts);
}

#[test]
fn counting_only_starts_after_service_is_caught() {
    is_caught(Mistake::CountStartsAfterService);
}

#[test]
fn renewing_without_a_guard_is_caught() {
    is_caught(Mistake::RenewWithoutGuard);
}

#[test]
fn acknowledging_before_open_is_caught() {
    is_caught(Mistake::AcknowledgeBeforeOpen);
}

#[test]
fn resuming_on_another_host_is_caught() {
    is_caught(Mistake::ResumeOnAnotherHost);
}

#[test]
fn ignoring_the_position_is_caught() {
    is_caught(Mistake::IgnoreThePosition);
}

#[test]
fn having_no_supervisor_is_caught() {
    is_caught(Mistake::NoSupervisor);
}

#[test]
fn announcing_after_the_start_is_caught() {
    is_caught(Mistake::AnnounceAfterTheStart);
}

#[test]
fn taking_over_across_regions_is_caught() {
    is_caught(Mistake::TakeOverAcrossRegions);
}

#[test]
fn keeping_a_server_without_a_proven_write_is_caught() {
    is_caught(Mistake::KeepTheUnproven);
}

#[test]
fn forgetting_idleness_is_caught() {
    is_caught(Mistake::ForgetIdleness);
}

#[test]
fn limiting_a_replay_that_advances_is_caught() {
    is_caught(Mistake::LimitReplay);
}

#[test]
fn reporting_nothing_is_caught() {
    is_caught(Mistake::ReportNothing);
}
