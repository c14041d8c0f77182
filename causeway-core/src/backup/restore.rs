//! Choice of a backup for a recovery target.

use crate::backup::{BackupId, BackupSummary, TimelineHistory, WallTime};
use crate::{Lsn, Timeline};

/// Recovery target of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// The end of the archived WAL.
    Latest,
    /// The last commit at or before this time.
    Time(WallTime),
    /// The record at this position, included.
    Lsn(Lsn),
    /// The restore point of this name (`pg_create_restore_point`).
    Name(String),
    /// The commit of this transaction.
    Xid(u64),
    /// The end of the backup.
    Immediate,
}

/// Reason why no backup can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupChoiceError {
    /// There is no backup.
    #[error("there is no backup in the archive")]
    None,
    /// Each backup ended after the target, or is not on the target's timeline history.
    #[error(
        "no backup ended before the target; the earliest that can be restored to is the end of `{earliest}`, at {lsn}"
    )]
    AllTooLate {
        /// Oldest backup.
        earliest: BackupId,
        /// Position at which it is consistent.
        lsn: Lsn,
        /// Time at which it ended.
        time: WallTime,
    },
    /// No backup is on the history of the newest timeline.
    #[error("no backup is on the newest timeline's history")]
    OtherHistory,
    /// A restore point or a transaction has no time by which to choose.
    #[error(
        "there are {count} backups, and the target does not determine which ended before it: name one with `--backup`"
    )]
    Ambiguous {
        /// Number of backups.
        count: usize,
    },
    /// The requested backup does not exist.
    #[error("there is no backup `{0}`")]
    Unknown(BackupId),
    /// The requested backup is not on the target's timeline history.
    #[error(
        "backup `{id}` ended at {lsn} on timeline {timeline}, which is not on the history of timeline {towards}: choose another backup, or the backup's own timeline with `--target-timeline {timeline}`"
    )]
    NotOnTheWay {
        /// Requested backup.
        id: BackupId,
        /// Position at which it is consistent.
        lsn: Lsn,
        /// Timeline of the backup.
        timeline: Timeline,
        /// Target timeline of the recovery.
        towards: Timeline,
    },
    /// The requested backup ended after the target.
    #[error("backup `{id}` ended at {lsn}, after the target")]
    TooLate {
        /// Requested backup.
        id: BackupId,
        /// Position at which it is consistent.
        lsn: Lsn,
        /// Time at which it ended.
        time: WallTime,
    },
}

/// Returns the newest of `backups` from which `target` can be reached along `history`, or `requested` if it can be
/// reached from that.
///
/// # Errors
///
/// [`BackupChoiceError`], with an alternative if there is one.
pub fn choose_backup<'a>(
    backups: &'a [BackupSummary],
    history: &TimelineHistory,
    target: &RecoveryTarget,
    requested: Option<&BackupId>,
) -> Result<&'a BackupSummary, BackupChoiceError> {
    if let Some(requested) = requested {
        let found = backups.iter().find(|backup| backup.id == *requested);
        let found = found.ok_or_else(|| BackupChoiceError::Unknown(requested.clone()))?;
        if !history.passes(found.timeline, found.stop_lsn) {
            return Err(BackupChoiceError::NotOnTheWay {
                id: requested.clone(),
                lsn: found.stop_lsn,
                timeline: found.timeline,
                towards: history.timeline(),
            });
        }
        if reaches(found, target) {
            return Ok(found);
        }
        return Err(BackupChoiceError::TooLate {
            id: requested.clone(),
            lsn: found.stop_lsn,
            time: found.stopped_at,
        });
    }

    let on_the_way: Vec<&BackupSummary> = backups
        .iter()
        .filter(|backup| history.passes(backup.timeline, backup.stop_lsn))
        .collect();
    let Some(earliest) = on_the_way.iter().min_by_key(|backup| backup.stopped_at) else {
        return Err(if backups.is_empty() {
            BackupChoiceError::None
        } else {
            BackupChoiceError::OtherHistory
        });
    };
    if matches!(target, RecoveryTarget::Name(_) | RecoveryTarget::Xid(_)) && on_the_way.len() > 1 {
        return Err(BackupChoiceError::Ambiguous {
            count: on_the_way.len(),
        });
    }
    let in_time = on_the_way.iter().filter(|backup| reaches(backup, target));
    let newest = in_time.max_by_key(|backup| (backup.stop_lsn, &backup.id));
    newest
        .copied()
        .ok_or_else(|| BackupChoiceError::AllTooLate {
            earliest: earliest.id.clone(),
            lsn: earliest.stop_lsn,
            time: earliest.stopped_at,
        })
}

