//! What runs in the background so that this node follows: one thing at a time.

use causeway_core::failover::observation::DataDirectoryState;
use tokio::sync::oneshot;

use crate::agent::event_loop::AgentLoop;
use crate::agent::standby::state::WorkOutcome;
use crate::agent::standby_setup::replication_settings::drop_overrides;
use crate::agent::standby_setup::{StandbySetup, StandbySetupError};

impl AgentLoop {
    pub(super) fn prepare(
        &mut self,
        follower: StandbySetup,
        directory: DataDirectoryState,
        rebuild: bool,
    ) {
        self.begin("rewinding or copying the data directory", async move {
            follower.prepare(directory, rebuild).await?;
            Ok(WorkOutcome::Prepared { rebuilt: rebuild })
        });
    }

    /// Examines a directory before it is started: WAL that the primary does not have would be left
    /// behind unseen where PostgreSQL finds the new timeline's history first.
    pub(super) fn examine_before_start(&mut self, follower: StandbySetup) {
        let data = self.host.postgres.data_directory.clone();
        self.begin("comparing with the primary's history", async move {
            let examined = match follower.examine_whole().await {
                Err(trouble @ StandbySetupError::NotSaved(_)) => return Err(trouble),
                examined => examined,
            };
            drop_overrides(&data).map_err(|error| StandbySetupError::Here(error.into()))?;
            follower
                .settle_and_raise()
                .await
                .map_err(StandbySetupError::Here)?;
            Ok(WorkOutcome::ReadyToStart(examined))
        });
        self.following.settled_for = None;
    }

    pub(super) fn examine(&mut self, follower: StandbySetup, stuck: bool) {
        self.begin("comparing with the primary's history", async move {
            let examined = follower.examine(stuck).await?;
            Ok(WorkOutcome::Compared(examined, false))
        });
        // It is no work on the node, and would hide that there is none.
        self.following.busy = None;
    }

    /// Examines a server that was started while the primary could not be asked.
    pub(super) fn examine_started(&mut self, follower: StandbySetup) {
        self.begin("comparing with the primary's history", async move {
            let examined = follower.examine_whole().await?;
            Ok(WorkOutcome::Compared(examined, true))
        });
        self.following.busy = None;
    }

    /// Looks for a setting that is too low for the primary's WAL, which pauses replay.
    pub(super) fn raise(&mut self, follower: StandbySetup) {
        self.begin("comparing settings with the primary's", async move {
            let raised = follower
                .settle_and_raise()
                .await
                .map_err(StandbySetupError::Here)?;
            Ok(WorkOutcome::SettingsRaised(!raised.is_empty()))
        });
        self.following.busy = None;
    }

    fn begin<F>(&mut self, what: &'static str, work: F)
    where
        F: Future<Output = Result<WorkOutcome, StandbySetupError>> + Send + 'static,
    {
        let (done, is_done) = oneshot::channel();
        self.following.busy = Some(what);
        self.following.done = Some(is_done);
        self.with.tasks.start("follow", |stop| async move {
            tokio::select! {
                () = stop.cancelled() => {}
                result = work => { done.send(result).ok(); }
            }
        });
    }
}
