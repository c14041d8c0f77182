//! Runner of a history's steps, on one server and two buckets.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::time::{self, Instant};

use super::checker::{BackupProperty, BackupViolation};
use super::postgres_server::PostgresServer;
use super::sandbox::{COMMAND_TIMEOUT, Sandbox};
use super::schedule::{BackupSchedule, BackupStep, BucketName};
use super::timeline_model::{ReportedBackup, TimelineModel, TimelineModels};
use crate::cluster::process_table::{processes_inside, send_signal};

/// Time limit of a command: the longest timeout of `backup-agent` is one minute.
pub(super) const MAX_COMMAND_DURATION: Duration = Duration::from_mins(2);

/// Timeout until all WAL is archived: faults are healed after [`COMMAND_TIMEOUT`], and a bucket is
/// skipped for at most 15 s.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(45);

/// Way to stop the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopMode {
    /// Fast shutdown.
    FastShutdown,
    /// SIGKILL of every process.
    Kill,
}

impl StopMode {
    fn new(killed: bool) -> Self {
        if killed {
            Self::Kill
        } else {
            Self::FastShutdown
        }
    }
}

/// State of a running history.
#[derive(Debug)]
pub(super) struct ScheduleRunner {
    pub(super) sandbox: Sandbox,
    pub(super) server: Option<PostgresServer>,
    pub(super) branches: TimelineModels,
    pub(super) timeline: u32,
    pub(super) next_row: i64,
    pub(super) backups: Vec<ReportedBackup>,
    /// Objects damaged by the history.
    pub(super) damaged: BTreeSet<(BucketName, String)>,
    /// Whether a bucket lost objects.
    pub(super) objects_lost: bool,
    /// Whether an archive command was killed or failed: PostgreSQL then waits for up to a minute.
    pub(super) archiver_waits: bool,
    /// Timeline and number of rows that were reported as archived.
    pub(super) confirmed: Option<(u32, usize)>,
    pub(super) violations: Vec<BackupViolation>,
    /// Events, one per line, with their times.
    pub(super) events: Vec<String>,
    pub(super) started_at: Instant,
    pub(super) required: usize,
}

impl ScheduleRunner {
    /// Starts the server of a history.
    pub(super) async fn start(
        schedule: &BackupSchedule,
        template: PathBuf,
    ) -> anyhow::Result<Self> {
        let sandbox = Sandbox::new(schedule, &template).await?;
        let server = PostgresServer::start(&sandbox, &sandbox.data(), &[]).await?;
        let first = TimelineModel {
            timeline: 1,
            ..TimelineModel::default()
        };
        Ok(Self {
            sandbox,
            server: Some(server),
            branches: TimelineModels::from([(1, first)]),
            timeline: 1,
            next_row: 1,
            backups: Vec::new(),
            damaged: BTreeSet::new(),
            objects_lost: false,
            archiver_waits: false,
            confirmed: None,
            violations: Vec::new(),
            events: Vec::new(),
            started_at: Instant::now(),
            required: usize::from(schedule.required_buckets),
        })
    }

    /// Records an event.
    pub(super) fn record_event(&mut self, event: impl AsRef<str>) {
        let at = self.started_at.elapsed().as_secs_f64();
        self.events.push(format!("{at:6.1} s  {}", event.as_ref()));
    }

    /// Records a violation.
    pub(super) fn record_violation(&mut self, property: BackupProperty, seen: impl Into<String>) {
        let seen = seen.into();
        self.record_event(format!("VIOLATION {property:?}: {seen}"));
        self.violations.push(BackupViolation { property, seen });
    }

    pub(super) fn server(&mut self) -> anyhow::Result<&mut PostgresServer> {
        self.server.as_mut().context("PostgreSQL is not running")
    }

    pub(super) fn branch(&mut self) -> anyhow::Result<&mut TimelineModel> {
        let timeline = self.timeline;
        self.branches
            .get_mut(&timeline)
            .context("the current timeline has no model")
    }

