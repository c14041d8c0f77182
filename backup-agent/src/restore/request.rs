//! Validated request for a restore. An option without effect is refused here.

use std::path::PathBuf;
use std::time::Duration;

use causeway_core::Timeline;
use causeway_core::backup::{BackupId, RecoveryTarget};
use clap::ValueEnum;

use crate::error::Error;

/// PostgreSQL's `MAXFNAMELEN` without the zero byte: it refuses to start with a longer name.
const MAX_NAME_BYTES: usize = 63;

/// Request for a restore: backup, target and directories.
#[derive(Clone, Debug)]
pub(crate) struct RestoreRequest {
    /// Target directory, absolute: empty, missing, or with an interrupted restore.
    pub(crate) directory: PathBuf,
    /// Recovery target.
    pub(crate) target: RecoveryTarget,
    /// Whether the transaction at the target is replayed.
    pub(crate) boundary: Boundary,
    /// Backup to start from, if it is not chosen automatically.
    pub(crate) backup: Option<BackupId>,
    /// Timeline to follow, if it is not the newest.
    pub(crate) timeline: Option<Timeline>,
    /// Purpose of the restored server.
    pub(crate) purpose: Purpose,
    /// Whether it archives its own WAL.
    pub(crate) archiving: Archiving,
    /// The only bucket or region to read.
    pub(crate) from: Option<String>,
    /// Old and new location of each mapped tablespace.
    pub(crate) tablespaces: Vec<(PathBuf, PathBuf)>,
    /// Directory of the tablespaces without a mapping.
    pub(crate) tablespace_directory: Option<PathBuf>,
    /// Retry timeout of a part without progress.
    pub(crate) retry_timeout: Duration,
}

/// Purpose of a restored server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Recover to a target, and then take this action.
    Recover(TargetAction),
    /// Follow a primary.
    Standby,
}

/// What is done once the target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetAction {
    /// Pause, readable, until an operator calls `pg_wal_replay_resume()`, which promotes
    Pause,
    /// Accept writes on a new timeline
    Promote,
    /// Shut down
    Shutdown,
}

/// Whether a restored server archives its own WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Archiving {
    /// As in the restored settings
    Preserve,
    /// No archiving: a temporary copy must not add a timeline to the cluster's archive
    Off,
}

/// Whether the transaction at the target is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boundary {
    /// Replayed.
    Inclusive,
    /// Not replayed: recovery stops before it.
    Exclusive,
}

/// Returns the action at the target. Without a target PostgreSQL ignores `recovery_target_action`:
/// at the end of the WAL it promotes.
pub(crate) fn target_action(
    target: &RecoveryTarget,
    asked: Option<TargetAction>,
) -> Result<TargetAction, Error> {
    match (target, asked) {
        (RecoveryTarget::Latest, None | Some(TargetAction::Promote)) => Ok(TargetAction::Promote),
        (RecoveryTarget::Latest, Some(TargetAction::Pause | TargetAction::Shutdown)) => {
            Err(Error::Refused(
                "`--target-action` needs a target: at the end of the archived WAL PostgreSQL can only \
                 promote; give `--target-time`, `--target-lsn`, `--target-name`, `--target-xid` or \
                 `--target-immediate`, or make a standby with `--standby`"
                    .to_owned(),
            ))
        }
        (_, asked) => Ok(asked.unwrap_or(TargetAction::Pause)),
    }
}

/// Returns the boundary. PostgreSQL applies `recovery_target_inclusive` only to these three kinds
/// of target.
pub(crate) fn boundary(target: &RecoveryTarget, exclusive: bool) -> Result<Boundary, Error> {
    match (target, exclusive) {
        (_, false) => Ok(Boundary::Inclusive),
        (RecoveryTarget::Time(_) | RecoveryTarget::Lsn(_) | RecoveryTarget::Xid(_), true) => {
            Ok(Boundary::Exclusive)
        }
        (RecoveryTarget::Latest | RecoveryTarget::Name(_) | RecoveryTarget::Immediate, true) => {
            Err(Error::Refused(
                "`--target-exclusive` needs `--target-time`, `--target-lsn` or `--target-xid`: \
             PostgreSQL ignores it otherwise"
                    .to_owned(),
            ))
        }
    }
}

pub(crate) fn check_restore_point(target: &RecoveryTarget) -> Result<(), Error> {
    let RecoveryTarget::Name(name) = target else {
        return Ok(());
    };
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        let text = format!(
            "`--target-name` must have 1 to {MAX_NAME_BYTES} bytes and no control characters, as every \
             restore point of PostgreSQL has"
        );
        return Err(Error::Refused(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use causeway_core::Lsn;

    use super::*;

    #[test]
    fn no_target_then_only_promotion_accepted() {
        use TargetAction::{Pause, Promote, Shutdown};
        let action = |action| target_action(&RecoveryTarget::Latest, action);
        assert_eq!(action(None).unwrap(), Promote);
        assert_eq!(action(Some(Promote)).unwrap(), Promote);
        assert!(action(Some(Pause)).is_err());
        assert!(action(Some(Shutdown)).is_err());
    }

    #[test]
    fn target_then_pause_unless_promotion_asked() {
        let target = RecoveryTarget::Lsn(Lsn::new(1));
        let action = |action| target_action(&target, action).unwrap();
        assert_eq!(action(None), TargetAction::Pause);
        let promote = Some(TargetAction::Promote);
        assert_eq!(action(promote), TargetAction::Promote);
    }

    #[test]
    fn exclusive_without_effect_then_refused() {
        assert!(boundary(&RecoveryTarget::Lsn(Lsn::new(1)), true).is_ok());
        for target in [
            RecoveryTarget::Latest,
            RecoveryTarget::Immediate,
            RecoveryTarget::Name("a".to_owned()),
        ] {
            assert!(boundary(&target, true).is_err(), "{target:?}");
        }
    }

    #[test]
    fn restore_point_that_cannot_exist_then_refused() {
        for name in [String::new(), "a\nb".to_owned(), "x".repeat(64)] {
            assert!(check_restore_point(&RecoveryTarget::Name(name)).is_err());
        }
        assert!(check_restore_point(&RecoveryTarget::Name("x".repeat(63))).is_ok());
    }
}
