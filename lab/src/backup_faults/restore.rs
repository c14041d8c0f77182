//! Restores, and recovery of the restored server.

use std::path::Path;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::bucket_contents::{BucketContents, RestoreExpectation};
use super::bucket_outage::BucketOutage;
use super::checker::{BackupProperty, ExpectedRows, RestoredRows, judge};
use super::postgres_server::PostgresServer;
use super::runner::{LONGEST, ScheduleRunner};
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
    Done(RestoredRows),
    /// PostgreSQL exited.
    Stopped,
    /// Recovery exceeded its time limit.
    Endless,
}

impl ScheduleRunner {
    /// Restores a server, recovers it, and checks its rows.
    pub(super) async fn restore(
        &mut self,
        number: usize,
        order: &PlannedRestore,
    ) -> anyhow::Result<()> {
        self.tell(order.to_string());
        let both = [BucketName::Near, BucketName::Far];
        let read: Vec<BucketName> = both
            .into_iter()
            .filter(|bucket| order.from.is_none_or(|from| from == *bucket))
            .collect();
        let contents = BucketContents::of(&self.site, &read, &self.damaged);
        // A row archived in only one bucket is not required of the other.
        let confirmed = self
            .confirmed
            .filter(|_| order.from.is_none() && !self.lost && self.damaged.is_empty());
        let (branches, backups) = (self.branches.clone(), self.backups.clone());
        let Some(view) = contents.view(&branches, &backups, confirmed) else {
            self.tell("the buckets have nothing of a known timeline");
            return Ok(());
        };
        let goal = goal(order, &view);
        let text = format!(
            "timeline {}, WAL to {}, {} rows; {:?}; {}",
            view.branch.timeline,
            timeline_model::lsn(view.reach),
            view.demanded,
            goal.expected,
            view.excuse.as_deref().unwrap_or("must succeed")
        );
        self.tell(text);
        self.fail(&order.while_filled);
        let excuse = view.excuse.clone();
        let directory = self.site.directory.join(format!("restored-{number}"));
        if !self
            .fill(&directory, order, &goal, excuse.as_deref())
            .await?
        {
            self.site.heal();
            return Ok(());
        }
        self.fail(&order.while_recovering);
        let found = self.recover(&directory, excuse.as_deref()).await;
        self.site.heal();
        if let Some(found) = found? {
            self.tell(format!("{} rows restored", found.rows.len()));
            if let Some(wrong) = judge(view.branch, goal.expected, &found) {
                self.violated(BackupProperty::RowsAreExact, wrong);
            }
        }
        Ok(())
    }

    fn fail(&self, weather: &[(BucketName, BucketOutage)]) {
        for (which, weather) in weather {
            let faults = &self.site.bucket(*which).faults;
            faults.fail(weather.profile.clone(), weather.lasts);
        }
    }

