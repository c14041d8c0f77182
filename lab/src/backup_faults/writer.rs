//! Writer: runs one transaction at a time, and records the outcome of each.

use anyhow::bail;

use super::checker::BackupProperty;
use super::runner::ScheduleRunner;
use super::timeline_model::{CommitRecord, CommittedRow, RestorePoint, parse_lsn};

impl ScheduleRunner {
    /// Commits rows, each in its own transaction.
    pub(super) async fn write_rows(&mut self, rows: u64, bytes: u64) -> anyhow::Result<()> {
        for _row in 0..rows {
            let number = self.next_row;
            self.next_row += 1;
            let xid = self
                .server()?
                .query_value(&statement(number, bytes))
                .await?;
            let query = format!(
                "SELECT to_char(pg_xact_commit_timestamp('{xid}'::xid) AT TIME ZONE 'UTC', \
                 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') || ' ' || pg_current_wal_insert_lsn()"
            );
            let observed = self.server()?.query_value(&query).await?;
            let Some((time, lsn)) = observed.split_once(' ') else {
                bail!("`{observed}` is not a time and an LSN");
            };
            let commit = CommitRecord {
                lsn: parse_lsn(lsn)?,
                time: time.to_owned(),
                xid: xid.parse()?,
            };
            self.branch()?.rows.push(CommittedRow {
                number,
                commit: Some(commit),
            });
        }
        Ok(())
    }

    /// Rolls back a transaction that wrote a row.
    pub(super) async fn roll_back(&mut self) -> anyhow::Result<()> {
        let number = -self.next_row;
        let insert = statement(number, 200);
        let sql = format!("BEGIN; {insert}; ROLLBACK");
        self.server()?.query_rows(&sql).await.map(drop)
    }

    /// Creates a restore point.
    pub(super) async fn create_restore_point(&mut self) -> anyhow::Result<()> {
        let name = format!("point-{}", self.next_row);
        let create = format!("SELECT pg_create_restore_point('{name}')");
        let lsn = parse_lsn(&self.server()?.query_value(&create).await?)?;
        let branch = self.branch()?;
        let rows = branch.rows.len();
        branch.points.push(RestorePoint { name, rows, lsn });
        Ok(())
    }

    /// Compares the rows of a restarted server with the recorded ones, and records rows whose
    /// acknowledgement was lost.
    pub(super) async fn compare_rows(&mut self) -> anyhow::Result<()> {
        let found = self
            .server()?
            .query_rows("SELECT n FROM ledger ORDER BY n")
            .await?;
        let found = found.into_iter().flatten().flatten();
        let found: Vec<i64> = found
            .map(|number| number.parse())
            .collect::<Result<_, _>>()?;
        let known: Vec<i64> = self.branch()?.rows.iter().map(|row| row.number).collect();
        let Some(unacknowledged) = found.strip_prefix(known.as_slice()) else {
            let seen = format!("the restarted server has {found:?}, not {known:?}");
            self.record_violation(BackupProperty::RowsAreExact, seen);
            bail!("the server lost rows");
        };
        for number in unacknowledged {
            self.branch()?.rows.push(CommittedRow {
                number: *number,
                commit: None,
            });
        }
        Ok(())
    }
}

/// Returns the statement that writes a row and returns its transaction ID.
fn statement(number: i64, bytes: u64) -> String {
    let note = if bytes > 1_000 {
        let lines = bytes / 32;
        format!("(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, {lines}))")
    } else {
        format!("repeat('{number} ', {bytes} / 8)")
    };
    format!(
        "WITH written AS (INSERT INTO ledger VALUES ({number}, {note})) \
         UPDATE counter SET n = {number} RETURNING pg_current_xact_id()::text"
    )
}
