//! The only timeline of a backup: PostgreSQL names the one at its beginning, and a standby
//! continues on another when its primary fails over.

use anyhow::Context as _;
use causeway_core::Timeline;

use crate::error::Error;

/// Timelines according to the server and its control file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timelines {
    /// Whether it was a standby before the backup.
    pub(super) was_standby: bool,
    /// Whether it is one now.
    pub(super) is_standby: bool,
    /// Timeline of the last checkpoint or restartpoint.
    pub(super) of_checkpoint: u32,
    /// Timeline of the minimum recovery point: a standby has written no later change to its files.
    /// 0 on a primary.
    pub(super) of_consistency: u32,
}

impl Timelines {
    /// Returns the timeline on which the backup began, if the whole backup is on it.
    pub(super) fn only(&self, began: u32) -> Result<Timeline, Error> {
        self.refuse_promotion()?;
        let ended = if self.is_standby {
            self.of_consistency
        } else {
            self.of_checkpoint
        };
        if began != ended {
            return Err(Error::Incomplete(format!(
                "the primary failed over: the backup of this standby begins on timeline {began}, and its \
                 end is on timeline {ended}; run it again, after the next checkpoint of the new primary"
            )));
        }
        Timeline::new(began).ok_or(Error::Internal("the server reports timeline 0"))
    }

    /// Fails if the server was a standby and is none.
    pub(super) fn refuse_promotion(&self) -> Result<(), Error> {
        if self.is_standby == self.was_standby {
            return Ok(());
        }
        Err(promoted_error())
    }
}

/// Returns the error for a promotion: the beginning and the end of the backup are on different
/// timelines.
pub(super) fn promoted_error() -> Error {
    Error::Incomplete("the server was promoted meanwhile; run the backup again".to_owned())
}

/// Returns the timeline of the backup with this `backup_label`.
pub(super) fn timeline_of_label(label: &str) -> anyhow::Result<Timeline> {
    let mut lines = label.lines();
    let number = lines.find_map(|line| line.strip_prefix("START TIMELINE: "));
    let number = number.context("`backup_label` names no timeline")?;
    Timeline::new(number.parse()?).context("`backup_label` names timeline 0")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged_text;

    proptest! {
        #[test]
        fn damaged_backup_label_then_no_panic(label in damaged_text(LABEL)) {
            if let Ok(timeline) = timeline_of_label(&label) {
                prop_assert!(label.contains(&timeline.to_string()), "{timeline}");
            }
        }
    }

    const LABEL: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
                         BACKUP FROM: standby\nSTART TIMELINE: 1\n";

    #[test]
    fn consistency_on_another_timeline_then_refused() {
        let refused = standby(1).only(2).unwrap_err().to_string();
        assert!(refused.contains("the primary failed over"), "{refused}");
        assert!(standby(2).only(1).is_err());
        assert_eq!(standby(2).only(2).unwrap().get(), 2);
    }

    #[test]
    fn promotion_then_refused_whatever_the_timelines() {
        let promoted = Timelines {
            is_standby: false,
            ..standby(1)
        };
        let refused = promoted.only(1).unwrap_err().to_string();
        assert!(refused.contains("promoted"), "{refused}");
    }

    #[test]
    fn primary_then_its_checkpoint_counts() {
        let primary = Timelines {
            was_standby: false,
            is_standby: false,
            of_checkpoint: 3,
            of_consistency: 0,
        };
        assert_eq!(primary.only(3).unwrap().get(), 3);
    }

    #[test]
    fn label_then_its_timeline() {
        assert_eq!(timeline_of_label(LABEL).unwrap(), Timeline::FIRST);
        assert!(timeline_of_label("LABEL: x\n").is_err());
    }

    fn standby(of_consistency: u32) -> Timelines {
        Timelines {
            was_standby: true,
            is_standby: true,
            of_checkpoint: 1,
            of_consistency,
        }
    }
}
