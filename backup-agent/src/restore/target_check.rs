//! Refusal of targets that recovery would not reach, before anything is restored.

use causeway_core::Timeline;
use causeway_core::backup::RecoveryTarget;

use crate::archive::reach::KnownReach;
use crate::display;
use crate::error::Error;
use crate::restore::request::Boundary;

/// Refuses a target that recovery would not reach. PostgreSQL detects that only after replaying
/// everything (`recovery ended before configured recovery target was reached`).
pub(super) fn refuse_unreachable(
    reach: &KnownReach,
    target: &RecoveryTarget,
    boundary: Boundary,
    asked: Option<Timeline>,
) -> Result<(), Error> {
    if let Some(bucket) = reach.silent.first().cloned() {
        return Err(Error::SilentBucket { bucket });
    }
    let Some(end) = reach.end else {
        return Err(reach.unreachable_target("the WAL that the backup needs is missing".to_owned()));
    };
    match target {
        RecoveryTarget::Time(time) => match end.last_transaction {
            // Recovery stops at the first transaction that ended later or, with an exclusive
            // target, at one that ended at that time.
            Some(last) if last < *time || (last == *time && boundary == Boundary::Inclusive) => Err(reach.unreachable_target(format!(
                "no transaction in it ended after the target time {}, and recovery stops only at a later one",
                display::timestamp(*time),
            ))),
            None if end.is_complete => {
                Err(reach.unreachable_target("it has no commit or abort, and recovery to a time stops only at a later one".to_owned()))
            }
            Some(_) | None => Ok(()),
        },
        RecoveryTarget::Lsn(lsn) => match end.last_record {
            Some(last) if last < *lsn => {
                Err(reach.unreachable_target(format!("the target {lsn} is after its last record")))
            }
            Some(_) | None => Ok(()),
        },
        RecoveryTarget::Latest | RecoveryTarget::Name(_) | RecoveryTarget::Xid(_)
            if asked.is_none() && reach.branch_left.is_some() =>
        {
            Err(reach.unreachable_target(format!(
                "two timelines continue from there, and the target does not select one: `--target-timeline {}` ends where that one began, and `--target-timeline {}` follows the other",
                reach.timeline,
                reach.branch_left.map_or(reach.timeline, |left| left.timeline)
            )))
        }
        RecoveryTarget::Latest if reach.segments.gap.is_some() => Err(reach.unreachable_target(
            "recovery would stop at the gap, and not at the end of the WAL".to_owned(),
        )),
        RecoveryTarget::Latest if !reach.unreadable.is_empty() => Err(reach.unreachable_target(
            "recovery would stop with an error, and not at the end of the WAL".to_owned(),
        )),
        RecoveryTarget::Latest | RecoveryTarget::Immediate | RecoveryTarget::Name(_) | RecoveryTarget::Xid(_) => Ok(()),
    }
}
