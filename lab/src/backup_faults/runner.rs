//! Runner of a history's steps, on one server and two buckets.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{self, Instant};

use super::checker::{BackupProperty, BackupViolation};
use super::postgres_server::PostgresServer;
use super::sandbox::{COMMAND_TIMEOUT, Sandbox};
use super::schedule::{BackupSchedule, BackupStep, BucketName};
use super::timeline_model::{ReportedBackup, TimelineModel, TimelineModels};

/// Time limit of a command: the longest timeout of `backup-agent` is one minute.
pub(super) const LONGEST: Duration = Duration::from_mins(2);

/// Timeout until all WAL is archived: faults are healed after [`COMMAND_TIMEOUT`], and a bucket is
/// skipped for at most 15 s.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(45);

/// State of a running history.
#[derive(Debug)]
pub(super) struct ScheduleRunner {
    pub(super) site: Sandbox,
    pub(super) server: Option<PostgresServer>,
    pub(super) branches: TimelineModels,
    pub(super) timeline: u32,
    pub(super) next_row: i64,
    pub(super) backups: Vec<ReportedBackup>,
    /// Objects damaged by the history.
    pub(super) damaged: BTreeSet<(BucketName, String)>,
    /// Whether a bucket lost objects.
    pub(super) lost: bool,
    /// Whether an archive command was killed or failed: PostgreSQL then waits for up to a minute.
    pub(super) archiver_waits: bool,
    /// Timeline and number of rows that were reported as archived.
    pub(super) confirmed: Option<(u32, usize)>,
    pub(super) violations: Vec<BackupViolation>,
    /// Events, one per line, with their times.
    pub(super) told: Vec<String>,
    pub(super) began: Instant,
    pub(super) required: usize,
}

impl ScheduleRunner {
    /// Starts the server of a history.
    pub(super) async fn begin(
        schedule: &BackupSchedule,
        template: PathBuf,
    ) -> anyhow::Result<Self> {
        let site = Sandbox::new(schedule, &template).await?;
        let server = PostgresServer::start(&site, &site.data(), &[]).await?;
        let first = TimelineModel {
            timeline: 1,
            ..TimelineModel::default()
        };
        Ok(Self {
            site,
            server: Some(server),
            branches: TimelineModels::from([(1, first)]),
            timeline: 1,
            next_row: 1,
            backups: Vec::new(),
            damaged: BTreeSet::new(),
            lost: false,
            archiver_waits: false,
            confirmed: None,
            violations: Vec::new(),
            told: Vec::new(),
            began: Instant::now(),
            required: usize::from(schedule.required_buckets),
        })
    }

    pub(super) fn tell(&mut self, what: impl AsRef<str>) {
        let at = self.began.elapsed().as_secs_f64();
        self.told.push(format!("{at:6.1} s  {}", what.as_ref()));
    }

    pub(super) fn violated(&mut self, property: BackupProperty, seen: impl Into<String>) {
        let seen = seen.into();
        self.tell(format!("VIOLATION {property:?}: {seen}"));
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
    pub(super) async fn step(&mut self, step: &BackupStep) -> anyhow::Result<()> {
        self.tell(step.to_string());
        match step {
            BackupStep::Write { rows, bytes } => self.write(*rows, *bytes).await,
            BackupStep::RollBack => self.roll_back().await,
            BackupStep::RestorePoint => self.restore_point().await,
            BackupStep::Switch => self.switch().await.map(drop),
            BackupStep::ArchiveAll => self.archive_all().await,
            BackupStep::Backup { killed_after } => self.backup(*killed_after).await,
            BackupStep::Promote { reserved, killed } => {
                self.stop(*killed).await?;
                self.promote(*reserved, &[]).await
            }
            BackupStep::PromoteTwice => self.promote_twice().await,
            BackupStep::KillPostgres => self.kill_postgres().await,
            BackupStep::KillPush { after } => self.kill_push(*after).await,
            BackupStep::Fail(which, weather) => {
                let faults = &self.site.bucket(*which).faults;
                faults.fail(weather.profile.clone(), weather.lasts);
                self.archiver_waits = true;
                Ok(())
            }
            BackupStep::Heal => {
                self.site.heal();
                Ok(())
            }
            BackupStep::Backfill => self.backfill().await,
            BackupStep::Lose(which) => self.lose(*which),
            BackupStep::Damage {
                which,
                deleted,
                of,
                pick,
            } => self.damage(*which, *deleted, *of, *pick),
        }
    }

    /// Ends the current segment.
    async fn switch(&mut self) -> anyhow::Result<()> {
        // `pg_switch_wal` does nothing without a new record.
        let sql = "SELECT pg_create_restore_point('tick'), pg_switch_wal()";
        self.server()?.rows(sql).await.map(drop)
    }

    pub(super) async fn archive_all(&mut self) -> anyhow::Result<()> {
        self.switch().await?;
        let rows = self.branch()?.rows.len();
        let began = Instant::now();
        let status = self.site.data().join("pg_wal/archive_status");
        let waits = || -> anyhow::Result<Vec<String>> {
            let names = fs::read_dir(&status)?.flatten();
            let names = names.filter_map(|name| name.file_name().into_string().ok());
            Ok(names
                .filter(|name| name.strip_suffix(".ready").is_some())
                .collect())
        };
        let mut nudged = Instant::now();
        while !waits()?.is_empty() {
            if began.elapsed() > COMMAND_TIMEOUT {
                self.site.heal();
            }
            if began.elapsed() > ARCHIVED_WITHIN {
                let left = waits()?.join(", ");
                let last = "SELECT last_failed_wal FROM pg_stat_archiver";
                let last = self.server()?.value(last).await.unwrap_or_default();
                let seen =
                    format!("no request fails, and {left} are not archived; last failure: {last}");
                self.violated(BackupProperty::ArchiveGoesOn, seen);
                return Ok(());
            }
            // After three failures PostgreSQL waits for a minute. A reload wakes its archiver.
            if nudged.elapsed() > Duration::from_millis(500) {
                nudged = Instant::now();
                self.server()?.rows("SELECT pg_reload_conf()").await?;
            }
            time::sleep(Duration::from_millis(25)).await;
        }
        self.archiver_waits = false;
        self.confirmed = Some((self.timeline, rows));
        Ok(())
    }

    pub(super) async fn stop(&mut self, killed: bool) -> anyhow::Result<()> {
        match self.server.take() {
            Some(server) if killed => server.kill().await,
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    async fn kill_postgres(&mut self) -> anyhow::Result<()> {
        let write = self.write(1, 200);
        // The row may be committed or not: the restarted server shows which.
        if let Ok(written) = time::timeout(Duration::from_millis(3), write).await {
            written?;
        }
        self.stop(true).await?;
        self.server = Some(PostgresServer::start(&self.site, &self.site.data(), &[]).await?);
        self.compare().await
    }

    async fn kill_push(&mut self, after: Duration) -> anyhow::Result<()> {
        self.switch().await?;
        let until = Instant::now() + after;
        let data = self.site.data();
        while Instant::now() < until {
            time::sleep(Duration::from_millis(20)).await;
        }
        for pid in crate::cluster::process_table::inside(&data)? {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = line.split('\0');
            let own = self.site.agent(&[]).executable;
            if arguments
                .next()
                .is_some_and(|argument| own == argument.as_ref() as &std::path::Path)
            {
                crate::cluster::process_table::tell(pid, nix::sys::signal::Signal::SIGKILL);
                self.archiver_waits = true;
            }
        }
        Ok(())
    }
}
