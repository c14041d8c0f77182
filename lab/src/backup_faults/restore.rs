//! Restores, and recovery of the restored server.

use std::path::Path;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::bucket_contents::{BucketContents, RestoreExpectation};
use super::bucket_outage::BucketOutage;
use super::checker::{BackupProperty, ExpectedRows, RestoredRows, compare_rows};
use super::postgres_server::PostgresServer;
use super::runner::{MAX_COMMAND_DURATION, ScheduleRunner};
use super::sandbox::COMMAND_TIMEOUT;
use super::schedule::{BucketName, PlannedRestore, TargetKind};
use super::timeline_model::{self, RestorePoint, TimelineModel};

/// Port of restored servers.
const PORT: u16 = 5433;

/// Arguments of a restore, and the expected rows.
struct RestoreArguments {
    arguments: Vec<String>,
    expected: ExpectedRows,
}

/// Result of recovery.
#[derive(Debug)]
enum RecoveryOutcome {
    /// Recovery reached its target: the server can be read.
    Reached(RestoredRows),
    /// PostgreSQL exited.
    Exited,
    /// Recovery exceeded its time limit.
    TimedOut,
}

impl ScheduleRunner {
    /// Restores a server, recovers it, and checks its rows.
    pub(super) async fn run_restore(
        &mut self,
        number: usize,
        planned: &PlannedRestore,
    ) -> anyhow::Result<()> {
        self.record_event(planned.to_string());
        let both = [BucketName::Near, BucketName::Far];
        let read: Vec<BucketName> = both
            .into_iter()
            .filter(|bucket| planned.from.is_none_or(|from| from == *bucket))
            .collect();
        let contents = BucketContents::of(&self.sandbox, &read, &self.damaged);
        // A row archived in only one bucket is not required of the other.
        let is_complete = planned.from.is_none() && !self.objects_lost && self.damaged.is_empty();
        let confirmed = if is_complete { self.confirmed } else { None };
        let branches = self.branches.clone();
        let backups = self.backups.clone();
        let Some(view) = contents.expect_restore(&branches, &backups, confirmed) else {
            self.record_event("the buckets have nothing of a known timeline");
            return Ok(());
        };
        let restore = choose_target(planned, &view);
        let text = format!(
            "timeline {}, WAL to {}, {} rows; {:?}; {}",
            view.branch.timeline,
            timeline_model::format_lsn(view.wal_end),
            view.required_rows,
            restore.expected,
            view.excuse.as_deref().unwrap_or("must succeed")
        );
        self.record_event(text);
        self.start_outages(&planned.while_filled);
        let excuse = view.excuse.clone();
        let directory = self.sandbox.directory.join(format!("restored-{number}"));
        if !self
            .fill_directory(&directory, planned, &restore, excuse.as_deref())
            .await?
        {
            self.sandbox.heal();
            return Ok(());
        }
        self.start_outages(&planned.while_recovering);
        let found = self.recover_server(&directory, excuse.as_deref()).await;
        self.sandbox.heal();
        if let Some(found) = found? {
            self.record_event(format!("{} rows restored", found.rows.len()));
            if let Some(difference) = compare_rows(view.branch, restore.expected, &found) {
                self.record_violation(BackupProperty::RowsAreExact, difference);
            }
        }
        Ok(())
    }

    fn start_outages(&self, outages: &[(BucketName, BucketOutage)]) {
        for (bucket, outage) in outages {
            let faults = &self.sandbox.bucket(*bucket).faults;
            faults.fail(outage.profile.clone(), outage.lasts);
        }
    }