    /// Runs a step.
    pub(super) async fn run_step(&mut self, step: &BackupStep) -> anyhow::Result<()> {
        self.record_event(step.to_string());
        match step {
            BackupStep::Write { rows, bytes } => self.write_rows(*rows, *bytes).await,
            BackupStep::RollBack => self.roll_back().await,
            BackupStep::RestorePoint => self.create_restore_point().await,
            BackupStep::Switch => self.switch_wal().await,
            BackupStep::ArchiveAll => self.archive_all().await,
            BackupStep::Backup { killed_after } => self.take_backup(*killed_after).await,
            BackupStep::Promote { reserved, killed } => {
                self.stop_server(StopMode::new(*killed)).await?;
                self.promote(*reserved, &[]).await
            }
            BackupStep::PromoteTwice => self.promote_twice().await,
            BackupStep::KillPostgres => self.kill_postgres().await,
            BackupStep::KillPush { after } => self.kill_push(*after).await,
            BackupStep::Fail(bucket, outage) => {
                let faults = &self.sandbox.bucket(*bucket).faults;
                faults.fail(outage.profile.clone(), outage.lasts);
                self.archiver_waits = true;
                Ok(())
            }
            BackupStep::Heal => {
                self.sandbox.heal();
                Ok(())
            }
            BackupStep::Backfill => self.run_backfill().await,
            BackupStep::Lose(bucket) => self.empty_bucket(*bucket),
            BackupStep::Damage {
                which,
                deleted,
                of,
                pick,
            } => self.damage_object(*which, *deleted, *of, *pick),
        }
    }

    /// Ends the current segment.
    async fn switch_wal(&mut self) -> anyhow::Result<()> {
        // `pg_switch_wal` does nothing without a new record.
        let sql = "SELECT pg_create_restore_point('tick'), pg_switch_wal()";
        self.server()?.query_rows(sql).await.map(drop)
    }

    /// Ends the segment, and waits until all WAL is archived.
    pub(super) async fn archive_all(&mut self) -> anyhow::Result<()> {
        self.switch_wal().await?;
        let rows = self.branch()?.rows.len();
        let started_at = Instant::now();
        let status = self.sandbox.data().join("pg_wal/archive_status");
        let unarchived = || -> anyhow::Result<Vec<String>> {
            let names = fs::read_dir(&status)?.flatten();
            let names = names.filter_map(|name| name.file_name().into_string().ok());
            Ok(names
                .filter(|name| name.strip_suffix(".ready").is_some())
                .collect())
        };
        let mut reloaded_at = Instant::now();
        while !unarchived()?.is_empty() {
            if started_at.elapsed() > COMMAND_TIMEOUT {
                self.sandbox.heal();
            }
            if started_at.elapsed() > ARCHIVE_TIMEOUT {
                let left = unarchived()?.join(", ");
                let last = "SELECT coalesce(last_failed_wal, 'none') FROM pg_stat_archiver";
                let last = self.server()?.query_value(last).await;
                let last = last.unwrap_or_else(|error| format!("unknown ({error:#})"));
                let seen =
                    format!("no request fails, and {left} are not archived; last failure: {last}");
                self.record_violation(BackupProperty::ArchivingContinues, seen);
                return Ok(());
            }
            // After three failures PostgreSQL waits for a minute. A reload wakes its archiver.
            if reloaded_at.elapsed() > Duration::from_millis(500) {
                reloaded_at = Instant::now();
                self.server()?.query_rows("SELECT pg_reload_conf()").await?;
            }
            time::sleep(Duration::from_millis(25)).await;
        }
        self.archiver_waits = false;
        self.confirmed = Some((self.timeline, rows));
        Ok(())
    }

    /// Stops the server if it is running.
    pub(super) async fn stop_server(&mut self, mode: StopMode) -> anyhow::Result<()> {
        let Some(server) = self.server.take() else {
            return Ok(());
        };
        match mode {
            StopMode::Kill => server.kill().await,
            StopMode::FastShutdown => server.stop().await,
        }
    }

    async fn kill_postgres(&mut self) -> anyhow::Result<()> {
        let write = self.write_rows(1, 200);
        // The row may be committed or not: the restarted server shows which.
        if let Ok(written) = time::timeout(Duration::from_millis(3), write).await {
            written?;
        }
        self.stop_server(StopMode::Kill).await?;
        self.server = Some(PostgresServer::start(&self.sandbox, &self.sandbox.data(), &[]).await?);
        self.compare_rows().await
    }

    async fn kill_push(&mut self, after: Duration) -> anyhow::Result<()> {
        self.switch_wal().await?;
        let deadline = Instant::now() + after;
        let data = self.sandbox.data();
        while Instant::now() < deadline {
            time::sleep(Duration::from_millis(20)).await;
        }
        for pid in processes_inside(&data)? {
            // The process may have ended since.
            let Ok(line) = fs::read_to_string(format!("/proc/{pid}/cmdline")) else {
                continue;
            };
            let mut arguments = line.split('\0');
            let own = self.sandbox.agent(&[]).executable;
            if arguments
                .next()
                .is_some_and(|argument| own == argument.as_ref() as &std::path::Path)
            {
                send_signal(pid, Signal::SIGKILL);
                self.archiver_waits = true;
            }
        }
        Ok(())
    }
}