fn reaches(backup: &BackupSummary, target: &RecoveryTarget) -> bool {
    match target {
        RecoveryTarget::Latest
        | RecoveryTarget::Name(_)
        | RecoveryTarget::Xid(_)
        | RecoveryTarget::Immediate => true,
        RecoveryTarget::Time(time) => backup.stopped_at <= *time,
        RecoveryTarget::Lsn(lsn) => backup.stop_lsn <= *lsn,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lsn::Ancestor;

    proptest! {
        /// The chosen backup is the newest of those that ended before the target.
        #[test]
        fn target_time_then_newest_backup_before_it(
            ends in prop::collection::vec(1_i64..100, 0..8),
            target in 1_i64..100,
        ) {
            let backups: Vec<_> = ends.iter().enumerate().map(|(n, end)| backup(n, 1, *end)).collect();
            let time = RecoveryTarget::Time(WallTime::from_micros(target));
            let newest = ends.iter().copied().filter(|end| *end <= target).max();

            let chosen = choose_backup(&backups, &first(), &time, None).ok();

            prop_assert_eq!(chosen.map(|backup| backup.stopped_at.as_micros()), newest);
        }
    }

    #[test]
    fn target_before_every_backup_then_error_names_the_earliest() {
        let backups = [backup(0, 1, 50), backup(1, 1, 70)];
        let time = RecoveryTarget::Time(WallTime::from_micros(49));

        let refused = choose_backup(&backups, &first(), &time, None).unwrap_err();

        assert_eq!(
            refused.to_string(),
            "no backup ended before the target; the earliest that can be restored to is the end of \
             `20261120T201500Z-00000000`, at 0/32"
        );
        assert_eq!(
            choose_backup(&[], &first(), &time, None),
            Err(BackupChoiceError::None)
        );
    }

    #[test]
    fn backup_past_a_fork_then_not_chosen() {
        let left = Ancestor {
            timeline: Timeline::FIRST,
            left_at: Lsn::new(60),
        };
        let history = TimelineHistory::new(Timeline::new(2).unwrap(), vec![left]);
        let backups = [backup(0, 1, 50), backup(1, 1, 70)];

        let chosen = choose_backup(&backups, &history, &RecoveryTarget::Latest, None).unwrap();

        assert_eq!(chosen.id, backups[0].id);
        let named = choose_backup(
            &backups,
            &history,
            &RecoveryTarget::Latest,
            Some(&backups[1].id),
        );
        let refused = named.unwrap_err().to_string();
        assert!(refused.contains("`--target-timeline 1`"), "{refused}");
        let abandoned = &backups[1..];
        let refused = choose_backup(abandoned, &history, &RecoveryTarget::Latest, None);
        assert_eq!(refused, Err(BackupChoiceError::OtherHistory));
    }

    #[test]
    fn target_without_a_time_and_two_backups_then_ambiguous() {
        let backups = [backup(0, 1, 50), backup(1, 1, 70)];
        let name = RecoveryTarget::Name("before the migration".to_owned());

        let refused = choose_backup(&backups, &first(), &name, None);
        assert_eq!(refused, Err(BackupChoiceError::Ambiguous { count: 2 }));

        let chosen = choose_backup(&backups, &first(), &name, Some(&backups[0].id)).unwrap();
        assert_eq!(chosen.id, backups[0].id);
    }

    fn first() -> TimelineHistory {
        TimelineHistory::new(Timeline::FIRST, Vec::new())
    }

    fn backup(number: usize, timeline: u32, end: i64) -> BackupSummary {
        BackupSummary {
            id: format!("20261120T201500Z-{number:08x}").parse().unwrap(),
            timeline: Timeline::new(timeline).unwrap(),
            start_lsn: Lsn::new(1),
            stop_lsn: Lsn::new(end.unsigned_abs()),
            started_at: WallTime::from_micros(0),
            stopped_at: WallTime::from_micros(end),
            segment_bytes: 16 << 20,
            raw_bytes: 0,
            stored_bytes: 0,
            damaged_pages: 0,
        }
    }
}
