//! What would happen if it were done wrong. Each mistake is made in the world around the agent and
//! its guard, never in them, and has to be caught: a property that no mistake can violate says nothing.

use ha_core::agent::Settings;

use crate::cluster::Cluster;
use crate::faults::Fault;
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
}

/// The only faults that may happen, for a mistake that shows in so few histories that all of them would
/// have to be told.
const ONLY: [(Mistake, &[Fault]); 1] = [(Mistake::ActAfterAFreeze, &[Fault::FreezeBeforeTheStart])];

impl Mistake {
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
    }
}

/// Checks that the mistake is caught in one of the histories that are all good without it.
fn is_caught(mistake: Mistake) {
    let only = mistake.faults();
    let Some((seed, violation)) = first_violation(only, Some(mistake), HISTORIES) else {
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
