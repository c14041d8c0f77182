//! The checker: what must hold in every history. It judges what came back against what the writer
//! knows, and looks at nothing.

use std::fmt;

use super::timeline_model::TimelineModel;

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupViolation {
    /// What should.
    pub property: BackupProperty,
    /// What was seen instead.
    pub seen: String,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackupProperty {
    /// What came back is exactly what was committed up to the target.
    RowsAreExact,
    /// A restore from what is whole succeeds once nothing fails.
    RestoreSucceeds,
    /// A restore that fails says why.
    FailureSaysWhy,
    /// What a command reports is so.
    SuccessIsTrue,
    /// A backup succeeds while nothing fails, or only a request here and there.
    BackupSucceeds,
    /// It is in each bucket then.
    EachBucketHasIt,
    /// A backfill succeeds while nothing fails.
    BackfillSucceeds,
    /// Once nothing fails, everything is archived.
    ArchiveGoesOn,
    /// A command ends, and so does recovery.
    CommandEnds,
}

impl fmt::Display for BackupViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.seen)
    }
}

/// How many of a branch's rows must come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedRows {
    /// At least so many, as the WAL may reach farther than the writer knows.
    AtLeast(usize),
    /// So many.
    Exactly(usize),
}

/// What a restored server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RestoredRows {
    /// The numbers of its rows, in order.
    pub(super) rows: Vec<i64>,
    /// The last number that a transaction wrote into the other table.
    pub(super) counter: i64,
}

/// Returns what is wrong with what came back.
pub(super) fn judge(
    branch: &TimelineModel,
    expected: ExpectedRows,
    found: &RestoredRows,
) -> Option<String> {
    let known: Vec<i64> = branch.rows.iter().map(|row| row.number).collect();
    let count = found.rows.len();
    let newest = found.rows.last().copied().unwrap_or(0);
    if known.get(..count) != Some(&found.rows) {
        let first = found
            .rows
            .iter()
            .zip(&known)
            .find(|(one, other)| one != other);
        return Some(format!(
            "{count} rows came back that are not the first of the {} that were committed; the first that \
             differs: {first:?}",
            known.len()
        ));
    }
    if found.counter != newest {
        let counter = found.counter;
        return Some(format!(
            "row {newest} is the last, and the counter has {counter}"
        ));
    }
    match expected {
        ExpectedRows::AtLeast(least) if count < least => Some(format!(
            "{count} of {least} rows came back, with success at every step"
        )),
        ExpectedRows::Exactly(exactly) if count != exactly => Some(format!(
            "{count} rows came back, and {exactly} were committed up to the target"
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
    fn rows_that_are_not_exact_then_named() {
        let row = |number| CommittedRow {
            number,
            commit: None,
        };
        let branch = TimelineModel {
            rows: [1, 2, 5].map(row).to_vec(),
            ..TimelineModel::default()
        };
        let judge = |expected, found: RestoredRows| judge(&branch, expected, &found);
        assert_eq!(judge(ExpectedRows::Exactly(2), found(&[1, 2], 2)), None);
        assert_eq!(judge(ExpectedRows::AtLeast(2), found(&[1, 2, 5], 5)), None);
        for (expected, found) in [
            (ExpectedRows::AtLeast(3), found(&[1, 2], 2)),
            (ExpectedRows::Exactly(2), found(&[1, 2, 5], 5)),
            (ExpectedRows::AtLeast(0), found(&[1, 5], 5)),
            (ExpectedRows::AtLeast(0), found(&[1, 2, 5, 6], 6)),
            (ExpectedRows::AtLeast(0), found(&[1, 2], 5)),
            (ExpectedRows::AtLeast(0), found(&[-1, 1], 1)),
        ] {
            assert!(judge(expected, found.clone()).is_some(), "{found:?}");
        }
    }
}