    /// Fills the target directory, and returns whether `restore` succeeded.
    async fn fill(
        &mut self,
        directory: &Path,
        order: &PlannedRestore,
        goal: &RestoreArguments,
        excuse: Option<&str>,
    ) -> anyhow::Result<bool> {
        let shown = directory.display().to_string();
        let mut arguments = vec!["restore".to_owned(), "--target-directory".to_owned(), shown];
        arguments.extend(goal.arguments.iter().cloned());
        if let Some(from) = order.from {
            arguments.extend(["--from".to_owned(), from.to_string()]);
        }
        if !matches!(goal.expected, ExpectedRows::AtLeast(_)) {
            let action = if order.pauses { "pause" } else { "promote" };
            arguments.extend(["--target-action".to_owned(), action.to_owned()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut kill = order.killed_after;
        for attempt in 0..4 {
            let (run, failed) = self.run(&arguments, kill.take()).await?;
            match run.code {
                Some(0) => return Ok(true),
                // `pg_control` is renamed last: the killed restore was complete.
                None if directory.join("global/pg_control").exists() => return Ok(true),
                // A killed restore is run again.
                None => continue,
                Some(_) => {}
            }
            if run.said.trim().is_empty() {
                let seen = format!("`restore` failed, with the output `{}`", run.said.trim());
                self.violated(BackupProperty::FailureSaysWhy, seen);
            }
            if attempt < 2 && (failed || self.site.fails()) {
                self.tell("faults healed, and `restore` run again");
                self.site.heal();
                continue;
            }
            if excuse.is_none() {
                let last = run
                    .said
                    .lines()
                    .find(|line| line.starts_with("backup-agent:"));
                let seen = format!("{:?}: {}", run.code, last.unwrap_or_default());
                self.violated(BackupProperty::RestoreSucceeds, seen);
            }
            return Ok(false);
        }
        Ok(false)
    }

    /// Starts PostgreSQL, and again if it exited during an outage, and returns its rows.
    async fn recover(
        &mut self,
        directory: &Path,
        excuse: Option<&str>,
    ) -> anyhow::Result<Option<RestoredRows>> {
        for attempt in 0..3 {
            let before = self.site.faults();
            let mut server = PostgresServer::spawn(&self.site, directory, PORT, &[])?;
            let ended = self.recovery(&mut server).await;
            server.kill().await?;
            let failed = self.site.faults() > before || self.site.fails();
            match ended? {
                RecoveryOutcome::Done(found) => return Ok(Some(found)),
                RecoveryOutcome::Stopped if attempt < 2 && failed => {
                    self.tell(
                        "PostgreSQL exited; faults healed, and PostgreSQL started again",
                    );
                    self.site.heal();
                }
                RecoveryOutcome::Stopped => {
                    let why = self.why(directory);
                    self.tell(format!("PostgreSQL exited: {reason}"));
                    if why.is_empty() {
                        self.violated(BackupProperty::FailureSaysWhy, "PostgreSQL exited without an error in its log");
                    }
                    if excuse.is_none() {
                        self.violated(BackupProperty::RestoreSucceeds, why);
                    }
                    return Ok(None);
                }
                RecoveryOutcome::Endless => {
                    let seen = format!("recovery did not end within {LONGEST:?}");
                    self.violated(BackupProperty::CommandEnds, seen);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    async fn recovery(&mut self, server: &mut PostgresServer) -> anyhow::Result<RecoveryOutcome> {
        let began = Instant::now();
        let state = "SELECT pg_is_in_recovery()::text, \
                     CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END";
        while began.elapsed() < LONGEST {
            if server.exit()?.is_some() {
                return Ok(RecoveryOutcome::Stopped);
            }
            if began.elapsed() > COMMAND_TIMEOUT {
                self.site.heal();
            }
            // Until consistency the server rejects connections.
            let answer = server.rows(state).await.unwrap_or_default();
            let answer: Vec<_> = answer.into_iter().flatten().flatten().collect();
            let answer: Vec<&str> = answer.iter().map(String::as_str).collect();
            if matches!(answer.as_slice(), ["false"] | ["true", "paused"]) {
                return Ok(RecoveryOutcome::Done(read(server).await?));
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        Ok(RecoveryOutcome::Endless)
    }

    /// Returns the last error in PostgreSQL's log, which is empty if there is none.
    fn why(&self, directory: &Path) -> String {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let path = self.site.directory.join(format!("log/{name}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let says = |text: &&str| {
            let says = ["FATAL", "PANIC", "error"]
                .iter()
                .any(|word| text.contains(word));
            // Rejected connections are no reason for the exit.
            says && !text.contains("the database system is")
        };
        let lines: Vec<&str> = text.lines().filter(says).collect();
        lines.last().copied().unwrap_or_default().to_owned()
    }
}

async fn read(server: &mut PostgresServer) -> anyhow::Result<RestoredRows> {
    let rows = server.rows("SELECT n FROM ledger ORDER BY n").await?;
    let rows = rows.into_iter().flatten().flatten();
    Ok(RestoredRows {
        rows: rows.map(|row| row.parse()).collect::<Result<_, _>>()?,
        counter: server.value("SELECT n FROM counter").await?.parse()?,
    })
}

/// Chooses the target of a restore: the end of the WAL if no commit or restore point qualifies.
fn goal(order: &PlannedRestore, view: &RestoreExpectation<'_>) -> RestoreArguments {
    let end = RestoreArguments {
        arguments: Vec::new(),
        expected: ExpectedRows::AtLeast(view.demanded),
    };
    let Some(first) = view.first else {
        return end;
    };
    let exactly = |rows: usize, arguments: &[&str]| RestoreArguments {
        arguments: arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect(),
        expected: ExpectedRows::Exactly(rows),
    };
    let branch: &TimelineModel = view.branch;
    if order.target == TargetKind::Name {
        let possible =
            |point: &&RestorePoint| point.lsn > first.stop && point.lsn + 1_024 < view.reach;
        let points: Vec<_> = branch.points.iter().filter(possible).collect();
        // A name alone does not select a backup before it.
        return pick(&points, order.pick).map_or(end, |point| {
            exactly(
                point.rows,
                &["--target-name", &point.name, "--backup", &first.id],
            )
        });
    }
    // Recovery to a time or an LSN ends only at a later commit or record.
    let last = view.demanded.saturating_sub(1);
    let rows = branch.rows.iter().enumerate();
    let moments: Vec<_> = rows
        .filter(|(at, _)| *at >= first.rows && *at < last)
        .filter_map(|(at, row)| Some((at + 1, row.commit.as_ref()?)))
        .collect();
    let Some((rows, commit)) = pick(&moments, order.pick) else {
        return end;
    };
    match order.target {
        TargetKind::End | TargetKind::Name => end,
        TargetKind::Time => exactly(*rows, &["--target-time", &commit.time]),
        TargetKind::Lsn => exactly(*rows, &["--target-lsn", &timeline_model::lsn(commit.lsn)]),
        TargetKind::Xid => {
            let xid = commit.xid.to_string();
            exactly(*rows, &["--target-xid", &xid, "--backup", &first.id])
        }
    }
}

fn pick<T>(of: &[T], number: u64) -> Option<&T> {
    let place = number % (of.len().max(1) as u64);
    of.get(usize::try_from(place).unwrap_or(0))
}