    /// Fills the target directory, and returns whether `restore` succeeded.
    async fn fill_directory(
        &mut self,
        directory: &Path,
        planned: &PlannedRestore,
        restore: &RestoreArguments,
        excuse: Option<&str>,
    ) -> anyhow::Result<bool> {
        let shown = directory.display().to_string();
        let mut arguments = vec!["restore".to_owned(), "--target-directory".to_owned(), shown];
        arguments.extend(restore.arguments.iter().cloned());
        if let Some(from) = planned.from {
            arguments.extend(["--from".to_owned(), from.to_string()]);
        }
        if !matches!(restore.expected, ExpectedRows::AtLeast(_)) {
            let action = if planned.pauses { "pause" } else { "promote" };
            arguments.extend(["--target-action".to_owned(), action.to_owned()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut killed_after = planned.killed_after;
        for attempt in 0..4 {
            let (run, failed) = self.run_agent(&arguments, killed_after.take()).await?;
            match run.code {
                Some(0) => return Ok(true),
                // `pg_control` is renamed last: the killed restore was complete.
                None if directory.join("global/pg_control").exists() => return Ok(true),
                // A killed restore is run again.
                None => continue,
                Some(_) => {}
            }
            if run.stderr.trim().is_empty() {
                self.record_violation(
                    BackupProperty::FailureNamesCause,
                    "`restore` failed without output",
                );
            }
            if attempt < 2 && (failed || self.sandbox.is_failing()) {
                self.record_event("faults healed, and `restore` run again");
                self.sandbox.heal();
                continue;
            }
            if excuse.is_none() {
                let last = run
                    .stderr
                    .lines()
                    .find(|line| line.starts_with("backup-agent:"));
                let seen = format!("{:?}: {}", run.code, last.unwrap_or("no error message"));
                self.record_violation(BackupProperty::RestoreSucceeds, seen);
            }
            return Ok(false);
        }
        Ok(false)
    }

    /// Starts PostgreSQL, and again if it exited during an outage, and returns its rows.
    async fn recover_server(
        &mut self,
        directory: &Path,
        excuse: Option<&str>,
    ) -> anyhow::Result<Option<RestoredRows>> {
        for attempt in 0..3 {
            let faults_before = self.sandbox.faults();
            let mut server = PostgresServer::spawn(&self.sandbox, directory, PORT, &[])?;
            let outcome = self.wait_for_recovery(&mut server).await;
            server.kill().await?;
            let failed = self.sandbox.faults() > faults_before || self.sandbox.is_failing();
            match outcome? {
                RecoveryOutcome::Reached(found) => return Ok(Some(found)),
                RecoveryOutcome::Exited if attempt < 2 && failed => {
                    self.record_event(
                        "PostgreSQL exited; faults healed, and PostgreSQL started again",
                    );
                    self.sandbox.heal();
                }
                RecoveryOutcome::Exited => {
                    let reason = self.last_error(directory);
                    self.record_event(format!("PostgreSQL exited: {reason}"));
                    if reason.is_empty() {
                        self.record_violation(
                            BackupProperty::FailureNamesCause,
                            "PostgreSQL exited without an error in its log",
                        );
                    }
                    if excuse.is_none() {
                        self.record_violation(BackupProperty::RestoreSucceeds, reason);
                    }
                    return Ok(None);
                }
                RecoveryOutcome::TimedOut => {
                    let seen = format!("recovery did not end within {MAX_COMMAND_DURATION:?}");
                    self.record_violation(BackupProperty::CommandEnds, seen);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    async fn wait_for_recovery(
        &mut self,
        server: &mut PostgresServer,
    ) -> anyhow::Result<RecoveryOutcome> {
        let started_at = Instant::now();
        let state = "SELECT pg_is_in_recovery()::text, \
                     CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END";
        while started_at.elapsed() < MAX_COMMAND_DURATION {
            if server.exit_status()?.is_some() {
                return Ok(RecoveryOutcome::Exited);
            }
            if started_at.elapsed() > COMMAND_TIMEOUT {
                self.sandbox.heal();
            }
            // Until consistency the server rejects connections.
            if let Ok(rows) = server.query_rows(state).await {
                let values: Vec<_> = rows.into_iter().flatten().flatten().collect();
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                if matches!(values.as_slice(), ["false"] | ["true", "paused"]) {
                    return Ok(RecoveryOutcome::Reached(read_rows(server).await?));
                }
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        Ok(RecoveryOutcome::TimedOut)
    }

    /// Returns the last error in PostgreSQL's log, which is empty if there is none.
    fn last_error(&self, directory: &Path) -> String {
        let name = directory.file_name().unwrap_or(directory.as_os_str());
        let name = name.to_string_lossy();
        let path = self.sandbox.directory.join(format!("log/{name}.log"));
        // Without a log no error is reported, which is a violation.
        let Ok(text) = std::fs::read_to_string(path) else {
            return String::new();
        };
        let is_error = |line: &&str| {
            let has_word = ["FATAL", "PANIC", "error"]
                .iter()
                .any(|word| line.contains(word));
            // Rejected connections are no reason for the exit.
            has_word && !line.contains("the database system is")
        };
        text.lines().rfind(is_error).unwrap_or("").to_owned()
    }
}

async fn read_rows(server: &mut PostgresServer) -> anyhow::Result<RestoredRows> {
    let rows = server.query_rows("SELECT n FROM ledger ORDER BY n").await?;
    let rows = rows.into_iter().flatten().flatten();
    Ok(RestoredRows {
        rows: rows.map(|row| row.parse()).collect::<Result<_, _>>()?,
        counter: server.query_value("SELECT n FROM counter").await?.parse()?,
    })
}

/// Chooses the target of a restore: the end of the WAL if no commit or restore point qualifies.
fn choose_target(planned: &PlannedRestore, view: &RestoreExpectation<'_>) -> RestoreArguments {
    let to_wal_end = RestoreArguments {
        arguments: Vec::new(),
        expected: ExpectedRows::AtLeast(view.required_rows),
    };
    let Some(oldest) = view.oldest_backup else {
        return to_wal_end;
    };
    let exactly = |rows: usize, arguments: &[&str]| RestoreArguments {
        arguments: arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect(),
        expected: ExpectedRows::Exactly(rows),
    };
    let branch: &TimelineModel = view.branch;
    if planned.target == TargetKind::Name {
        let possible =
            |point: &&RestorePoint| point.lsn > oldest.stop && point.lsn + 1_024 < view.wal_end;
        let points: Vec<_> = branch.points.iter().filter(possible).collect();
        // A name alone does not select a backup before it.
        return select(&points, planned.pick).map_or(to_wal_end, |point| {
            exactly(
                point.rows,
                &["--target-name", &point.name, "--backup", &oldest.id],
            )
        });
    }
    // Recovery to a time or an LSN ends only at a later commit or record.
    let last = view.required_rows.saturating_sub(1);
    let rows = branch.rows.iter().enumerate();
    let targets: Vec<_> = rows
        .filter(|(index, _row)| *index >= oldest.rows && *index < last)
        .filter_map(|(index, row)| Some((index + 1, row.commit.as_ref()?)))
        .collect();
    let Some((rows, commit)) = select(&targets, planned.pick) else {
        return to_wal_end;
    };
    match planned.target {
        TargetKind::End | TargetKind::Name => to_wal_end,
        TargetKind::Time => exactly(*rows, &["--target-time", &commit.time]),
        TargetKind::Lsn => exactly(
            *rows,
            &["--target-lsn", &timeline_model::format_lsn(commit.lsn)],
        ),
        TargetKind::Xid => {
            let xid = commit.xid.to_string();
            exactly(*rows, &["--target-xid", &xid, "--backup", &oldest.id])
        }
    }
}

fn select<T>(elements: &[T], number: u64) -> Option<&T> {
    let index = number % (elements.len().max(1) as u64);
    elements.get(usize::try_from(index).unwrap_or(0))
}
