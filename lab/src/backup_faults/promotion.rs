//! Promotions of a history: past reserved timelines, and of two servers from the same segment.

use std::fs;

use anyhow::Context as _;

use super::postgres_server::PostgresServer;
use super::runner::ScheduleRunner;
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
        let data = self.site.data();
        let signal = data.join("standby.signal");
        fs::write(&signal, "")?;
        give_to_postgres(&signal)?;
        self.server = Some(PostgresServer::start(&self.site, &data, settings).await?);
        let mut taken = self.timeline;
        for _number in 0..reserved {
            taken += 1;
            while self.branches.contains_key(&taken) {
                taken += 1;
            }
            let placeholder = data.join(format!("pg_wal/{taken:08X}.history"));
            if !placeholder.exists() {
                fs::write(&placeholder, PLACEHOLDER)?;
                give_to_postgres(&placeholder)?;
            }
        }
        let server = self.server.as_mut().context("PostgreSQL is not running")?;
        server.promote(&self.site).await?;
        let now = "SELECT timeline_id FROM pg_control_checkpoint()";
        // The control file names the new timeline after its first checkpoint.
        self.server()?.rows("CHECKPOINT").await?;
        let timeline: u32 = self.server()?.value(now).await?.parse()?;
        let history = data.join(format!("pg_wal/{timeline:08X}.history"));
        let history = fs::read_to_string(&history)
            .with_context(|| format!("timeline {timeline} has no history file"))?;
        let begun = self.branch()?.begin(timeline, &history)?;
        self.tell(format!("promoted to timeline {timeline}"));
        self.branches.insert(timeline, begun);
        self.timeline = timeline;
        self.compare().await
    }

    /// Promotes this server, and then a copy that lacks its last rows.
    pub(super) async fn promote_twice(&mut self) -> anyhow::Result<()> {
        self.stop(false).await?;
        let (data, copy) = (self.site.data(), self.site.directory.join("copy"));
        sandbox::copy(&data, &copy).await?;
        let before = (self.timeline, self.branch()?.clone());
        self.server = Some(PostgresServer::start(&self.site, &data, &[]).await?);
        self.compare().await?;
        self.write(2, 200).await?;
        self.stop(true).await?;
        self.promote(0, &[]).await?;
        self.write(2, 200).await?;
        self.archive_all().await?;
        self.stop(true).await?;
        fs::remove_dir_all(&data)?;
        fs::rename(&copy, &data)?;
        let taken = self.timeline - before.0;
        self.timeline = before.0;
        // The old timeline keeps the rows recorded before the first promotion.
        self.branches.insert(before.0, before.1);
        self.tell("the copy takes over");
        let alone = [
            ("restore_command", ""),
            ("recovery_target_timeline", "current"),
        ];
        self.promote_past(taken, &alone).await?;
        self.write(2, 200).await
    }

    /// Promotes past timelines that the first server has used.
    async fn promote_past(&mut self, taken: u32, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let data = self.site.data();
        for number in 1..=taken {
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
