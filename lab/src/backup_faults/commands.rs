//! `backup-agent backup` and `wal backfill` in a history, and checks of their reports.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use super::bucket_contents::BucketContents;
use super::checker::{BackupProperty, BackupViolation};
use super::runner::{MAX_COMMAND_DURATION, ScheduleRunner};
use super::sandbox::AgentOutput;
use super::sandbox::COMMAND_TIMEOUT;
use super::schedule::BucketName;
use super::timeline_model::ReportedBackup;

/// Exit code of a backup whose WAL was not archived in time.
const WAL_NOT_ARCHIVED: i32 = 19;

/// Backfill that includes objects older than all that a bucket has: a history empties buckets.
const BACKFILL: [&str; 3] = ["wal", "backfill", "--all"];

impl ScheduleRunner {
    /// Runs `backup-agent`, and returns its output and whether a request met a fault meanwhile.
    pub(super) async fn run_agent(
        &mut self,
        arguments: &[&str],
        killed_after: Option<Duration>,
    ) -> anyhow::Result<(AgentOutput, bool)> {
        let faults_before = self.sandbox.faults();
        let started_at = Instant::now();
        let run = self
            .sandbox
            .run_agent(
                arguments,
                killed_after,
                COMMAND_TIMEOUT,
                MAX_COMMAND_DURATION,
            )
            .await?;
        let failed = self.sandbox.faults() > faults_before;
        let shown = arguments.join(" ");
        let Some(run) = run else {
            let seen = format!("`{shown}` did not end within {MAX_COMMAND_DURATION:?}");
            self.record_violation(BackupProperty::CommandEnds, seen);
            bail!("`backup-agent` did not end");
        };
        let secs = started_at.elapsed().as_secs_f64();
        let faults = if failed { ", with faults" } else { "" };
        self.record_event(format!(
            "`{shown}`: {:?} after {secs:.1} s{faults}",
            run.code
        ));
        for line in run
            .stderr
            .lines()
            .filter(|line| !line.contains("level=info"))
        {
            self.events.push(format!("            {line}"));
        }
        Ok((run, failed))
    }

    /// Takes a base backup, and checks its report.
    pub(super) async fn take_backup(
        &mut self,
        killed_after: Option<Duration>,
    ) -> anyhow::Result<()> {
        let (run, failed) = self.run_agent(&["backup", "--json"], killed_after).await?;
        if run.code != Some(0) {
            let archiver_waits = self.archiver_waits && run.code == Some(WAL_NOT_ARCHIVED);
            if run.code.is_some() && !failed && !self.objects_lost && !archiver_waits {
                let seen = format!("no request failed, and `backup` exited with {:?}", run.code);
                self.record_violation(BackupProperty::BackupSucceeds, seen);
            }
            return Ok(());
        }
        let made: serde_json::Value = serde_json::from_str(&run.stdout)?;
        let field = |name: &str| {
            let value = made.pointer(&format!("/backup/{name}"));
            value.with_context(|| format!("`backup --json` has no `{name}`"))
        };
        let text = |name: &str| {
            let text = field(name)?.as_str().map(str::to_owned);
            text.with_context(|| format!("`{name}` of `backup --json` is not a string"))
        };
        let id = text("id")?;
        let mut holders = 0;
        let mut keys = BTreeSet::new();
        for bucket in &self.sandbox.buckets {
            let own: BTreeSet<String> = bucket.keys().into_iter().map(|(key, _path)| key).collect();
            holders += usize::from(own.contains(&format!("backup/{id}/manifest")));
            keys.extend(own.into_iter().filter(|key| key.contains(&id)));
        }
        if holders < self.required {
            let seen = format!(
                "backup {id} is reported as complete, and {holders} buckets have its manifest"
            );
            self.record_violation(BackupProperty::SuccessIsTrue, seen);
        }
        if !failed && holders < self.sandbox.buckets.len() {
            let seen = format!("no request failed, and {holders} of 2 buckets have backup {id}");
            self.record_violation(BackupProperty::EveryBucketHasBackup, seen);
        }
        let backup = ReportedBackup {
            timeline: u32::try_from(
                field("timeline")?
                    .as_u64()
                    .context("`timeline` of `backup --json` is not a number")?,
            )?,
            start: super::timeline_model::parse_lsn(&text("start-lsn")?)?,
            stop: super::timeline_model::parse_lsn(&text("stop-lsn")?)?,
            rows: self.branch()?.rows.len(),
            keys: keys.into_iter().collect(),
            id,
        };
        self.backups.push(backup);
        Ok(())
    }

    /// Runs `wal backfill`, and checks that each bucket has everything.
    pub(super) async fn run_backfill(&mut self) -> anyhow::Result<()> {
        // Segments archived during this backfill are left to the next one.
        let oldest = self
            .backups
            .iter()
            .map(|backup| backup.start)
            .min()
            .unwrap_or(0);
        let both = BucketContents::of(
            &self.sandbox,
            &[BucketName::Near, BucketName::Far],
            &self.damaged,
        );
        let expected: Vec<String> = both
            .keys()
            .filter(|key| is_expected(key, &self.backups, oldest))
            .cloned()
            .collect();
        let (run, failed) = self.run_agent(&BACKFILL, None).await?;
        if run.code != Some(0) {
            let stored = self
                .sandbox
                .buckets
                .iter()
                .any(|bucket| !bucket.keys().is_empty());
            if !failed && stored && self.damaged.is_empty() {
                let seen = format!(
                    "no request failed, and `{}` exited with {:?}",
                    BACKFILL.join(" "),
                    run.code
                );
                self.record_violation(BackupProperty::BackfillSucceeds, seen);
            }
            return Ok(());
        }
        for bucket in &self.sandbox.buckets {
            let own: BTreeSet<String> = bucket.keys().into_iter().map(|(key, _path)| key).collect();
            if let Some(missing) = expected.iter().find(|key| !own.contains(*key)) {
                let seen = format!(
                    "`{}` exited with 0, and {} lacks `{missing}`",
                    BACKFILL.join(" "),
                    bucket.which
                );
                self.violations.push(BackupViolation {
                    property: BackupProperty::SuccessIsTrue,
                    seen,
                });
            }
        }
        Ok(())
    }
}

/// Tests whether each bucket must have this key after a backfill.
fn is_expected(key: &str, backups: &[ReportedBackup], oldest: u64) -> bool {
    if let Some((_, segment)) = super::bucket_contents::segment_of(key) {
        return segment >= oldest >> 20;
    }
    let reported = backups.iter().any(|backup| key.contains(&backup.id));
    reported || key.starts_with("history/")
}
