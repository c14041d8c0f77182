//! Checker: properties of every history, checked on the restored rows and the committed ones,
//! without I/O.

use std::fmt;

use super::timeline_model::TimelineModel;

/// Violation of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupViolation {
    /// Violated property.
    pub property: BackupProperty,
    /// Observation that violates it.
    pub seen: String,
}

/// Property of every history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackupProperty {
    /// The restored rows are exactly those committed up to the target.
    RowsAreExact,
    /// A restore from undamaged objects succeeds once the faults are healed.
    RestoreSucceeds,
    /// A failed restore prints the reason.
    FailureNamesCause,
    /// A successful command did what it reports.
    SuccessIsTrue,
    /// A backup succeeds without faults, and with sporadic ones.
    BackupSucceeds,
    /// A backup without faults is stored in each bucket.
    EveryBucketHasBackup,
    /// A backfill succeeds without faults.
    BackfillSucceeds,
    /// All WAL is archived once the faults are healed.
    ArchivingContinues,
    /// Every command ends, and so does recovery.
    CommandEnds,
}

impl fmt::Display for BackupViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.seen)
    }
}

/// Number of rows that a restore must return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedRows {
    /// At least this many: the WAL may contain more commits than the writer received.
    AtLeast(usize),
    /// Exactly this many.
    Exactly(usize),
}

/// Content of a restored server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RestoredRows {
    /// Row numbers, in order.
    pub(super) rows: Vec<i64>,
    /// Last number that a transaction wrote to the second table.
    pub(super) counter: i64,
}

/// Returns the difference between the restored and the committed rows; `None` if there is none.
pub(super) fn compare_rows(
    branch: &TimelineModel,
    expected: ExpectedRows,
    found: &RestoredRows,
) -> Option<String> {
    let committed: Vec<i64> = branch.rows.iter().map(|row| row.number).collect();
    let count = found.rows.len();
    let newest = found.rows.last().copied().unwrap_or(0);
    if committed.get(..count) != Some(&found.rows) {
        let first = found
            .rows
            .iter()
            .zip(&committed)
            .find(|(restored, committed)| restored != committed);
        return Some(format!(
            "the {count} restored rows are not the first of the {} committed ones; first difference: \
             {first:?}",
            committed.len()
        ));
    }
    if found.counter != newest {
        let counter = found.counter;
        return Some(format!(
            "the last row is {newest}, and the counter is {counter}"
        ));
    }
    match expected {
        ExpectedRows::AtLeast(least) if count < least => Some(format!(
            "{count} of at least {least} rows restored, although every step succeeded"
        )),
        ExpectedRows::Exactly(exactly) if count != exactly => Some(format!(
            "{count} rows restored, and {exactly} committed up to the target"
        )),
        ExpectedRows::AtLeast(_) | ExpectedRows::Exactly(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup_faults::timeline_model::CommittedRow;

    fn found(rows: &[i64], counter: i64) -> RestoredRows {
        RestoredRows {
            rows: rows.to_vec(),
            counter,
        }
    }

    #[test]
    fn rows_not_exact_then_difference_returned() {
        let row = |number| CommittedRow {
            number,
            commit: None,
        };
        let branch = TimelineModel {
            rows: [1, 2, 5].map(row).to_vec(),
            ..TimelineModel::default()
        };
        let compare = |expected, found: RestoredRows| compare_rows(&branch, expected, &found);
        assert_eq!(compare(ExpectedRows::Exactly(2), found(&[1, 2], 2)), None);
        assert_eq!(
            compare(ExpectedRows::AtLeast(2), found(&[1, 2, 5], 5)),
            None
        );
        for (expected, found) in [
            (ExpectedRows::AtLeast(3), found(&[1, 2], 2)),
            (ExpectedRows::Exactly(2), found(&[1, 2, 5], 5)),
            (ExpectedRows::AtLeast(0), found(&[1, 5], 5)),
            (ExpectedRows::AtLeast(0), found(&[1, 2, 5, 6], 6)),
            (ExpectedRows::AtLeast(0), found(&[1, 2], 5)),
            (ExpectedRows::AtLeast(0), found(&[-1, 1], 1)),
        ] {
            assert!(compare(expected, found.clone()).is_some(), "{found:?}");
        }
    }
}
