//! Promotions of a history: past reserved timelines, and of two servers from the same segment.

use std::fs;

use anyhow::Context as _;

use super::postgres_server::PostgresServer;
use super::runner::{ScheduleRunner, StopMode};
use super::sandbox;
use crate::cluster::files::give_to_postgres;

/// Placeholder that the agent of `failover-ctl` writes as the history file of a timeline that it
/// reserved and did not use.
const PLACEHOLDER: &str = "# Reserved by failover-ctl: this timeline was never written.\n";

impl ScheduleRunner {
    /// Starts the stopped server as a standby of the WAL archive, and promotes it.
    pub(super) async fn promote(
        &mut self,
        reserved: u32,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let data = self.sandbox.data();
        let signal = data.join("standby.signal");
        fs::write(&signal, "")?;
        give_to_postgres(&signal)?;
        self.server = Some(PostgresServer::start(&self.sandbox, &data, settings).await?);
        let mut last_used = self.timeline;
        for _number in 0..reserved {
            last_used += 1;
            while self.branches.contains_key(&last_used) {
                last_used += 1;
            }
            let placeholder = data.join(format!("pg_wal/{last_used:08X}.history"));
            if !placeholder.exists() {
                fs::write(&placeholder, PLACEHOLDER)?;
                give_to_postgres(&placeholder)?;
            }
        }
        let server = self.server.as_mut().context("PostgreSQL is not running")?;
        server.promote(&self.sandbox).await?;
        let current_timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
        // The control file names the new timeline after its first checkpoint.
        self.server()?.query_rows("CHECKPOINT").await?;
        let timeline: u32 = self
            .server()?
            .query_value(current_timeline)
            .await?
            .parse()?;
        let history = data.join(format!("pg_wal/{timeline:08X}.history"));
        let history = fs::read_to_string(&history)
            .with_context(|| format!("timeline {timeline} has no history file"))?;
        let model = self.branch()?.fork(timeline, &history)?;
        self.record_event(format!("promoted to timeline {timeline}"));
        self.branches.insert(timeline, model);
        self.timeline = timeline;
        self.compare_rows().await
    }

    /// Promotes this server, and then a copy that lacks its last rows.
    pub(super) async fn promote_twice(&mut self) -> anyhow::Result<()> {
        self.stop_server(StopMode::FastShutdown).await?;
        let data = self.sandbox.data();
        let copy = self.sandbox.directory.join("copy");
        sandbox::copy_directory(&data, &copy).await?;
        let old_timeline = self.timeline;
        let old_branch = self.branch()?.clone();
        self.server = Some(PostgresServer::start(&self.sandbox, &data, &[]).await?);
        self.compare_rows().await?;
        self.write_rows(2, 200).await?;
        self.stop_server(StopMode::Kill).await?;
        self.promote(0, &[]).await?;
        self.write_rows(2, 200).await?;
        self.archive_all().await?;
        self.stop_server(StopMode::Kill).await?;
        fs::remove_dir_all(&data)?;
        fs::rename(&copy, &data)?;
        let used_timelines = self.timeline - old_timeline;
        self.timeline = old_timeline;
        // The old timeline keeps the rows recorded before the first promotion.
        self.branches.insert(old_timeline, old_branch);
        self.record_event("the copy takes over");
        let without_archive = [
            ("restore_command", ""),
            ("recovery_target_timeline", "current"),
        ];
        self.promote_past(used_timelines, &without_archive).await?;
        self.write_rows(2, 200).await
    }

    /// Promotes past timelines that the first server has used.
    async fn promote_past(
        &mut self,
        used_timelines: u32,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let data = self.sandbox.data();
        for number in 1..=used_timelines {
            let timeline = self.timeline + number;
            let placeholder = data.join(format!("pg_wal/{timeline:08X}.history"));
            if !placeholder.exists() {
                fs::write(&placeholder, PLACEHOLDER)?;
                give_to_postgres(&placeholder)?;
            }
        }
        self.promote(0, settings).await
    }
}
